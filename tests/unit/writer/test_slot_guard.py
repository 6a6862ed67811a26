"""Writes of a slot that moves, at the log's owner."""

from __future__ import annotations

import msgspec
import pytest

from synap.commands.keys import Delete, Flush
from synap.commands.records import Record
from synap.commands.slots import ChangeSlot, SlotRecord, slot_record
from synap.commands.strings import Set
from synap.slots import slot_of
from synap.writer.slot_guard import SlotGuard

SLOT = slot_of(b"k")
WRITES = [Set(b"k", b"v"), Delete((b"x", b"k")), Set(b"y{k}", b"v")]


def record_of(state: str, until_ms: int = 100) -> Record:
    return Record(1, 0, msgspec.json.encode(SlotRecord(state=state, until_ms=until_ms)))


@pytest.mark.parametrize("state", ["moving", "given"])
@pytest.mark.parametrize("command", WRITES)
def test_write_of_a_closed_slot_is_refused_in_time_and_others_are_not(state, command):
    guard = SlotGuard()
    guard.read([(slot_record(SLOT), record_of(state))])
    assert guard.refusal([command], 99) is not None
    assert guard.refusal([command], 100) is None
    assert guard.refusal([Set(b"other", b"v")], 99) is None


@pytest.mark.parametrize(("state", "is_refused"), [("moving", True), ("given", False)])
def test_flush_waits_for_slots_that_move_whatever_their_number(state, is_refused):
    # Their keys are copied already, and would be there again at the new cluster.
    guard = SlotGuard()
    guard.read([(slot_record(SLOT), record_of(state))])
    assert (guard.refusal([Flush()], 99) is not None) == is_refused
    assert guard.refusal([Flush()], 100) is None


def test_steps_of_the_move_itself_go_on():
    guard = SlotGuard()
    guard.note(SLOT, record_of("moving"))
    assert guard.refusal([ChangeSlot(SLOT, "give")], 99) is None


def test_slot_that_is_open_again_costs_nothing():
    guard = SlotGuard()
    for after in (None, record_of("taken"), record_of("coming")):
        guard.note(SLOT, record_of("moving"))
        guard.note(SLOT, after)
        assert not guard.closed
    guard.note(SLOT, record_of("given"))
    guard.forget_old(100)
    assert not guard.closed
