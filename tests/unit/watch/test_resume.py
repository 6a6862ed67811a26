"""Whether the log goes on from a place."""

from __future__ import annotations

import pytest

from synap.place import Place, Reigns
from synap.position import Position, Reign
from synap.watch.resume import COMPACTED, DIVERGED, Reset, reset_for

A, B = (bytes.fromhex(tag) + bytes(12) for tag in ("aaaaaaaa", "bbbbbbbb"))
# The first reign lost what it wrote after 100.
REIGNS = Reigns((Reign(1, A, 1), Reign(2, B, 101)))
END = Position(2, 130, 7)


@pytest.mark.parametrize(
    ("offset", "tag", "first_offset"),
    [(0, "00000000", 1), (100, "aaaaaaaa", 1), (101, "bbbbbbbb", 1), (130, "bbbbbbbb", 1),
     (50, "aaaaaaaa", 51), (130, "bbbbbbbb", 131)],
)  # fmt: skip
def test_log_goes_on_from_its_own_places(offset: int, tag: str, first_offset: int) -> None:
    assert reset_for(Place(offset, tag), REIGNS, END, first_offset) is None


@pytest.mark.parametrize(("offset", "tag"), [(49, "aaaaaaaa"), (0, "00000000")])
def test_place_before_the_log_is_compacted(offset: int, tag: str) -> None:
    found = reset_for(Place(offset, tag), REIGNS, END, 51)
    assert found == Reset(COMPACTED, 50, offset)


@pytest.mark.parametrize(
    ("offset", "tag", "common"),
    [(105, "aaaaaaaa", 100), (101, "aaaaaaaa", 100), (120, "cccccccc", None), (7, "bbbbbbbb", None),
     (140, "bbbbbbbb", 130)],
)  # fmt: skip
def test_place_of_another_log_is_diverged(offset: int, tag: str, common: int | None) -> None:
    assert reset_for(Place(offset, tag), REIGNS, END, 1) == Reset(DIVERGED, 0, common)
