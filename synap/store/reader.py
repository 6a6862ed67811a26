"""Reading the live store from any process of the node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import lmdb

from synap.commands.key_spans import ALL_KEYS, KeySpan
from synap.commands.once import is_of_request
from synap.commands.records import NEVER, Record, is_live
from synap.commands.request_records import decode_record as decode_request
from synap.frame import ACCOUNTS, KEYS, REQUESTS
from synap.place import LogEnd
from synap.position import NO_HISTORY
from synap.request_errors import AnswerTooLarge
from synap.store import generations, range_digest, scrubbing, walks
from synap.store.environment import Environment, this_process
from synap.store.image import ImageFacts, facts_in
from synap.store.layout import (
    APPLIED_END,
    NOTHING_APPLIED,
    POSITION_KEY,
    RECORD_BYTES,
    Applied,
    ScanPage,
    StoreFacts,
    decode_applied,
    decode_record,
)
from synap.store.range_digest import RangeDigest
from synap.store.room import KeySize, key_size
from synap.store.scrubbing import CheckedSlice, SlicePlace

# Expired keys that `random_key` draws before it looks for a live one in order.
_RANDOM_DRAWS = 16

_unpack_end = APPLIED_END.unpack


class StoreReader:
    """Reads the store; each call is one read transaction and sees one offset.

    Belongs to the process that opened it and raises StoreError in any other. The generation stays
    the one that was in use at the opening: whoever learns of a newer one opens another reader.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._begin = environment.lmdb.begin
        self._keys = environment.keys
        self._pid = environment.pid
        self._random = Random()
        # The number of the transaction that made the state which was seen last, and the end of the
        # log in it: many reads of one state look at that once. One tuple, because some reads run in
        # threads.
        self._seen = -1, LogEnd(0, NO_HISTORY)

    @classmethod
    def open(cls, root: Path) -> StoreReader:
        """Open the generation in use.

        Raises:
            StoreUnusable: there is none, or it can't be opened.
        """
        return cls(Environment(generations.folder_in_use(root)))

    @property
    def generation(self) -> int:
        return self._environment.generation

    def close(self) -> None:
        self._environment.lmdb.close()

    def get(self, key: bytes) -> tuple[Record | None, LogEnd]:
        """Return what is stored at `key`, expired or not, and the applied end of the log.

        Args:
            key: One that `check_key` accepts.
        """
        # The hot path of the node: no `with`, no helper, arguments by position. That is half the
        # cost of the obvious form.
        if this_process.pid != self._pid:
            self._environment.check_process()
        try:
            transaction = self._begin()
            raw = transaction.get(key, None, self._keys)
            seen = self._seen
            if transaction.id() != seen[0]:
                seen = self._see(transaction)
            transaction.abort()
        except lmdb.Error as error:
            raise self._environment.translate(error) from error
        return (None if raw is None else decode_record(key, raw)), seen[1]

    def _see(self, transaction: lmdb.Transaction[Any]) -> tuple[int, LogEnd]:
        """Note which state a transaction shows, and where the log ends in it."""
        end = LogEnd(*_unpack_end(transaction.get(POSITION_KEY, NOTHING_APPLIED)))
        # Whoever looks at the same end again finds the same object.
        if end == self._seen[1]:
            end = self._seen[1]
        self._seen = seen = transaction.id(), end
        return seen

    def end(self) -> LogEnd:
        """Return the applied end of the log; costs less than `applied`."""
        try:
            transaction = self._begin()
            end = self._end_in(transaction)
            transaction.abort()
        except lmdb.Error as error:
            raise self._environment.translate(error) from error
        return end

    def _end_in(self, transaction: lmdb.Transaction[Any]) -> LogEnd:
        state, end = self._seen
        return end if transaction.id() == state else self._see(transaction)[1]

    def get_many(
        self, keys: Iterable[bytes], now_ms: int, max_bytes: int = sys.maxsize
    ) -> tuple[list[bytes | None], LogEnd]:
        """Return the value of each key, and the applied end at which all of them are seen.

        A value is None where the key is missing or expired.

        Raises:
            AnswerTooLarge: they have more than `max_bytes` together.
        """
        if this_process.pid != self._pid:
            self._environment.check_process()
        # As in `get`, for most read few keys. It ends before the records are looked at.
        found: list[tuple[bytes, bytes | None]] = []
        try:
            transaction = self._begin()
            try:
                get, database, left_bytes = transaction.get, self._keys, max_bytes
                for key in keys:
                    raw = get(key, None, database)
                    found.append((key, raw))
                    if raw is not None:
                        left_bytes -= len(raw)
                        if left_bytes < 0:
                            raise AnswerTooLarge
                end = self._end_in(transaction)
            finally:
                transaction.abort()
        except lmdb.Error as error:
            raise self._environment.translate(error) from error
        values: list[bytes | None] = []
        for key, raw in found:
            record = None if raw is None else decode_record(key, raw)
            is_there = record is not None and (
                record.expiry_ms == NEVER or now_ms < record.expiry_ms
            )
            values.append(record.value if record is not None and is_there else None)
        return values, end

    def get_accounts(self, keys: Iterable[bytes]) -> list[Record | None]:
        """Return the records of accounts, all seen at the same offset."""
        with self._environment.reading() as transaction:
            accounts = self._environment.accounts
            found = [(key, transaction.get(key, None, accounts)) for key in keys]
        return [None if raw is None else decode_record(key, raw) for key, raw in found]

    def get_request(self, key: bytes) -> tuple[list[Record], LogEnd]:
        """Return the records of a request, in time or not, and the applied end of the log.

        A batch has one for each of its writes that took effect, in the order of their keys.
        """
        found = []
        with self._environment.reading() as transaction:
            end = self._end_in(transaction)
            cursor = transaction.cursor(self._environment.requests)
            if cursor.set_range(key):
                for each, raw in cursor.iternext():
                    if not is_of_request(each, key):
                        break
                    found.append(decode_record(each, raw))
        return found, end

    def requests_of_slot(
        self, slot: int, after: bytes, *, limit: int, max_bytes: int
    ) -> tuple[list[tuple[bytes, bytes, int]], bytes | None, LogEnd]:
        """Return the records of requests that changed keys of a slot, and the applied end.

        Args:
            slot: Its number.
            after: Only those with keys after this one.
            limit: Look at so many at most, of whatever slots.
            max_bytes: End with the one that reaches so many bytes.

        Returns:
            Keys, values and deadlines; where to go on, None where all were looked at; the end.
        """
        found: list[tuple[bytes, bytes, int]] = []
        size = 0

        def visit(key: bytes, expiry_ms: int, value: memoryview) -> bool:
            nonlocal size
            record = decode_request(value)
            if record is not None and record.slot == slot:
                found.append((key, bytes(value), expiry_ms))
                size += len(key) + len(value)
            return size >= max_bytes

        with self._environment.reading(buffers=True) as transaction:
            end = self._end_in(transaction)
            cursor = transaction.cursor(self._environment.requests)
            return found, walks.look_at_requests(cursor, after, limit, visit), end

    def list_accounts(self, prefix: bytes) -> tuple[list[tuple[bytes, Record]], LogEnd]:
        """Return the accounts' records whose keys begin with `prefix`, in order, and the end."""
        with self._environment.reading() as transaction:
            cursor = transaction.cursor(self._environment.accounts)
            found = []
            if cursor.set_range(prefix):
                for key, raw in cursor.iternext():
                    if not key.startswith(prefix):
                        break
                    found.append((key, decode_record(key, raw)))
            return found, _read_end(transaction)

    def scan(
        self,
        prefix: bytes,
        cursor: bytes | None,
        limit: int,
        now_ms: int,
        *,
        pattern: bytes | None = None,
        max_visited: int,
        spans: Sequence[KeySpan] = ALL_KEYS,
        accepts: Callable[[bytes], bool] | None = None,
    ) -> ScanPage:
        """Return a page of live keys in order.

        Args:
            prefix: What they begin with.
            cursor: Only keys after this one, which need not exist any more; None for all.
            limit: At most so many keys, at least 1.
            pattern: A glob that they match.
            max_visited: Look at most at so many keys, at least 1.
            spans: Where to look, apart from each other and in order; no other key is visited.
            accepts: Tells which keys of these to show; None for all.
        """
        with self._environment.reading(buffers=True) as transaction:
            keys, next_cursor = walks.scan(
                transaction.cursor(self._keys), prefix, cursor,
                limit=limit, now_ms=now_ms, pattern=pattern, max_visited=max_visited,
                spans=spans, accepts=accepts,
            )  # fmt: skip
            return ScanPage(keys, next_cursor, _read_end(transaction))

    def scan_level(
        self,
        prefix: bytes,
        delimiter: bytes,
        cursor: bytes | None,
        limit: int,
        now_ms: int,
        *,
        max_visited: int,
        spans: Sequence[KeySpan] = ALL_KEYS,
        accepts: Callable[[bytes], bool] | None = None,
    ) -> ScanPage:
        """Return a page of one level of a tree: live keys and folders; see `walks.scan_level`."""
        with self._environment.reading(buffers=True) as transaction:
            keys, folders, next_cursor = walks.scan_level(
                transaction.cursor(self._keys), prefix, delimiter, cursor,
                limit=limit, now_ms=now_ms, max_visited=max_visited, spans=spans, accepts=accepts,
            )  # fmt: skip
            return ScanPage(keys, next_cursor, _read_end(transaction), folders)

    def walk_records(
        self,
        prefix: bytes,
        now_ms: int,
        *,
        spans: Sequence[KeySpan] = ALL_KEYS,
        accepts: Callable[[bytes], bool] | None = None,
    ) -> RecordWalk:
        """Begin a walk over the live keys that begin with `prefix`; whoever gets it closes it.

        Args:
            spans: Where to look, as for `scan`.
            accepts: Tells which keys of these to show; None for all.
        """
        self._environment.check_process()
        try:
            return RecordWalk(self._environment, prefix, now_ms, spans, accepts)
        except lmdb.Error as error:
            raise self._environment.translate(error) from error

    def count(self, now_ms: int) -> int:
        """Return the number of live keys; takes time for each expired one that wasn't swept."""
        with self._environment.reading() as transaction:
            stored = transaction.stat(self._keys)["entries"]
            return stored - walks.count_due(transaction.cursor(self._environment.expiry), now_ms)

    def random_key(
        self,
        now_ms: int,
        *,
        spans: Sequence[KeySpan] = ALL_KEYS,
        accepts: Callable[[bytes], bool] | None = None,
    ) -> bytes | None:
        """Return any live key; None where there is none. Not every key is equally likely.

        Args:
            spans: Where to look, as for `scan`.
            accepts: Tells which keys of these may come; None for all.
        """
        with self._environment.reading() as transaction:
            cursor = transaction.cursor(self._keys)
            drawn = self._random.choices(spans, k=_RANDOM_DRAWS) if spans else ()
            for span in drawn:
                key = walks.random_key(cursor, self._random, span)
                if key is None:
                    continue
                record = decode_record(key, transaction.get(key, b"", self._keys))
                if is_live(record, now_ms) and (accepts is None or accepts(key)):
                    return key
            stored = transaction.stat(self._keys)["entries"]
            live, _ = walks.scan(
                cursor, b"", None, limit=1, now_ms=now_ms, pattern=None, max_visited=stored,
                spans=spans, accepts=accepts,
            )  # fmt: skip
        return live[0] if live else None

    def applied(self) -> Applied:
        """Return how far the log is in the store."""
        with self._environment.reading() as transaction:
            return decode_applied(transaction.get(POSITION_KEY, NOTHING_APPLIED))

    def used_bytes(self) -> int:
        """Return the bytes of the pages that hold data."""
        with self._environment.reading() as transaction:
            return self._environment.used_bytes(transaction)

    def size_of(self, key: bytes, record: Record) -> KeySize:
        """Return what a record that was read takes up at its key."""
        page_bytes: int = self._environment.lmdb.stat()["psize"]
        return key_size(key, RECORD_BYTES + len(record.value), record.expiry_ms, page_bytes)

    def facts(self) -> StoreFacts:
        """Return what the store takes up; costs a few looks, whatever its size."""
        return self._environment.facts()

    def copy_to(self, file: int) -> ImageFacts:
        """Write an image of the store to the open `file`, and return what it holds.

        The free pages are left out. It reads the whole store in one transaction and holds up no
        writer; as long as it takes, the store's file grows by what is written meanwhile.

        Raises:
            StoreError: the store can't be read, or the file not written.
        """
        environment = self._environment
        with environment.reading() as transaction:
            environment.lmdb.copyfd(file, compact=True, txn=transaction)
            return facts_in(transaction, environment.keys)

    def raw(self, space: int, key: bytes) -> tuple[bytes | None, int]:
        """Return the bytes of a record, sound or not, and the applied offset."""
        with self._environment.reading() as transaction:
            raw = transaction.get(key, None, scrubbing.database_of(self._environment, space))
            return raw, _read_end(transaction).offset

    def check_slice(self, place: SlicePlace, *, max_records: int, max_bytes: int) -> CheckedSlice:
        """Look at the checksums of the records from a place on; see `scrubbing.check_slice`.

        Raises:
            StoreError: a page is damaged.
        """
        return scrubbing.check_slice(self._environment, place, max_records, max_bytes)

    def digest_range(
        self, space: int, after: bytes, until: bytes | None, max_records: int
    ) -> RangeDigest:
        """Return the digest of a range of keys; see `range_digest.digest_range`."""
        return range_digest.digest_range(self._environment, space, after, until, max_records)

    def digest(self) -> tuple[int, int, str]:
        """Return applied offset, number of stored keys, and SHA-256 over all that is stored.

        It covers expired keys too, so that nodes at the same offset agree whatever their clocks
        say. It reads the whole store: for a thread of its own.
        """
        environment = self._environment
        with environment.reading() as transaction:
            spaces = [
                (KEYS, transaction.cursor(environment.keys)),
                (ACCOUNTS, transaction.cursor(environment.accounts)),
                (REQUESTS, transaction.cursor(environment.requests)),
            ]
            keys = transaction.stat(environment.keys)["entries"]
            return _read_end(transaction).offset, keys, walks.digest(spaces)


class RecordWalk:
    """A walk over one state of the store, a piece at a time, by one thread after the other.

    It has a read transaction of its own. Until it is closed, no page of that state is used again,
    and the reader that it came from stays open.

    Attributes:
        end: The applied end of the log in that state.
        is_over: Whether nothing more comes.
    """

    def __init__(
        self,
        environment: Environment,
        prefix: bytes,
        now_ms: int,
        spans: Sequence[KeySpan],
        accepts: Callable[[bytes], bool] | None,
    ) -> None:
        self.is_over = False
        self._environment = environment
        self._now_ms = now_ms
        self._accepts = accepts
        self._lock = Lock()
        self._transaction: lmdb.Transaction[bytes] | None = environment.lmdb.begin()
        self.end = _read_end(self._transaction)
        self._records = walks.records(self._transaction.cursor(environment.keys), prefix, spans)

    def take(self, max_records: int, max_bytes: int) -> list[tuple[bytes, Record]]:
        """Return the next live keys with their records; fewer, or none, where some are left out.

        Args:
            max_records: Look at so many keys at most.
            max_bytes: End with the record that reaches so many bytes.

        Raises:
            RecordCorrupt: a record is damaged.
            ValueError: the walk was closed.
        """
        taken: list[tuple[bytes, Record]] = []
        with self._lock:
            if self._transaction is None:
                raise ValueError("the walk is closed")
            try:
                for key, raw in islice(self._records, max_records):
                    max_records -= 1
                    if self._accepts is not None and not self._accepts(key):
                        continue
                    record = decode_record(key, raw)
                    if not is_live(record, self._now_ms):
                        continue
                    taken.append((key, record))
                    max_bytes -= len(key) + len(raw)
                    if max_bytes <= 0:
                        return taken
            except lmdb.Error as error:
                raise self._environment.translate(error) from error
            self.is_over = max_records > 0
        return taken

    def close(self) -> None:
        """End it; no effect a second time. Waits for a piece that is being taken."""
        with self._lock:
            transaction, self._transaction = self._transaction, None
            if transaction is not None:
                self._records = iter(())
                transaction.abort()


def _read_end(transaction: lmdb.Transaction[Any]) -> LogEnd:
    return decode_applied(transaction.get(POSITION_KEY, NOTHING_APPLIED)).end
