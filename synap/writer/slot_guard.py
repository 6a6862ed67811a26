"""Keeps writes from a slot that moves, at the log's owner, where their order is known.

A worker refuses them too, and knows a moment later: what it let pass before comes after the freeze
and must not be done. So what is logged of a slot between its freeze and its giving is nothing, and
nothing after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from synap.commands.commands import Command
from synap.commands.keys import Flush
from synap.commands.records import Record
from synap.commands.slots import RECORDS, ChangeSlot, ClearSlot, SlotRecord, decode_slot
from synap.errors import SlotMoving
from synap.slots import slot_of

_KEY = b"kv:"
_CLOSED = ("moving", "given")


class SlotGuard:
    """Which slots take no writes.

    Attributes:
        closed: Their records by number. Mostly empty; looked at for every write.
    """

    def __init__(self) -> None:
        self.closed: dict[int, SlotRecord] = {}

    def read(self, records: Iterable[tuple[bytes, Record]]) -> None:
        """Learn all there is to know, from the records of the store."""
        self.closed.clear()
        for key, record in records:
            self.note(int(key[len(RECORDS) :]), record)

    def note(self, slot: int, record: Record | None) -> None:
        """Learn how a slot stands; `record` is None where nothing is known of it any more."""
        told = None if record is None else decode_slot(record.value)
        if told is not None and told.state in _CLOSED:
            self.closed[slot] = told
        else:
            self.closed.pop(slot, None)

    def refusal(self, writes: Sequence[Command], now_ms: int) -> SlotMoving | None:
        """Return why these are not even tried; None where they are."""
        for command in writes:
            if isinstance(command, ChangeSlot | ClearSlot):
                continue
            if isinstance(command, Flush):
                if self._has_moving(now_ms):
                    return SlotMoving()
                continue
            for _, resource in command.needs():
                slot = slot_of(resource[len(_KEY) :]) if resource.startswith(_KEY) else -1
                record = self.closed.get(slot)
                if record is not None and now_ms < record.until_ms:
                    return SlotMoving()
        return None

    def _has_moving(self, now_ms: int) -> bool:
        """Say whether keys may be on their way that a FLUSH here would not reach."""
        return any(
            each.state == "moving" and now_ms < each.until_ms for each in self.closed.values()
        )

    def forget_old(self, now_ms: int) -> None:
        """Forget those whose time is over, so that the others' writes cost nothing any more."""
        old = [slot for slot, record in self.closed.items() if now_ms >= record.until_ms]
        for slot in old:
            del self.closed[slot]
