"""What `synap history` makes of a lineage and of the segments that are there."""

from __future__ import annotations

from synap.node.past import past_of
from synap.position import UNASKED, Reign
from synap.wal.segment import SegmentHeader
from workers.cli.history import _line

FIRST, CRASH, LAST = bytes([1]) * 16, UNASKED + bytes([2]) * 12, bytes([3]) * 16
LINEAGE = (Reign(1, FIRST, 1), Reign(2, CRASH, 8), Reign(4, LAST, 8))
HEADERS = [
    SegmentHeader(LAST, 4, 8, 1, 0, 1_800_000_000_000),
    SegmentHeader(LAST, 4, 90, 4, 0, 1_800_000_900_000),
]


def test_reigns_are_told_with_what_each_wrote_and_when_it_began() -> None:
    found = past_of(LINEAGE, HEADERS)
    assert [(each.epoch, each.entries, each.began_ms) for each in found] == [
        (1, 7, None), (2, 0, None), (4, None, 1_800_000_000_000),
    ]  # fmt: skip


def test_reign_that_a_master_began_by_itself_is_told_from_a_promotion() -> None:
    first, crash, last = (each.cause for each in past_of(LINEAGE, []))
    assert (first, last) == ("a new node, or a restore", "a promotion, or a restore")
    assert "after a crash" in crash


def test_line_of_a_reign_names_number_moment_and_offset() -> None:
    assert _line(past_of(LINEAGE, HEADERS)[2]).startswith(
        "4  2027-01-15T08:00:00.000Z  from offset 8, goes on"
    )


def test_node_that_never_synced_has_no_past() -> None:
    assert past_of((), []) == []
