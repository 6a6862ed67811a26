"""The command that moves a slot between clusters, a step at a time.

What a cluster knows of a slot beside the configuration is a record among the accounts, which go
where data goes, so that a fail-over changes nothing about it:

    key            value, as JSON
    slot/<number>  SlotRecord

    MOVING   the old cluster takes no writes of the slot, for a few seconds at most
    GIVEN    the old cluster has given it away
    COMING   the new cluster gets its keys, and serves them to nobody yet
    TAKEN    the new cluster has it
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from synap.commands.keyspace import COMMAND_BYTES, BaseCommand, Keyspace, Limits, Need
from synap.slots import slot_of

State = Literal["moving", "given", "coming", "taken"]
Step = Literal["freeze", "thaw", "give", "come", "take", "drop"]
RECORDS = b"slot/"
# A write that a worker let pass before a slot was given is at the log's owner by then, or given up.
_LATE_WRITES_MS = 60_000


class SlotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster knows of a slot.

    Attributes:
        state: See the module.
        until_ms: Of MOVING, when writes are taken again; of GIVEN, until when some may come late.
        cluster: Of GIVEN, whom it was given to; of COMING, where it was GIVEN before.
        url: Where that is.
        was_taken: Of MOVING, whether it was TAKEN before.
    """

    state: State
    until_ms: int = 0
    cluster: str = ""
    url: str = ""
    was_taken: bool = False


decode_slot = msgspec.json.Decoder(SlotRecord).decode


def slot_record(slot: int) -> bytes:
    """Return the record's key."""
    return b"%s%d" % (RECORDS, slot)


class ChangeSlot(BaseCommand, frozen=True, tag=36):
    """Take a step; the result is False, and nothing changes, where it does not follow.

    Attributes:
        slot: Its number.
        step: `freeze` begins MOVING or goes on with it, `thaw` ends it, `give` ends it by GIVEN in
            time; `come` begins COMING, `take` ends it by TAKEN, `drop` by nothing.
        milliseconds: How long a freeze lasts.
        cluster: Whom it is given to.
        url: Where that is.
    """

    slot: int
    step: Step
    milliseconds: int = 0
    cluster: str = ""
    url: str = ""

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        key = slot_record(self.slot)
        stored = keyspace.get_account(key)
        before = None if stored is None else decode_slot(stored.value)
        if not self._follows(before, now_ms):
            return False
        after = self._after(before, now_ms)
        if after is None:
            if stored is not None:
                keyspace.remove_account(key)
        elif after != before:
            keyspace.put_account(key, msgspec.json.encode(after))
        return True

    def _follows(self, before: SlotRecord | None, now_ms: int) -> bool:
        state = None if before is None else before.state
        if self.step == "freeze":
            return state in (None, "moving", "taken")
        if self.step == "thaw":
            return state in (None, "moving")
        if self.step == "give":
            return before is not None and state == "moving" and now_ms < before.until_ms
        if self.step == "come":
            return state in (None, "coming", "given")
        # What was done once may be said again.
        return state in (("coming", "taken") if self.step == "take" else (None, "coming"))

    def _after(self, before: SlotRecord | None, now_ms: int) -> SlotRecord | None:
        was = before or SlotRecord(state="coming")
        if self.step == "freeze":
            was_taken = was.state == "taken" or was.was_taken
            until_ms = now_ms + self.milliseconds
            return SlotRecord(state="moving", until_ms=until_ms, was_taken=was_taken)
        if self.step == "give":
            until_ms = now_ms + _LATE_WRITES_MS
            return SlotRecord(state="given", until_ms=until_ms, cluster=self.cluster, url=self.url)
        if self.step == "come":
            return SlotRecord(state="coming", cluster=was.cluster, url=was.url)
        if self.step == "take" or (self.step == "thaw" and was.was_taken):
            return SlotRecord(state="taken")
        if self.step == "drop" and was.cluster:
            return SlotRecord(state="given", cluster=was.cluster, url=was.url)
        return None

    def needs(self) -> Iterable[Need]:
        return (("admin", b"node:slots"),)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.cluster) + len(self.url)


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
        stored = keyspace.get_account(slot_record(self.slot))
        if stored is None or decode_slot(stored.value).state not in ("given", "coming"):
            return 0
        found = [key for key in self.keys if slot_of(key) == self.slot and keyspace.get(key)]
        for key in found:
            keyspace.remove(key)
        return len(found)

    def needs(self) -> Iterable[Need]:
        return (("admin", b"node:slots"),)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + sum(map(len, self.keys))
