"""The steps of a slot's move, in the old cluster and in the new one."""

from __future__ import annotations

import pytest

from synap.commands.slots import ChangeSlot, ClearSlot, decode_slot, slot_record
from synap.slots import slot_of
from tests.unit.commands.test_commands import Keys

SLOT = slot_of(b"k")
URL = "http://b:1"


@pytest.fixture
def keys() -> Keys:
    return Keys()


def step(keys: Keys, name: str, now_ms: int = 0, **more: object) -> bool:
    return keys.run(ChangeSlot(SLOT, name, **more), now_ms)


def state(keys: Keys) -> str:
    record = keys.accounts.get(slot_record(SLOT))
    return "" if record is None else decode_slot(record.value).state


def test_slot_is_given_while_its_writes_are_held_back(keys):
    assert step(keys, "freeze", 100, milliseconds=50)
    assert step(keys, "give", 149, cluster="b", url=URL)
    record = decode_slot(keys.accounts[slot_record(SLOT)].value)
    assert (record.state, record.cluster, record.url) == ("given", "b", URL)


@pytest.mark.parametrize("now_ms", [150, 9000])
def test_slot_is_not_given_when_writes_went_on(keys, now_ms):
    step(keys, "freeze", 100, milliseconds=50)
    assert not step(keys, "give", now_ms, cluster="b", url=URL)
    assert state(keys) == "moving"


def test_slot_that_nobody_froze_is_not_given(keys):
    assert not step(keys, "give", 1, cluster="b", url=URL)
    assert not step(keys, "take", 1)


def test_given_slot_is_frozen_and_taken_no_more(keys):
    step(keys, "freeze", 1, milliseconds=50)
    step(keys, "give", 2, cluster="b", url=URL)
    assert [step(keys, each, 3) for each in ("freeze", "thaw", "take")] == [False] * 3


def test_slot_comes_and_is_taken_by_steps_that_may_be_said_again(keys):
    assert [step(keys, each) for each in ("come", "come", "take", "take")] == [True] * 4
    assert state(keys) == "taken"
    assert not step(keys, "drop")


def test_slot_that_was_given_and_comes_back_in_vain_stays_given(keys):
    step(keys, "freeze", 1, milliseconds=50)
    step(keys, "give", 2, cluster="b", url=URL)
    assert step(keys, "come", 3)
    assert step(keys, "drop", 4)
    assert state(keys) == "given"


def test_slot_that_was_taken_is_still_after_a_freeze(keys):
    step(keys, "come")
    step(keys, "take")
    step(keys, "freeze", 5, milliseconds=50)
    assert step(keys, "thaw", 6)
    assert state(keys) == "taken"


def test_clear_removes_keys_of_a_slot_that_is_not_here_and_no_others(keys):
    keys.put(b"k", b"1", 0)
    keys.put(b"other", b"2", 0)
    assert keys.run(ClearSlot(SLOT, (b"k",))) == 0
    step(keys, "come")
    assert keys.run(ClearSlot(SLOT, (b"k", b"other", b"k{k}"))) == 1
    assert keys.get(b"k") is None
    assert keys.get(b"other") is not None
