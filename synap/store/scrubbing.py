"""Looking at every record of the live store, a slice at a time, and at single ones unchecked.

A slice is one short read transaction, so that a look at all of a large store keeps no page from
being used again. What is looked at: each record's checksum, the order of the keys, and that each
record which expires has its deadline in the index, and the index no other.
"""

from __future__ import annotations

import struct
from typing import Any

import lmdb
import msgspec

from synap.commands.records import MAX_KEY_BYTES, NEVER
from synap.errors import StoreError
from synap.frame import ACCOUNTS, KEYS, REQUESTS
from synap.request_errors import RecordCorrupt
from synap.store.environment import Environment
from synap.store.layout import DEADLINE, DEADLINE_BYTES, check_record, decode_record, stored_expiry

# Stands for the index of deadlines where a space is named.
DEADLINES = 255
_ORDER = (KEYS, ACCOUNTS, REQUESTS, DEADLINES)


class Suspect(msgspec.Struct, frozen=True, array_like=True):
    """A place of the store that is not as it should be.

    Attributes:
        space: A space of the log, or `DEADLINES`.
        key: The record's key; with `DEADLINES` the entry of the index, which is there and should
            not be, or the other way round.
    """

    space: int
    key: bytes


class SlicePlace(msgspec.Struct, frozen=True):
    """Where the next slice begins: after `after` in a space; the beginning by default."""

    space: int = KEYS
    after: bytes = b""


class CheckedSlice(msgspec.Struct, frozen=True):
    """What a slice held.

    Attributes:
        records: How many were looked at, entries of the index too.
        count: Their bytes.
        suspects: Those that are damaged.
        next: Where the next one begins; None after the last.
    """

    records: int
    count: int
    suspects: list[Suspect]
    next: SlicePlace | None


def database_of(environment: Environment, space: int) -> Any:
    """Return the database that holds a space, or the index of deadlines."""
    if space == KEYS:
        return environment.keys
    if space == ACCOUNTS:
        return environment.accounts
    return environment.requests if space == REQUESTS else environment.expiry


def check_slice(
    environment: Environment, place: SlicePlace, max_records: int, max_bytes: int
) -> CheckedSlice:
    """Look at the records from a place on, within one space.

    Raises:
        StoreError: a page is damaged.
    """
    with environment.reading(buffers=True) as transaction:
        cursor = transaction.cursor(database_of(environment, place.space))
        is_there = cursor.set_range(place.after) if place.after else cursor.first()
        suspects: list[Suspect] = []
        records = count = 0
        before = place.after
        for raw, content in cursor.iternext() if is_there else ():
            key = bytes(raw)
            if records and not before < key:
                raise StoreError(f"the record after key {before!r} is not in its place")
            if key == place.after and key:
                continue
            before = key
            records += 1
            count += len(key) + len(content)
            suspect = _look(environment, transaction, place.space, key, content)
            if suspect is not None:
                suspects.append(suspect)
            if records >= max_records or count >= max_bytes:
                return CheckedSlice(records, count, suspects, SlicePlace(place.space, before))
    at = _ORDER.index(place.space) + 1
    following = SlicePlace(_ORDER[at]) if at < len(_ORDER) else None
    return CheckedSlice(records, count, suspects, following)


def _look(
    environment: Environment, transaction: lmdb.Transaction[Any], space: int, key: bytes, raw: Any
) -> Suspect | None:
    if space == DEADLINES:
        return None if is_right_deadline(environment, transaction, key) else Suspect(space, key)
    try:
        check_record(key, raw)
    except (RecordCorrupt, struct.error):
        return Suspect(space, key)
    if space != KEYS or len(key) > MAX_KEY_BYTES or (expiry_ms := stored_expiry(raw)) == NEVER:
        return None
    entry = DEADLINE.pack(expiry_ms) + key
    has_deadline = transaction.get(entry, None, environment.expiry) is not None
    return None if has_deadline else Suspect(DEADLINES, entry)


def is_right_deadline(
    environment: Environment, transaction: lmdb.Transaction[Any], entry: bytes
) -> bool:
    """Say whether an entry of the index belongs there; that of a damaged record may."""
    key = entry[DEADLINE_BYTES:]
    raw = transaction.get(key, None, environment.keys) if key else None
    if raw is None:
        return False
    try:
        expiry_ms = decode_record(key, bytes(raw)).expiry_ms
    except RecordCorrupt:
        return True
    return expiry_ms != NEVER and DEADLINE.pack(expiry_ms) + key == entry


def is_sound(key: bytes, raw: bytes) -> bool:
    """Say whether `raw` is what was stored at `key`."""
    try:
        decode_record(key, raw)
    except RecordCorrupt:
        return False
    return True
