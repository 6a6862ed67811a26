"""Whether what a master hears ends its reign."""

from __future__ import annotations

import pytest

from synap.position import Lineage, Reign
from synap.replication.reigns import epoch_above

FIRST = Reign(1, b"a" * 16, 1)
SECOND = Reign(2, b"b" * 16, 10)
RIVAL = Reign(2, b"c" * 16, 8)
FOREIGN = Reign(9, b"f" * 16, 1)


@pytest.mark.parametrize(
    ("heard", "own", "from_master", "expected"),
    [
        ((FIRST, SECOND), (FIRST,), False, 2),
        ((FIRST, SECOND), (FIRST,), True, 2),
        ((FIRST, SECOND), (FIRST, SECOND), False, 0),
        ((FIRST, SECOND), (FIRST, SECOND), True, 0),
        ((FIRST,), (FIRST, SECOND), True, 0),
        ((FIRST, RIVAL), (FIRST, SECOND), False, 0),
        ((FIRST, RIVAL), (FIRST, SECOND), True, 2),
        ((FOREIGN,), (FIRST,), True, 0),
        ((), (FIRST,), False, 0),
    ],
)
def test_reign_is_ended_by_a_higher_epoch_of_the_same_origin(
    heard: Lineage, own: Lineage, from_master: bool, expected: int
) -> None:
    """E2, E3."""
    assert epoch_above(heard, own, from_master=from_master) == expected
