"""LMDB's part of snapshots: a whole store as one file, and what such a file holds.

An image is what `StoreReader.copy_to` writes: LMDB's pages of one read transaction, without the
free ones. In an otherwise empty folder, under the name `data.mdb`, it is a live store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import msgspec

from synap.errors import StoreUnusable
from synap.frame import ACCOUNTS, KEYS
from synap.store import walks
from synap.store.layout import NOTHING_APPLIED, POSITION_KEY, Applied, decode_applied


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
    try:
        environment = lmdb.open(
            str(image), subdir=False, readonly=True, lock=False, create=False, max_dbs=1
        )
        try:
            keys = environment.open_db(b"keys", create=False)
            with environment.begin() as transaction:
                return facts_in(transaction, keys)
        finally:
            environment.close()
    except lmdb.Error as error:
        raise StoreUnusable(f"{image} can't be opened: {error}") from error


def digest_image(image: Path) -> tuple[ImageFacts, str]:
    """Return what the uncompressed image at `image` holds and its digest, as `StoreReader.digest`.

    It reads all of it: for a thread or a process of its own.

    Raises:
        StoreUnusable: it is no store.
    """
    try:
        environment = lmdb.open(
            str(image), subdir=False, readonly=True, lock=False, create=False, max_dbs=2
        )
        try:
            spaces = [
                (KEYS, environment.open_db(b"keys", create=False)),
                (ACCOUNTS, environment.open_db(b"accounts", create=False)),
            ]
            with environment.begin() as transaction:
                cursors = [(space, transaction.cursor(database)) for space, database in spaces]
                return facts_in(transaction, spaces[0][1]), walks.digest(cursors)
        finally:
            environment.close()
    except lmdb.Error as error:
        raise StoreUnusable(f"{image} can't be read: {error}") from error


def facts_in(transaction: lmdb.Transaction[Any], keys: Any) -> ImageFacts:
    """Return what the store is in `transaction`."""
    applied = decode_applied(bytes(transaction.get(POSITION_KEY, NOTHING_APPLIED)))
    return ImageFacts(applied, transaction.stat(keys)["entries"])
