"""LMDB's part of snapshots: a whole store as one file, and what such a file holds.

An image is what `StoreReader.copy_to` writes: LMDB's pages of one read transaction, without the
free ones. In an otherwise empty folder, under the name `data.mdb`, it is a live store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from synap.errors import StoreUnusable
from synap.frame import ACCOUNTS, KEYS, REQUESTS
from synap.store import walks
from synap.store.layout import (
    NOTHING_APPLIED,
    POSITION_KEY,
    Applied,
    decode_applied,
    is_first_form,
)

_FIRST_DATABASES = {KEYS: b"keys", ACCOUNTS: b"accounts"}
_DATABASES = _FIRST_DATABASES | {REQUESTS: b"requests"}


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


def facts_in(transaction: lmdb.Transaction[Any], keys: Any) -> ImageFacts:
    """Return what the store is in `transaction`."""
    applied = decode_applied(bytes(transaction.get(POSITION_KEY, NOTHING_APPLIED)))
    return ImageFacts(applied, transaction.stat(keys)["entries"])


@contextmanager
def _opened(image: Path) -> Iterator[tuple[lmdb.Transaction[Any], dict[int, Any]]]:
    """Give a transaction that reads an image, and the database of each space that it has."""
    try:
        environment = lmdb.open(
            str(image),
            subdir=False,
            readonly=True,
            lock=False,
            create=False,
            max_dbs=len(_DATABASES),
        )
        try:
            with environment.begin() as transaction:
                is_first = is_first_form(transaction.get(POSITION_KEY, b""))
            names = _FIRST_DATABASES if is_first else _DATABASES
            spaces = {space: environment.open_db(names[space], create=False) for space in names}
            with environment.begin() as transaction:
                yield transaction, spaces
        finally:
            environment.close()
    except lmdb.Error as error:
        raise StoreUnusable(f"{image} can't be read: {error}") from error
