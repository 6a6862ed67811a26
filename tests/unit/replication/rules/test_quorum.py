"""When a quorum is reached, and what becomes of what waits for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.position import Reign
from synap.replication.rules.quorum import Waiting, counts, held_offset

LINEAGE = (Reign(1, b"a" * 16, 1), Reign(3, b"b" * 16, 11), Reign(4, b"c" * 16, 21))


@pytest.mark.parametrize(
    ("offset", "epoch", "expected"),
    [
        (0, 0, False),
        (1, 1, False),
        (10, 1, False),
        (10, 3, False),
        (11, 3, False),
        (20, 4, False),
        (21, 4, True),
        (500, 4, True),
        (500, 5, False),
    ],
)
def test_ack_counts_where_its_entry_is_of_the_present_reign(
    offset: int, epoch: int, expected: bool
) -> None:
    """Q2."""
    assert counts(offset, epoch, LINEAGE) is expected


def test_ack_to_a_master_without_a_reign_does_not_count() -> None:
    assert not counts(5, 1, ())


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 9))
def test_held_offset_is_the_last_that_so_many_replicas_have(
    offsets: list[int], replicas: int
) -> None:
    """Q1."""
    held = held_offset(offsets, replicas)
    if held:
        assert sum(offset >= held for offset in offsets) >= replicas
    assert sum(offset > held for offset in offsets) < replicas


def test_waiting_gives_out_what_is_held_in_order() -> None:
    waiting: Waiting[str] = Waiting()
    for offset, name in ((1, "a"), (2, "b"), (2, "c"), (3, "d")):
        waiting.add(1, offset, 10.0, name)
    assert waiting.take_held(1, 2) == ["a", "b", "c"]
    assert len(waiting) == 1


def test_waiting_for_more_replicas_does_not_hold_up_the_others() -> None:
    waiting: Waiting[str] = Waiting()
    waiting.add(2, 1, 10.0, "two")
    waiting.add(1, 2, 10.0, "one")
    assert waiting.take_held(1, 5) == ["one"]
    assert waiting.numbers() == [2]


def test_waiting_gives_out_what_is_late_and_no_more() -> None:
    waiting: Waiting[str] = Waiting()
    waiting.add(1, 1, 5.0, "early")
    waiting.add(2, 1, 6.0, "next")
    waiting.add(1, 2, 7.0, "late")
    assert waiting.next_deadline() == 5.0
    assert sorted(waiting.take_late(6.0)) == ["early", "next"]
    assert waiting.next_deadline() == 7.0
    assert waiting.take_all() == ["late"]
    assert (len(waiting), waiting.next_deadline()) == (0, None)
