"""Writes of a slot that moves, at the log's owner."""

from __future__ import annotations

import msgspec
import pytest

from synap.commands.keys import Delete, Flush
from synap.commands.records import Record
from synap.commands.slots import ChangeSlot, SlotRecord, slot_record
from synap.commands.strings import Set
from synap.slots import slot_of
from synap.writer.slot_guard import LATE_WRITES_SECONDS, SlotGuard
from tests.unit.commands.test_commands import Keys

SLOT = slot_of(b"k")
WRITES = [Set(b"k", b"v"), Delete((b"x", b"k")), Set(b"y{k}", b"v")]


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> SlotGuard:
    return SlotGuard(clock)


def record_of(state: str, milliseconds: int = 3000) -> Record:
    return Record(1, 0, msgspec.json.encode(SlotRecord(state=state, milliseconds=milliseconds)))


@pytest.mark.parametrize("command", WRITES)
def test_write_of_a_slot_that_moves_is_refused_until_the_log_says_it_is_over(guard, clock, command):
    """Its time alone opens nothing: what is given by this freeze must not miss a write."""
    guard.read([(slot_record(SLOT), record_of("moving"))])
    for seconds in (0, 3, 1e9):
        clock.seconds += seconds
        guard.forget_old()
        assert guard.refusal([command]) is not None
    assert guard.refusal([Set(b"other", b"v")]) is None


@pytest.mark.parametrize("command", WRITES)
def test_late_write_of_a_given_slot_is_refused(guard, clock, command):
    guard.read([(slot_record(SLOT), record_of("given"))])
    clock.seconds += LATE_WRITES_SECONDS - 1
    guard.forget_old()
    assert guard.refusal([command]) is not None
    assert guard.refusal([Set(b"other", b"v")]) is None


@pytest.mark.parametrize(("state", "is_refused"), [("moving", True), ("given", False)])
def test_flush_waits_for_slots_that_move_whatever_their_number(guard, state, is_refused):
    # Their keys are copied already, and would be there again at the new cluster.
    guard.read([(slot_record(SLOT), record_of(state))])
    assert (guard.refusal([Flush()]) is not None) == is_refused


def test_freeze_is_ended_in_the_log_when_its_time_is_over(guard, clock):
    keys = Keys()
    keys.run(ChangeSlot(SLOT, "freeze", 3000))
    guard.note(SLOT, keys.get_account(slot_record(SLOT)))
    clock.seconds += 2.9
    assert not guard.has_lapsed
    clock.seconds += 0.1
    assert guard.has_lapsed
    guard.thaw_lapsed(keys, 0)
    assert not keys.accounts
    assert not guard.closed
    assert not guard.has_lapsed


def test_steps_of_the_move_itself_go_on(guard):
    guard.note(SLOT, record_of("moving"))
    assert guard.refusal([ChangeSlot(SLOT, "give")]) is None


def test_slot_that_is_open_again_costs_nothing(guard, clock):
    for after in (None, record_of("taken"), record_of("coming")):
        guard.note(SLOT, record_of("moving"))
        guard.note(SLOT, after)
        assert not guard.closed
    guard.note(SLOT, record_of("given"))
    clock.seconds += LATE_WRITES_SECONDS
    guard.forget_old()
    assert not guard.closed
