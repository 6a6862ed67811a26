"""What one request may do with keys, by their slots."""

from __future__ import annotations

import pytest

from synap.auth.permissions import ROLES, TRUSTED, Caller
from synap.commands.keys import Delete, Flush, Rename
from synap.commands.strings import Set
from synap.errors import SlotElsewhere, SlotMoving
from synap.request_errors import CrossSlot, Forbidden, KeyMismatch
from synap.service.slot_table import SlotRule
from synap.slots import slot_of

HERE, MOVING, AWAY = b"{here}k", b"{moving}k", b"{away}k"


class Table:
    """A cluster that has all slots but one, of which another one moves; notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def require(self, slot: int, *, writes: bool) -> None:
        self.asked.append((slot, writes))
        if slot == slot_of(AWAY):
            raise SlotElsewhere(slot, "b", "http://b:1")
        if writes and slot == slot_of(MOVING):
            raise SlotMoving


CALLER = TRUSTED.bound(SlotRule(Table()))


def test_keys_that_are_here_are_read_and_written():
    table = Table()
    caller = TRUSTED.bound(SlotRule(table))
    caller.require_read(HERE)
    caller.require_for(Set(HERE, b"v"))
    caller.require_read(MOVING)
    here = slot_of(HERE)
    assert table.asked == [(here, False), (here, True), (slot_of(MOVING), False)]


def test_key_of_another_cluster_is_refused_with_its_url():
    with pytest.raises(SlotElsewhere) as refused:
        CALLER.require_for(Set(AWAY, b"v"))
    assert (refused.value.cluster, refused.value.url) == ("b", "http://b:1")
    with pytest.raises(SlotElsewhere):
        CALLER.require_read(AWAY)


def test_key_of_a_slot_that_moves_is_not_written():
    with pytest.raises(SlotMoving):
        CALLER.require_for(Delete((MOVING,)))


@pytest.mark.parametrize("command", [Delete((HERE, b"other")), Rename(HERE, b"other")])
def test_keys_of_several_tags_are_refused_by_name(command):
    with pytest.raises(CrossSlot, match=r"'{here}k' and 'other'"):
        CALLER.require_for(command)


def test_keys_of_one_tag_go_together():
    CALLER.require_for(Rename(HERE, b"another of {here}"))
    CALLER.require_together([HERE, b"{here}2"])
    with pytest.raises(CrossSlot):
        CALLER.require_together([HERE, b"x"])


def test_what_is_about_all_keys_is_of_the_cluster():
    CALLER.require_for(Flush())
    CALLER.require_for_all_keys("read")
    # A key of that name is one like others.
    with pytest.raises(SlotElsewhere):
        TRUSTED.bound(SlotRule(Everywhere())).require_read(b"*")


class Everywhere(Table):
    def require(self, slot: int, *, writes: bool) -> None:
        raise SlotElsewhere(slot, "b", "http://b:1")


def test_key_that_the_request_named_is_held_against_it():
    named = TRUSTED.bound(SlotRule(None, tag=b"here"))
    named.require_read(HERE)
    named.require_for(Set(b"{here}other", b"v"))
    with pytest.raises(KeyMismatch, match="'other'"):
        named.require_for(Set(b"other", b"v"))


def test_request_that_moves_a_slot_may_use_that_one_alone():
    mover = TRUSTED.bound(SlotRule(Table(), moved_slot=slot_of(AWAY)))
    mover.require_for(Delete((AWAY, b"{away}2")))
    with pytest.raises(CrossSlot):
        mover.require_for(Delete((AWAY, HERE)))


def test_bound_caller_may_no_more_than_before_and_strangers_learn_no_owner():
    reader = Caller("ann", ROLES["readonly"]).bound(SlotRule(Table()))
    reader.require_read(HERE)
    with pytest.raises(Forbidden):
        reader.require_for(Set(AWAY, b"v"))
    assert not TRUSTED.is_limited
