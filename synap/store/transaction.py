"""Changing the live store: what commands do to it, and what the log's entries do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import lmdb

from synap.commands.records import NEVER, Record, is_live
from synap.frame import (
    ACCOUNTS,
    DEL,
    FLUSH,
    KEYS,
    MARK,
    REQUESTS,
    SET,
    Cause,
    Effect,
    Entry,
    Pair,
    as_entry,
)
from synap.place import Reigns
from synap.request_errors import RecordCorrupt
from synap.store import walks
from synap.store.bulk import Bulk
from synap.store.environment import Environment
from synap.store.layout import (
    DEADLINE,
    DEADLINE_BYTES,
    POSITION_KEY,
    Applied,
    decode_record,
    encode_applied,
    encode_record,
    lasting_records,
    stored_expiry,
)
from synap.store.scrubbing import database_of, is_right_deadline

_pack_deadline = DEADLINE.pack


class WriteTransaction:
    """One change of the store: all of it, or after `abort` nothing.

    It is the `Keyspace` that commands are evaluated against, where each put, removal and clearing
    also becomes an entry, and it applies entries of the log, where none does.

    Attributes:
        changes_accounts: Whether accounts are among what it changes.
        effects: What was done so far, in order; the first gets the offset after the store's.
    """

    __slots__ = (
        "_accounts", "_applied", "_delete", "_environment", "_expiry", "_get", "_have_room",
        "_keys", "_known_expiry_ms", "_known_key", "_next_offset", "_on_applied", "_put",
        "_reigns", "_transaction", "_translate", "changes_accounts", "effects",
    )  # fmt: skip

    def __init__(
        self,
        environment: Environment,
        next_offset: int,
        on_applied: Callable[[Applied], None],
        reigns: Reigns,
    ) -> None:
        """
        Args:
            next_offset: The offset of the first entry that is collected.
            on_applied: Told what `set_applied` said, once it is committed.
            reigns: The lineage, with the reign that writes.
        """
        transaction = environment.begin_write()
        # Entry n has the offset `_next_offset - len(effects) + n`, counted from 0, because a
        # transaction collects entries or applies them, and never does both.
        self.effects: list[Effect] = []
        self.changes_accounts = False
        self._reigns = reigns
        self._on_applied = on_applied
        # Open until `commit` or `abort`; the store has one writer, so nobody else changes what is
        # read here. Each stored key that expires has one deadline in `_expiry`, and no other has.
        self._transaction = transaction
        self._environment = environment
        # Bound once: each command calls them.
        self._have_room = environment.have_room
        self._get = transaction.get
        self._put = transaction.put
        self._delete = transaction.delete
        self._keys = environment.keys
        self._expiry = environment.expiry
        self._accounts = environment.accounts
        self._translate = environment.translate
        # What `commit` tells; None where the position stays as it is.
        self._applied: Applied | None = None
        # Offset of the entry that is collected or applied next.
        self._next_offset = next_offset
        # The key that was last looked up or written, and its stored expiry: a command mostly
        # reads the key that it writes next, and need not look twice. What changes keys by other
        # ways than `_write` and `_erase` sets it to None.
        self._known_key: bytes | None = None
        self._known_expiry_ms = NEVER

    @property
    def entries(self) -> list[Entry]:
        """The effects so far, as entries."""
        return self.entries_since(0)

    def entries_since(self, count: int) -> list[Entry]:
        """Return the effects as entries, without the first `count`."""
        return [as_entry(effect) for effect in self.effects[count:]]

    def get(self, key: bytes) -> Record | None:
        """Return what is stored, expired or not, with this transaction's own changes."""
        try:
            raw = self._get(key, None, self._keys)
        except lmdb.Error as error:
            raise self._translate(error) from error
        self._known_key = key
        if raw is None:
            self._known_expiry_ms = NEVER
            return None
        record = decode_record(key, raw)
        self._known_expiry_ms = record.expiry_ms
        return record

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Write a key and collect the entry; return its offset, which is the key's version.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        version = self._next_offset
        try:
            self._write(key, value, expiry_ms, version)
        except lmdb.Error as error:
            raise self._translate(error) from error
        self.effects.append(Entry(SET, key, value, expiry_ms))
        self._next_offset = version + 1
        return version

    def put_all(self, pairs: Sequence[Pair]) -> int:
        """Do what `put` does for keys that don't expire, in order, for much less than one by one.

        Args:
            pairs: Keys and values; of equal keys the last one stays.

        Returns:
            The version of the first; the next ones follow without a gap.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        version = self._next_offset
        self._write_all(pairs, version)
        self.effects += pairs
        self._next_offset = version + len(pairs)
        return version

    def remove(self, key: bytes, cause: Cause = Cause.CLIENT) -> None:
        """Remove a key and collect the entry; no effect where it is not stored."""
        try:
            removed = self._erase(key)
        except lmdb.Error as error:
            raise self._translate(error) from error
        if removed:
            self.effects.append(Entry(DEL, key, cause=cause))
            self._next_offset += 1

    def remove_expired(self, key: bytes, now_ms: int) -> bool:
        """Remove a key that the index of deadlines says is due, where its record says so too.

        A record that is damaged, or says otherwise, stays: it is not the index that decides.
        """
        try:
            record = self.get(key)
        except RecordCorrupt:
            return False
        if record is None or is_live(record, now_ms):
            self._forget_deadlines(key, now_ms)
            return False
        self.remove(key, Cause.EXPIRED)
        return True

    def restore(self, space: int, key: bytes, raw: bytes | None) -> None:
        """Put a record in place of a damaged one, or remove it, without an entry.

        Args:
            raw: The record as it was stored, sound; None where there should be none.
        """
        database = database_of(self._environment, space)
        self._known_key = None
        try:
            if raw is None:
                self._delete(key, b"", database)
                return
            self._put(key, raw, True, True, False, database)
            if space == KEYS and (expiry_ms := stored_expiry(raw)):
                self._put(_pack_deadline(expiry_ms) + key, b"", True, True, False, self._expiry)
        except lmdb.Error as error:
            raise self._translate(error) from error

    def restore_deadline(self, entry: bytes) -> None:
        """Put an entry into the index of deadlines, or take it out, as its record says."""
        environment = self._environment
        try:
            if is_right_deadline(environment, self._transaction, entry):
                self._put(entry, b"", True, True, False, self._expiry)
            else:
                self._delete(entry, b"", self._expiry)
        except lmdb.Error as error:
            raise self._translate(error) from error

    def clear(self, now_ms: int) -> int:
        """Remove every key and collect one entry; return how many of them were not expired."""
        try:
            stored = self._transaction.stat(self._keys)["entries"]
            if not stored:
                return 0
            live = stored - walks.count_due(self._transaction.cursor(self._expiry), now_ms)
            self._erase_all()
        except lmdb.Error as error:
            raise self._translate(error) from error
        self.effects.append(Entry(FLUSH))
        self._next_offset += 1
        return live

    def get_account(self, key: bytes) -> Record | None:
        """Return an account's record, with this transaction's own changes."""
        try:
            raw = self._get(key, None, self._accounts)
        except lmdb.Error as error:
            raise self._translate(error) from error
        return None if raw is None else decode_record(key, raw)

    def put_account(self, key: bytes, value: bytes) -> None:
        """Write an account's record and collect the entry.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        self._collect_beside(Entry(SET, key, value, NEVER, ACCOUNTS))

    def remove_account(self, key: bytes) -> None:
        """Remove an account's record and collect the entry; no effect where it is not stored."""
        if self.get_account(key) is not None:
            self._collect_beside(Entry(DEL, key, space=ACCOUNTS))

    def get_request(self, key: bytes) -> Record | None:
        """Return the record of a request, with this transaction's own changes."""
        try:
            raw = self._get(key, None, self._environment.requests)
        except lmdb.Error as error:
            raise self._translate(error) from error
        return None if raw is None else decode_record(key, raw)

    def put_request(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Write the record of a request and collect the entry; return its offset.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        version = self._next_offset
        try:
            self._have_room(1, len(key) + len(value))
            record = encode_record(key, version, expiry_ms, value)
            self._put(key, record, True, True, False, self._environment.requests)
        except lmdb.Error as error:
            raise self._translate(error) from error
        self.effects.append(Entry(SET, key, value, expiry_ms, REQUESTS))
        self._next_offset = version + 1
        return version

    def remove_request(self, key: bytes) -> None:
        """Remove the record of a request and collect the entry; no effect where there is none."""
        try:
            is_stored = self._get(key, None, self._environment.requests) is not None
        except lmdb.Error as error:
            raise self._translate(error) from error
        if is_stored:
            self._collect_beside(Entry(DEL, key, space=REQUESTS, cause=Cause.EXPIRED))

    def tag_of(self, version: int) -> str:
        """Return the tag of the reign that wrote, or is about to write, a version."""
        return self._reigns.tag_of(version)

    def apply(self, frame_entries: Iterable[Entry], first_offset: int) -> None:
        """Carry out entries of the log, which are not collected.

        Args:
            first_offset: The offset of the first one.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        offset = first_offset
        try:
            for entry in frame_entries:
                if entry.space != KEYS:
                    self._apply_beside(entry, offset)
                elif entry.operation == SET:
                    self._write(entry.key, entry.value, entry.expiry_ms, offset)
                elif entry.operation == DEL:
                    self._erase(entry.key)
                elif entry.operation == FLUSH:
                    self._flush(entry.key)
                offset += 1
        except lmdb.Error as error:
            raise self._translate(error) from error
        self._next_offset = offset

    def apply_sets(self, pairs: Sequence[Pair], first_offset: int) -> None:
        """Do what `apply` does with entries that set keys for good, for much less.

        Args:
            pairs: Keys and values; of equal keys the last one stays.
            first_offset: The offset of the first one.

        Raises:
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        self._write_all(pairs, first_offset)
        self._next_offset = first_offset + len(pairs)

    def apply_many(self, bulk: Bulk) -> None:
        """Carry out many frames of the log at once, many times faster than `apply` for each.

        Args:
            bulk: At least one frame, the first one following what is applied; empty afterwards.

        Raises:
            FrameCorrupt: a frame does not hold what its header says.
            MemoryLimit: the map is full; the transaction is of no more use but to be aborted.
        """
        try:
            self._next_offset = bulk.write(self._transaction, self._environment, self._apply_other)
        except lmdb.Error as error:
            raise self._translate(error) from error
        self._known_key = None

    def set_applied(self, applied: Applied) -> None:
        """Say where the log stands when this is committed."""
        try:
            self._put(POSITION_KEY, encode_applied(applied))
        except lmdb.Error as error:
            raise self._translate(error) from error
        self._applied = applied

    def commit(self) -> None:
        """Show everything to readers at once; durability is the log's business.

        Raises:
            DiskFull, MemoryLimit: nothing changed.
        """
        try:
            self._transaction.commit()
        except lmdb.Error as error:
            raise self._translate(error) from error
        if self._applied is not None:
            self._on_applied(self._applied)

    def abort(self) -> None:
        """Drop everything; no effect after a commit, whether that succeeded or not."""
        self._transaction.abort()

    def _write_all(self, pairs: Sequence[Pair], version: int) -> None:
        """Write keys that don't expire; the first gets `version`, the next ones follow."""
        try:
            # A key's deadline has to be looked up before it is written, where there are deadlines.
            if len(pairs) == 1 or self._transaction.stat(self._expiry)["entries"]:
                for place, (key, value) in enumerate(pairs, version):
                    self._write(key, value, NEVER, place)
            else:
                self._have_room(len(pairs), sum(map(len, chain.from_iterable(pairs))))
                self._transaction.cursor(self._keys).putmulti(lasting_records(pairs, version))
                self._known_key = None
        except lmdb.Error as error:
            raise self._translate(error) from error

    def _write(self, key: bytes, value: bytes, expiry_ms: int, version: int) -> None:
        old_expiry_ms = self._stored_expiry(key)
        self._have_room(3 if old_expiry_ms or expiry_ms else 1, 2 * len(key) + len(value))
        if old_expiry_ms != expiry_ms:
            if old_expiry_ms:
                self._delete(_pack_deadline(old_expiry_ms) + key, b"", self._expiry)
            if expiry_ms:
                self._put(_pack_deadline(expiry_ms) + key, b"", True, True, False, self._expiry)
        record = encode_record(key, version, expiry_ms, value)
        self._put(key, record, True, True, False, self._keys)
        self._known_key, self._known_expiry_ms = key, expiry_ms

    def _erase(self, key: bytes) -> bool:
        expiry_ms = self._stored_expiry(key)
        self._have_room(2, 0)
        if expiry_ms:
            self._delete(_pack_deadline(expiry_ms) + key, b"", self._expiry)
        self._known_key, self._known_expiry_ms = key, NEVER
        return self._delete(key, b"", self._keys)

    def _erase_all(self) -> None:
        self._transaction.drop(self._keys, False)
        self._transaction.drop(self._expiry, False)
        self._known_key = None

    def _stored_expiry(self, key: bytes) -> int:
        """Return the expiry that the index holds for `key`; NEVER for an absent key."""
        if key == self._known_key:
            return self._known_expiry_ms
        raw = self._get(key, None, self._keys)
        return NEVER if raw is None else stored_expiry(raw)

    def _forget_deadlines(self, key: bytes, now_ms: int) -> None:
        """Take what is due of a key out of the index: its record says otherwise."""
        cursor = self._transaction.cursor(self._expiry)
        entries = [
            entry for entry in walks.due_entries(cursor, now_ms) if entry[DEADLINE_BYTES:] == key
        ]
        for entry in entries:
            self.restore_deadline(entry)

    def _apply_other(self, entry: Entry, version: int) -> None:
        """Carry out an entry that is no SET or DEL of a user's key."""
        if entry.space != KEYS:
            self._apply_beside(entry, version)
        elif entry.operation == FLUSH:
            self._flush(entry.key)

    def _flush(self, prefix: bytes) -> None:
        """Remove the users' keys that begin with `prefix`."""
        if not prefix:
            self._erase_all()
            return
        cursor = self._transaction.cursor(self._keys)
        while cursor.set_range(prefix) and (key := cursor.key()).startswith(prefix):
            self._erase(key)

    def mark(self) -> None:
        """Collect an entry without effect, which shows that a reign has begun."""
        self.effects.append(Entry(MARK))
        self._next_offset += 1

    def _collect_beside(self, entry: Entry) -> None:
        try:
            self._apply_beside(entry, self._next_offset)
        except lmdb.Error as error:
            raise self._translate(error) from error
        self.effects.append(entry)
        self._next_offset += 1

    def _apply_beside(self, entry: Entry, version: int) -> None:
        """Carry out an entry of a space beside the users' keys."""
        if entry.space == ACCOUNTS:
            database = self._accounts
            self.changes_accounts = True
        else:
            database = self._environment.requests
        self._have_room(1, len(entry.key) + len(entry.value))
        if entry.operation == SET:
            record = encode_record(entry.key, version, entry.expiry_ms, entry.value)
            self._put(entry.key, record, True, True, False, database)
        elif entry.operation == DEL:
            self._delete(entry.key, b"", database)
        elif entry.operation == FLUSH and not entry.key:
            self._transaction.drop(database, False)
        elif entry.operation == FLUSH:
            cursor = self._transaction.cursor(database)
            while cursor.set_range(entry.key) and cursor.key().startswith(entry.key):
                self._have_room(1, 0)
                cursor.delete()
