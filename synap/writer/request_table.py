"""The records of requests that may be sent again: their bounds, and their end.

What is stored is not known by heart: the table keeps sums alone, of all records and of each holder.
A new owner finds the records of the one before it in the store and counts them, a bite at a time
and in the order of their keys, so that it writes from its first moment on; until it is through,
what it has not come to yet counts for nobody. The same walk then goes round and round, slowly, and
finds those whose time is over. Only a master removes them; replicas do as its log says.
"""

from __future__ import annotations

import msgspec

from synap.commands.once import Once, encode_record, encode_result
from synap.commands.records import Record
from synap.commands.request_records import NO_SLOT, decode_record
from synap.request_errors import IdempotencyFull, ShareTaken
from synap.shares import Holder, Shares
from synap.store import Store, WriteTransaction

# A walk over all records takes so many bites, but none is smaller or larger than these.
_BITES = 300
_LEAST_BITE = 64
_LARGEST_BITE = 5000
# What a record takes in the store beside its key and its value.
_STORED_BYTES = 32
# At least: a holder, a fingerprint and a short result.
_LEAST_VALUE_BYTES = 64


class RequestLimits(msgspec.Struct, frozen=True):
    """How many requests are remembered, and how long.

    Attributes:
        ttl_ms: How long.
        max_entries: How many.
        max_bytes: How much they may take up together.
    """

    ttl_ms: int = 3_600_000
    max_entries: int = 1_000_000
    max_bytes: int = 256 * 1024 * 1024


class Due(msgspec.Struct, frozen=True, gc=False):
    """A record whose time is over.

    Attributes:
        key: Where it stands.
        holder: For whom it counts.
        size: What it counts for.
    """

    key: bytes
    holder: Holder
    size: int


class RequestTable:
    """The table of one owner. All methods belong to the loop that the writer runs on."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._entries = Shares(limits.max_entries)
        self._bytes = Shares(limits.max_bytes)
        # What the turn that is on has added (1) and taken away (-1), to be undone if it fails.
        self._of_turn: list[tuple[int, Holder, int]] = []
        # The last key that the walk has come to, and whether one has been through: until then, what
        # stands behind that key is not counted.
        self._walked = b""
        self._is_counted = False

    @property
    def entries(self) -> int:
        """Records that are counted."""
        return self._entries.held

    @property
    def held_bytes(self) -> int:
        """What they take up."""
        return self._bytes.held

    def require_room(self, once: Once) -> None:
        """Refuse a request that can't be remembered.

        Raises:
            IdempotencyFull: nobody's can.
            ShareTaken: its holder has their share already.
        """
        entries, bytes_, holder = self._entries, self._bytes, once.holder
        size = len(once.key) + _STORED_BYTES + _LEAST_VALUE_BYTES
        if entries.has_room(holder, 1) and bytes_.has_room(holder, size):
            return
        if entries.held >= entries.total or bytes_.held + size > bytes_.total:
            raise IdempotencyFull
        if not entries.has_room(holder, 1):
            raise ShareTaken("remembered requests", "in number", entries.total)
        raise ShareTaken("remembered requests", "bytes", bytes_.total)

    def remember(
        self,
        transaction: WriteTransaction,
        once: Once,
        now_ms: int,
        *,
        old: Record | None,
        replicas: int,
        has_changed: bool,
        result: object,
        slot: int = NO_SLOT,
    ) -> None:
        """Put the record of a request that has just taken effect into its transaction.

        A result that there is no room for is not kept, as one that is too large.

        Args:
            old: What stood at the request's key, whose time was over.
            replicas: How many replicas the answer waits for.
            slot: Of its keys.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        value = encode_record(once, replicas, has_changed, encode_result(result), slot)
        is_long = len(value) > _LEAST_VALUE_BYTES
        if is_long and not self._bytes.has_room(once.holder, _size_of(once.key, len(value))):
            value = encode_record(once, replicas, has_changed, b"", slot)
        transaction.put_request(once.key, value, now_ms + self._limits.ttl_ms)
        self._replaced(once.key, None if old is None else old.value, once.holder, len(value))

    def brought(self, key: bytes, old: bytes | None, value: bytes) -> None:
        """Learn that a record of another cluster's was put, in place of an old one or of none.

        It counts, and is taken beyond the limits too: that cluster has promised to remember it.
        """
        self._replaced(key, old, _holder_of(value), len(value))

    def _replaced(self, key: bytes, old: bytes | None, holder: Holder, value_bytes: int) -> None:
        if not self._counts(key):
            return
        if old is not None:
            self._change(-1, _holder_of(old), _size_of(key, len(old)))
        self._change(1, holder, _size_of(key, value_bytes))

    def begin_turn(self) -> None:
        """Learn that the turn before is committed."""
        self._of_turn.clear()

    def turn_failed(self) -> None:
        """Undo what the turn that is on has changed: nothing of it was committed."""
        for sign, holder, size in reversed(self._of_turn):
            self._count(-sign, holder, size)
        self._of_turn.clear()

    def look(self, store: Store, now_ms: int) -> list[Due]:
        """Walk on over the stored records; between two turns.

        Args:
            store: Where they are.
            now_ms: Wall clock.

        Returns:
            Those whose time is over, for `remove`.
        """
        if self._is_counted and not self._entries.held:
            return []
        due: list[Due] = []

        def visit(key: bytes, expiry_ms: int, value: memoryview) -> None:
            size = _size_of(key, len(value))
            if not self._is_counted:
                self._count(1, _holder_of(value), size)
            if expiry_ms <= now_ms:
                due.append(Due(key, _holder_of(value), size))

        bite = _LARGEST_BITE
        if self._is_counted:
            bite = min(max(self._entries.held // _BITES, _LEAST_BITE), _LARGEST_BITE)
        last = store.look_at_requests(self._walked, bite, visit)
        if last is None:
            self._is_counted = True
        self._walked = last or b""
        return due

    def remove(self, transaction: WriteTransaction, due: list[Due]) -> None:
        """Remove what `look` found; `removed` follows where that is committed."""
        for each in due:
            transaction.remove_request(each.key)

    def removed(self, due: list[Due]) -> None:
        """Count less: what `remove` did is committed."""
        for each in due:
            self._count(-1, each.holder, each.size)

    @property
    def is_counted(self) -> bool:
        """Whether all that was there at the start is counted."""
        return self._is_counted

    def _counts(self, key: bytes) -> bool:
        """Say whether a record counts by now, or is counted when the walk comes to it."""
        return self._is_counted or key <= self._walked

    def _change(self, sign: int, holder: Holder, size: int) -> None:
        self._count(sign, holder, size)
        self._of_turn.append((sign, holder, size))

    def _count(self, sign: int, holder: Holder, size: int) -> None:
        if sign > 0:
            self._entries.count(holder, 1)
            self._bytes.count(holder, size)
        else:
            self._entries.give_back(holder, 1)
            self._bytes.give_back(holder, size)


def _size_of(key: bytes, value_bytes: int) -> int:
    return len(key) + value_bytes + _STORED_BYTES


def _holder_of(value: bytes | memoryview) -> Holder:
    record = decode_record(value)
    return "" if record is None else record.holder
