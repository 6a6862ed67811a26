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
    with _spaces_of(image, b"keys") as (transaction, (keys,)):
        return facts_in(transaction, keys)


def digest_image(image: Path) -> tuple[ImageFacts, str]:
    """Return what the uncompressed image at `image` holds and its digest, as `StoreReader.digest`.

    It reads all of it: for a thread or a process of its own.

    Raises:
        StoreUnusable: it is no store.
    """
    with _spaces_of(image, b"keys", b"accounts") as (transaction, (keys, accounts)):
        cursors = [(KEYS, transaction.cursor(keys)), (ACCOUNTS, transaction.cursor(accounts))]
        return facts_in(transaction, keys), walks.digest(cursors)


def facts_in(transaction: lmdb.Transaction[Any], keys: Any) -> ImageFacts:
    """Return what the store is in `transaction`."""
    applied = decode_applied(bytes(transaction.get(POSITION_KEY, NOTHING_APPLIED)))
    return ImageFacts(applied, transaction.stat(keys)["entries"])


@contextmanager
def _spaces_of(image: Path, *names: bytes) -> Iterator[tuple[lmdb.Transaction[Any], list[Any]]]:
    """Give a transaction that reads an image, and its databases of those names."""
    try:
        environment = lmdb.open(
            str(image), subdir=False, readonly=True, lock=False, create=False, max_dbs=len(names)
        )
        try:
            databases = [environment.open_db(name, create=False) for name in names]
            with environment.begin() as transaction:
                yield transaction, databases
        finally:
            environment.close()
    except lmdb.Error as error:
        raise StoreUnusable(f"{image} can't be read: {error}") from error
