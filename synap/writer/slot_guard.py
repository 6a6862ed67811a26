"""Keeps writes from a slot that moves, at the log's owner, where their order is known.

A worker refuses them too, and knows a moment later: what it let pass before comes after the freeze
and must not be done. So what is logged of a slot between its freeze and its giving is nothing, and
nothing after it.

A freeze stands until the log says that it is over. Whoever asked for it may be gone, so the owner
has it end when its time is up: by a clock that nobody sets, from when this owner learned of it. An
owner that comes after a fail-over counts from its own beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from synap.commands.commands import Command
from synap.commands.keys import Flush
from synap.commands.keyspace import Keyspace, Limits
from synap.commands.records import Record
from synap.commands.request_records import NO_SLOT
from synap.commands.slots import (
    RECORDS,
    BringRequests,
    ChangeSlot,
    ClearSlot,
    decode_slot,
    slot_record,
)
from synap.errors import SlotMoving
from synap.slots import slot_of

_KEY = b"kv:"
# A write that a worker let pass before a slot was given is at the log's owner by then, or given up.
LATE_WRITES_SECONDS = 60.0
_NO_LIMITS = Limits(max_value_bytes=0)


class SlotGuard:
    """Which slots take no writes.

    Attributes:
        closed: For each of them, when its time is over. Mostly empty; looked at for every write.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, *, has_slots: bool = False
    ) -> None:
        """
        Args:
            now: Seconds, monotonic.
            has_slots: Whether the cluster has some of the keys alone.
        """
        self._has_slots = has_slots
        self.closed: dict[int, float] = {}
        self._moving: set[int] = set()
        self._now = now

    def read(self, records: Iterable[tuple[bytes, Record]]) -> None:
        """Learn all there is to know, from the records of the store."""
        self.closed.clear()
        self._moving.clear()
        for key, record in records:
            self.note(int(key[len(RECORDS) :]), record)

    def note(self, slot: int, record: Record | None) -> None:
        """Learn how a slot stands; `record` is None where nothing is known of it any more."""
        told = None if record is None else decode_slot(record.value)
        self.closed.pop(slot, None)
        self._moving.discard(slot)
        if told is None or told.state not in ("moving", "given"):
            return
        if told.state == "moving":
            self._moving.add(slot)
            self.closed[slot] = self._now() + told.milliseconds / 1000
        else:
            self.closed[slot] = self._now() + LATE_WRITES_SECONDS

    def refusal(self, writes: Sequence[Command]) -> SlotMoving | None:
        """Return why these are not even tried; None where they are."""
        for command in writes:
            if isinstance(command, ChangeSlot | ClearSlot | BringRequests):
                continue
            if isinstance(command, Flush):
                # Keys may be on their way that it would not reach here.
                if self._moving:
                    return SlotMoving()
                continue
            for _, resource in command.needs():
                if resource.startswith(_KEY) and slot_of(resource[len(_KEY) :]) in self.closed:
                    return SlotMoving()
        return None

    def slot_of(self, writes: Sequence[Command]) -> int:
        """Return the slot whose keys a request writes, all of which have one; else NO_SLOT."""
        if self._has_slots:
            for command in writes:
                for _, resource in command.needs():
                    if resource.startswith(_KEY):
                        return slot_of(resource[len(_KEY) :])
        return NO_SLOT

    def forget_old(self) -> None:
        """Forget those that were given long ago, so that the others' writes cost nothing more."""
        now = self._now()
        for slot in [each for each, end in self.closed.items() if now >= end]:
            if slot not in self._moving:
                del self.closed[slot]

    @property
    def has_lapsed(self) -> bool:
        """Whether the time of a freeze is over."""
        return any(self._now() >= self.closed[slot] for slot in self._moving)

    def thaw_lapsed(self, keyspace: Keyspace, now_ms: int) -> None:
        """End each freeze whose time is over, in the log, so that writes of its slot may follow."""
        now = self._now()
        for slot in [each for each in self._moving if now >= self.closed[each]]:
            ChangeSlot(slot, "thaw").evaluate(keyspace, now_ms, _NO_LIMITS)
            self.note(slot, keyspace.get_account(slot_record(slot)))
