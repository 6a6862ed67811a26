"""The command that moves a slot between clusters, a step at a time.

What a cluster knows of a slot beside the configuration is a record among the accounts, which go
where data goes, so that a fail-over changes nothing about it:

    key            value, as JSON
    slot/<number>  SlotRecord

    MOVING   the old cluster takes no writes of the slot, until a THAW is logged
    GIVEN    the old cluster has given it away
    COMING   the new cluster gets its keys, and serves them to nobody yet
    TAKEN    the new cluster has it

No step is decided by a clock. A freeze is named by its place in the log, and ends by an entry of
its own (`synap.writer.slot_guard` logs one when its time is over), which stands before any write
that comes after it. So who gives a slot by the place of its freeze knows that nothing was written
since, on whatever node the log is by then. The new cluster is told the same place when it has all
keys up to there, and takes the slot by that alone: a fail-over that lost some of them has lost that
as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from synap.commands.keyspace import (
    COMMAND_BYTES,
    BaseCommand,
    Keyspace,
    Limits,
    Need,
    has_version,
)
from synap.commands.records import Record, is_live
from synap.commands.request_records import decode_record
from synap.place import Place
from synap.slots import slot_of

State = Literal["moving", "given", "coming", "taken"]
Step = Literal["freeze", "thaw", "give", "come", "fill", "take", "drop"]
RECORDS = b"slot/"
# Nobody freezes a slot for longer: writes are away for a moment, not for a pause that is forgotten.
MAX_FREEZE_MS = 10_000
# No log comes so far: whoever writes there is who writes now.
_NEXT_OFFSET = 2**64 - 1


class SlotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster knows of a slot.

    Attributes:
        state: See the module.
        until_ms: Of MOVING, about when writes are taken again. For people; nothing goes by it.
        milliseconds: Of MOVING, how long the log's owner lets it stand, from when it learns of it.
        freeze: A place in the old cluster's log: of GIVEN, of the freeze by which it was given; of
            COMING and TAKEN, up to where all its keys are here, empty where they are not.
        cluster: Of GIVEN, whom it was given to; of COMING, where it was GIVEN before.
        url: Where that is.
        was_taken: Of MOVING, whether it was TAKEN before.
        is_cleared: Of GIVEN, whether keys of it were removed since.
    """

    state: State
    until_ms: int = 0
    milliseconds: int = MAX_FREEZE_MS
    freeze: str = ""
    cluster: str = ""
    url: str = ""
    was_taken: bool = False
    is_cleared: bool = False


decode_slot = msgspec.json.Decoder(SlotRecord).decode
_encode_slot = msgspec.json.Encoder().encode


def slot_record(slot: int) -> bytes:
    """Return the record's key."""
    return b"%s%d" % (RECORDS, slot)


class ChangeSlot(BaseCommand, frozen=True, tag=36):
    """Take a step; the result is False, and nothing changes, where it does not follow.

    Each step may be said again after it was taken.

    Attributes:
        slot: Its number.
        step: `freeze` begins MOVING, or begins it anew; `thaw` ends it, and `give` ends it by
            GIVEN. `come` begins COMING, or begins it anew; `fill` says that all keys are here,
            `take` ends it by TAKEN, `drop` by nothing.
        milliseconds: How long a freeze lasts.
        cluster: Whom it is given to.
        url: Where that is.
        freeze: Of `give`, the place of the freeze that it ends; of `fill` and `take`, the same
            place, in the old cluster's log.
        come: Of `fill`, the place of the `come` since which the keys were written here; of `take`,
            that of the `fill` since which the records of requests were, which come last.
    """

    slot: int
    step: Step
    milliseconds: int = 0
    cluster: str = ""
    url: str = ""
    freeze: Place | None = None
    come: Place | None = None

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        key = slot_record(self.slot)
        stored = keyspace.get_account(key)
        before = None if stored is None else decode_slot(stored.value)
        if not self._follows(keyspace, stored, before):
            return False
        after = self._after(before, now_ms)
        if after is None:
            keyspace.remove_account(key)
        # What is said anew has a place of its own, by which nobody goes on who began before.
        elif after != before or self.step in ("freeze", "come", "fill"):
            keyspace.put_account(key, _encode_slot(after))
        return True

    def _follows(
        self, keyspace: Keyspace, stored: Record | None, before: SlotRecord | None
    ) -> bool:
        state = None if before is None else before.state
        known_freeze = "" if before is None else before.freeze
        if self.step in ("freeze", "thaw"):
            return state in (None, "moving", "taken")
        if self.step == "give":
            if state == "given":
                return self._names(known_freeze) and self._is_giver(before)
            return state == "moving" and _stands(keyspace, stored, self.freeze)
        if self.step == "fill":
            is_whole = state == "coming" and self._names(known_freeze)
            return is_whole or (state == "coming" and self._has_all(keyspace, stored))
        if self.step == "take":
            if state == "taken":
                return self._names(known_freeze)
            return state == "coming" and self._names(known_freeze) and self._is_same_reign(keyspace)
        return state in ((None, "coming", "given") if self.step == "come" else (None, "coming"))

    def _names(self, freeze: str) -> bool:
        return self.freeze is not None and str(self.freeze) == freeze

    def _is_giver(self, before: SlotRecord | None) -> bool:
        return before is not None and before.cluster == self.cluster

    def _has_all(self, keyspace: Keyspace, stored: Record | None) -> bool:
        """Say whether whatever was written here since `come` still is.

        A reign that has begun since may lack some of it.
        """
        if self.freeze is None or not self._is_same_reign(keyspace):
            return False
        return _stands(keyspace, stored, self.come)

    def _is_same_reign(self, keyspace: Keyspace) -> bool:
        return self.come is not None and keyspace.tag_of(_NEXT_OFFSET) == self.come.tag

    def _after(self, before: SlotRecord | None, now_ms: int) -> SlotRecord | None:
        was = before or SlotRecord(state="coming")
        step, freeze = self.step, "" if self.freeze is None else str(self.freeze)
        if step == "freeze":
            return SlotRecord(
                state="moving", until_ms=now_ms + self.milliseconds,
                milliseconds=self.milliseconds, was_taken=was.state == "taken" or was.was_taken,
            )  # fmt: skip
        if step == "give":
            if was.state == "given":
                return was
            return SlotRecord(state="given", freeze=freeze, cluster=self.cluster, url=self.url)
        if step == "come":
            return SlotRecord(state="coming", cluster=was.cluster, url=was.url)
        if step == "fill":
            return SlotRecord(state="coming", freeze=freeze, cluster=was.cluster, url=was.url)
        if step == "take":
            return SlotRecord(state="taken", freeze=freeze)
        if step == "thaw" and (was.state == "taken" or was.was_taken):
            return was if was.state == "taken" else SlotRecord(state="taken")
        if step == "drop" and was.cluster:
            return SlotRecord(state="given", cluster=was.cluster, url=was.url, is_cleared=True)
        return None

    def needs(self) -> Iterable[Need]:
        return (("admin", b"node:slots"),)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.cluster) + len(self.url)


def _stands(keyspace: Keyspace, stored: Record | None, wanted: Place | None) -> bool:
    """Say whether a record is the one that was written at a place."""
    return stored is not None and wanted is not None and has_version(keyspace, stored, wanted)


class BringRequests(BaseCommand, frozen=True, tag=38):
    """Remember requests that were done where the slot was before; the result is their number.

    Where a request of the same name is remembered here, that stays: either it is the same one, or
    the other is refused when it comes again, as one whose name another has.

    Attributes:
        slot: Its number. It is COMING; else nothing is done.
        records: Keys, values and deadlines, as they were there; those of other slots are left out.
    """

    slot: int
    records: tuple[tuple[bytes, bytes, int], ...]

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        stored = keyspace.get_account(slot_record(self.slot))
        if stored is None or decode_slot(stored.value).state != "coming":
            return 0
        brought = 0
        for key, value, expiry_ms in self.records:
            record = decode_record(value)
            if record is None or record.slot != self.slot or now_ms >= expiry_ms:
                continue
            if is_live(keyspace.get_request(key), now_ms):
                continue
            told = msgspec.structs.replace(record, was_brought=True).encoded()
            if not brought:
                # Twice: what a request's answer takes for its effect is the entry before its
                # record, and that must not be an entry of a key.
                keyspace.put_request(key, told, expiry_ms)
            keyspace.put_request(key, told, expiry_ms)
            brought += 1
        return brought

    def needs(self) -> Iterable[Need]:
        return (("admin", b"node:slots"),)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + sum(len(key) + len(value) for key, value, _ in self.records)


class ClearSlot(BaseCommand, frozen=True, tag=37):
    """Remove keys of a slot that is not this cluster's, or not yet; the result is their number.

    Attributes:
        slot: Its number.
        keys: Some of its keys; none of another slot is removed.
    """

    slot: int
    keys: tuple[bytes, ...]

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        name = slot_record(self.slot)
        stored = keyspace.get_account(name)
        record = None if stored is None else decode_slot(stored.value)
        if record is None or record.state not in ("given", "coming"):
            return 0
        found = [key for key in self.keys if slot_of(key) == self.slot and keyspace.get(key)]
        for key in found:
            keyspace.remove(key)
        if found and record.state == "given" and not record.is_cleared:
            keyspace.put_account(
                name, _encode_slot(msgspec.structs.replace(record, is_cleared=True))
            )
        return len(found)

    def needs(self) -> Iterable[Need]:
        return (("admin", b"node:slots"),)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + sum(map(len, self.keys))
