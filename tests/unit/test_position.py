"""What can't be so in a manifest that somebody else may have written."""

from __future__ import annotations

import pytest

from synap.position import MOST_REIGNS, START, Lineage, Position, Reign, manifest_faults

HISTORY = bytes(16)
ONE, TWO = Reign(1, HISTORY, 1), Reign(2, HISTORY, 5)


def test_manifest_of_a_node_has_no_faults() -> None:
    assert manifest_faults((ONE, TWO), Position(2, 9, 7), time_ms=5, keys=0) == []
    assert manifest_faults((), START) == []
    # The newer reign wrote nothing up to there.
    assert manifest_faults((ONE, TWO), Position(1, 4, 7)) == []


@pytest.mark.parametrize(
    ("lineage", "position", "words"),
    [
        ((ONE,) * (MOST_REIGNS + 1), START, "lineage has 10001 reigns"),
        ((TWO, ONE), START, "lineage has 1:"),
        ((ONE, Reign(2, HISTORY, 0)), START, "lineage has 2:"),
        ((ONE,), Position(3, 4, 7), "no reign of epoch 3"),
        ((ONE,), Position(1, -4, 7), "position is 1/-4"),
        ((ONE,), Position(1, 4, 2**64), "more than 64 bits"),
    ],
)
def test_manifest_that_lies_is_told_by_field(
    lineage: Lineage, position: Position, words: str
) -> None:
    assert any(words in fault for fault in manifest_faults(lineage, position))


@pytest.mark.parametrize("value", [-1, 2**63])
def test_number_that_nothing_has_is_told_by_field(value: int) -> None:
    (fault,) = manifest_faults((ONE,), Position(1, 4, 7), time_ms=value)
    assert fault.startswith(f"time_ms is {value}, ")
