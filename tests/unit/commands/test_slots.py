"""The steps of a slot's move, in the old cluster and in the new one."""

from __future__ import annotations

import pytest

from synap.commands.once import encode_result, replayed
from synap.commands.request_records import FORM, RequestRecord, decode_record
from synap.commands.slots import (
    BringRequests,
    ChangeSlot,
    ClearSlot,
    SlotRecord,
    decode_slot,
    slot_record,
)
from synap.commands.strings import SetResult
from synap.place import UNKNOWN_TAG, Place
from synap.slots import slot_of
from tests.unit.commands.test_commands import OTHER_TAG, TAG, Keys

SLOT = slot_of(b"k")
URL = "http://b:1"


@pytest.fixture
def keys() -> Keys:
    return Keys()


def step(keys: Keys, name: str, now_ms: int = 0, **more: object) -> bool:
    return keys.run(ChangeSlot(SLOT, name, **more), now_ms)


def place_of(keys: Keys) -> Place:
    """Return the place of the step that was taken last."""
    return Place(keys.accounts[slot_record(SLOT)].version, keys.tag_of(0))


def begin(keys: Keys, name: str, now_ms: int = 0) -> Place:
    """Take a step that has a place; return that."""
    assert step(keys, name, now_ms, milliseconds=50)
    return place_of(keys)


def give(keys: Keys, freeze: Place | None, cluster: str = "b") -> bool:
    return step(keys, "give", cluster=cluster, url=URL, freeze=freeze)


def record(keys: Keys) -> SlotRecord | None:
    stored = keys.accounts.get(slot_record(SLOT))
    return None if stored is None else decode_slot(stored.value)


def state(keys: Keys) -> str:
    found = record(keys)
    return "" if found is None else found.state


def test_slot_is_given_by_the_place_of_its_freeze_whatever_the_clock_says(keys):
    freeze = begin(keys, "freeze", 100)
    assert step(keys, "give", 10**15, cluster="b", url=URL, freeze=freeze)
    given = record(keys)
    assert (given.state, given.cluster, given.url) == ("given", "b", URL)
    assert given.freeze == str(freeze)


def test_slot_is_not_given_by_a_freeze_that_ended(keys):
    """Its clock may have been set back since, and a write done between."""
    freeze = begin(keys, "freeze", 100)
    step(keys, "thaw", 200)
    assert not give(keys, freeze)
    begin(keys, "freeze", 0)
    assert not give(keys, freeze)
    assert state(keys) == "moving"


@pytest.mark.parametrize("tag", [OTHER_TAG, UNKNOWN_TAG])
def test_slot_is_not_given_by_the_freeze_of_another_reign(keys, tag):
    freeze = begin(keys, "freeze")
    assert not give(keys, Place(freeze.offset, tag))
    assert not give(keys, None)


def test_slot_that_nobody_froze_is_not_given(keys):
    assert not give(keys, Place(101, TAG))


def test_slot_is_given_again_to_the_same_cluster_alone(keys):
    freeze = begin(keys, "freeze")
    assert [give(keys, freeze), give(keys, freeze)] == [True, True]
    assert not give(keys, freeze, "c")
    assert not give(keys, Place(7, TAG))
    assert [step(keys, each) for each in ("freeze", "thaw", "take")] == [False] * 3


def test_slot_is_taken_where_all_its_keys_are_here_up_to_the_freeze(keys):
    freeze, came = Place(7, OTHER_TAG), begin(keys, "come")
    assert not step(keys, "take", freeze=freeze)
    assert step(keys, "fill", come=came, freeze=freeze)
    assert not step(keys, "take", freeze=Place(8, OTHER_TAG))
    assert not step(keys, "take")
    assert not step(keys, "take", freeze=freeze)
    assert not step(keys, "take", freeze=freeze, come=Place(9, OTHER_TAG))
    steps = [("fill", came), ("take", came), ("take", None)]
    assert [step(keys, name, come=place, freeze=freeze) for name, place in steps] == [True] * 3
    assert state(keys) == "taken"
    assert not step(keys, "drop")


def test_slot_is_not_whole_where_it_came_anew_or_a_reign_has_begun_since(keys, monkeypatch):
    freeze, came = Place(7, OTHER_TAG), begin(keys, "come")
    again = begin(keys, "come")
    assert not step(keys, "fill", come=came, freeze=freeze)
    assert not step(keys, "fill", freeze=freeze)
    written_at = again.offset
    monkeypatch.setattr(keys, "tag_of", lambda at: TAG if at <= written_at else OTHER_TAG)
    assert not step(keys, "fill", come=again, freeze=freeze)
    assert not step(keys, "take", freeze=freeze, come=again)


def test_slot_that_was_given_and_comes_back_in_vain_stays_given(keys):
    give(keys, begin(keys, "freeze"))
    assert step(keys, "come", 3)
    assert step(keys, "drop", 4)
    assert state(keys) == "given"


def test_slot_that_was_taken_is_still_after_a_freeze(keys):
    freeze, came = Place(7, OTHER_TAG), begin(keys, "come")
    step(keys, "fill", come=came, freeze=freeze)
    step(keys, "take", freeze=freeze, come=came)
    begin(keys, "freeze")
    assert [step(keys, "thaw"), step(keys, "thaw")] == [True, True]
    assert state(keys) == "taken"


def test_clear_removes_keys_of_a_slot_that_is_not_here_and_no_others(keys):
    keys.put(b"k", b"1", 0)
    keys.put(b"other", b"2", 0)
    assert keys.run(ClearSlot(SLOT, (b"k",))) == 0
    step(keys, "come")
    assert keys.run(ClearSlot(SLOT, (b"k", b"other", b"k{k}"))) == 1
    assert keys.get(b"k") is None
    assert keys.get(b"other") is not None


def test_given_slot_remembers_that_its_keys_were_removed(keys):
    keys.put(b"k", b"1", 0)
    give(keys, begin(keys, "freeze"))
    assert not record(keys).is_cleared
    keys.run(ClearSlot(SLOT, (b"k",)))
    assert record(keys).is_cleared


def request_record(slot: int = SLOT, result: object = None) -> bytes:
    told = encode_result(SetResult(True, 7)) if result is None else encode_result(result)
    return RequestRecord(FORM, b"f" * 16, "", 1, True, told, slot).encoded()


def test_requests_of_a_slot_are_remembered_where_it_comes(keys):
    bring = BringRequests(SLOT, ((b"r1", request_record(), 90), (b"r2", request_record(1), 90)))
    assert keys.run(bring, 80) == 0
    step(keys, "come")
    assert [keys.run(bring, 80), keys.run(bring, 80)] == [1, 0]
    assert keys.requests.keys() == {b"r1"}
    stored = keys.requests[b"r1"]
    told = replayed(decode_record(stored.value), stored.version)
    assert (told.result, stored.expiry_ms) == (SetResult(True, stored.version), 90)


def test_entry_before_a_remembered_request_is_no_key_s(keys):
    """Its offset is told as the version that the request made."""
    step(keys, "come")
    version = keys.put(b"k", b"v", 0)
    keys.run(BringRequests(SLOT, ((b"r1", request_record(), 90),)), 80)
    assert keys.requests[b"r1"].version - 1 > version


def test_requests_that_are_over_or_not_known_or_known_here_are_left_out(keys):
    step(keys, "come")
    keys.put_request(b"here", b"mine", 90)
    records = ((b"over", request_record(), 80), (b"odd", b"?", 90), (b"here", request_record(), 90))
    assert keys.run(BringRequests(SLOT, records), 80) == 0
    assert keys.requests[b"here"].value == b"mine"
