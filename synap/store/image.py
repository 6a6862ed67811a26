"""LMDB's part of snapshots: a whole store as one file, and what such a file holds.

An image is what `StoreReader.copy_to` writes: LMDB's pages of one read transaction, without the
free ones. In an otherwise empty folder, under the name `data.mdb`, it is a live store.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from synap.commands.records import MAX_KEY_BYTES, NEVER
from synap.errors import StoreUnusable
from synap.frame import ACCOUNTS, KEYS, REQUESTS
from synap.request_errors import RecordCorrupt
from synap.store import walks
from synap.store.layout import (
    DEADLINE,
    DEADLINE_BYTES,
    NOTHING_APPLIED,
    POSITION_KEY,
    RECORD,
    Applied,
    check_record,
    decode_applied,
    encode_record,
    is_first_form,
    stored_expiry,
)
from synap.store.pages import PagesUnsound, check_pages

_FIRST_DATABASES = {KEYS: b"keys", ACCOUNTS: b"accounts"}
_DATABASES = _FIRST_DATABASES | {REQUESTS: b"requests"}
_EXPIRY = b"expiry"


class ImageFacts(msgspec.Struct, frozen=True):
    """What an image holds.

    Attributes:
        applied: How far the log is in it.
        keys: Stored keys, expired ones that weren't swept too.
    """

    applied: Applied
    keys: int


def look_into(image: Path) -> ImageFacts:
    """Return what the uncompressed image at `image` holds; writes nothing.

    Raises:
        StoreUnusable: it is no store.
    """
    with _opened(image) as (transaction, spaces):
        return facts_in(transaction, spaces[KEYS])


def check_image(image: Path) -> ImageFacts:
    """Return what the uncompressed image at `image` holds, once each record was looked at.

    For images that this node wrote: LMDB is trusted with their pages, not with their content. It
    takes some 3 s for a million short values.

    Raises:
        StoreUnusable: a record, a deadline or an order is not as it was written.
    """
    try:
        with _environment(image) as (environment, is_first):
            return _walk(environment, is_first)
    except (PagesUnsound, RecordCorrupt, ValueError, struct.error) as error:
        raise StoreUnusable(f"{image} is no sound store: {error}") from error


def digest_image(image: Path) -> tuple[ImageFacts, str]:
    """Return what the uncompressed image at `image` holds and its digest, as `StoreReader.digest`.

    It reads all of it: for a thread or a process of its own.

    Raises:
        StoreUnusable: it is no store.
    """
    with _opened(image) as (transaction, spaces):
        cursors = [(space, transaction.cursor(database)) for space, database in spaces.items()]
        is_first = is_first_form(transaction.get(POSITION_KEY, b""))
        facts = facts_in(transaction, spaces[KEYS])
        return facts, walks.digest(cursors, has_checksums=not is_first)


def records_in(
    image: Path, places: Iterable[tuple[int, bytes]]
) -> dict[tuple[int, bytes], bytes | None]:
    """Return what an uncompressed image of this node's has at places: the record, or None.

    Args:
        places: Space and key of each.

    Raises:
        StoreUnusable: it is no store, or one of these records is damaged there too.
    """
    found: dict[tuple[int, bytes], bytes | None] = {}
    with _opened(image) as (transaction, spaces):
        is_first = is_first_form(transaction.get(POSITION_KEY, b""))
        for space, key in places:
            raw = transaction.get(key, None, spaces[space]) if space in spaces else None
            try:
                found[space, key] = raw if raw is None else _in_second_form(key, raw, is_first)
            except RecordCorrupt as error:
                raise StoreUnusable(f"{image}: {error}") from error
    return found


def _in_second_form(key: bytes, raw: bytes, is_first: bool) -> bytes:
    if is_first:
        version, expiry_ms = RECORD.unpack_from(raw)
        return encode_record(key, version, expiry_ms, raw[RECORD.size :])
    check_record(key, raw)
    return raw


def walk_image(image: Path) -> ImageFacts:
    """Return what an image that comes from elsewhere holds, once all of it was looked at.

    After this LMDB can be given the image, to read and to write. Before, it can be made so that it
    ends the process that reads it; and as no check is whole, this is for a process of its own:
    `synap.snapshot.apart`. It takes some 20 s for a GiB of short values.

    Raises:
        StoreUnusable: a page, a record or an order is not as this program writes it.
        OSError: it can't be read.
    """
    try:
        with image.open("rb") as file:
            # Not closed: what an error remembers of the walk still shows a part of it.
            content = mmap(file.fileno(), 0, access=ACCESS_READ)
        check_pages(memoryview(content), frozenset({*_DATABASES.values(), _EXPIRY}))
        with _environment(image) as (environment, is_first):
            return _walk(environment, is_first)
    except (PagesUnsound, RecordCorrupt, ValueError, struct.error) as error:
        raise StoreUnusable(f"{image} is no sound store: {error}") from error


def _walk(environment: lmdb.Environment, is_first: bool) -> ImageFacts:
    names = _FIRST_DATABASES if is_first else _DATABASES
    opened = {space: environment.open_db(name, create=False) for space, name in names.items()}
    expiry = environment.open_db(_EXPIRY, create=False)
    with environment.begin(buffers=True) as transaction:
        expiring = 0
        for space, database in opened.items():
            found = _check_records(transaction.cursor(database), is_first)
            expiring += found if space == KEYS else 0
        keys = transaction.cursor(opened[KEYS])
        _check_expiry(transaction.cursor(expiry), keys, is_first, expiring)
        return facts_in(transaction, opened[KEYS])


def _check_records(cursor: lmdb.Cursor[Any], is_first: bool) -> int:
    """Look at the order and the content of records; return how many of them expire."""
    before = b""
    expiring = 0
    for raw, record in cursor.iternext():
        key = bytes(raw)
        if not before < key or len(key) > MAX_KEY_BYTES:
            raise PagesUnsound(f"the record after key {before!r} is not in its place")
        if not is_first:
            check_record(key, record)
        before = key
        expiring += _expiry_in(record, is_first) != NEVER
    return expiring


def _check_expiry(
    index: lmdb.Cursor[Any], keys: lmdb.Cursor[Any], is_first: bool, expiring: int
) -> None:
    """Look whether the index has exactly the `expiring` records, in their order."""
    before, count = b"", 0
    for raw, nothing in index.iternext():
        entry = bytes(raw)
        key = entry[DEADLINE_BYTES:]
        is_there = before < entry and not nothing and key and keys.set_key(key)
        if not is_there or entry != DEADLINE.pack(_expiry_in(keys.value(), is_first)) + key:
            raise PagesUnsound(f"its index of deadlines is wrong after {before!r}")
        before = entry
        count += 1
    if count != expiring:
        raise PagesUnsound(f"its index has {count} deadlines, and {expiring} keys expire")


def _expiry_in(record: memoryview, is_first: bool) -> int:
    return RECORD.unpack_from(record)[1] if is_first else stored_expiry(record)


def facts_in(transaction: lmdb.Transaction[Any], keys: Any) -> ImageFacts:
    """Return what the store is in `transaction`."""
    applied = decode_applied(bytes(transaction.get(POSITION_KEY, NOTHING_APPLIED)))
    return ImageFacts(applied, transaction.stat(keys)["entries"])


@contextmanager
def _opened(image: Path) -> Iterator[tuple[lmdb.Transaction[Any], dict[int, Any]]]:
    """Give a transaction that reads an image, and the database of each space that it has."""
    with _environment(image) as (environment, is_first):
        names = _FIRST_DATABASES if is_first else _DATABASES
        spaces = {space: environment.open_db(names[space], create=False) for space in names}
        with environment.begin() as transaction:
            yield transaction, spaces


@contextmanager
def _environment(image: Path) -> Iterator[tuple[lmdb.Environment, bool]]:
    """Give an image as LMDB has it, and whether it has the first form."""
    try:
        environment = lmdb.open(
            str(image),
            subdir=False,
            readonly=True,
            lock=False,
            create=False,
            max_dbs=len(_DATABASES) + 1,
        )
        try:
            with environment.begin() as transaction:
                is_first = is_first_form(transaction.get(POSITION_KEY, b""))
            yield environment, is_first
        finally:
            environment.close()
    except lmdb.Error as error:
        raise StoreUnusable(f"{image} can't be read: {error}") from error
