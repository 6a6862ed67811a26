"""LMDB, opened and with Synap's errors in place of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from synap.disk import NO_ROOM, has_room, reserve
from synap.errors import (
    DiskFull,
    MemoryLimit,
    StoreDamaged,
    StoreError,
    StoreUnusable,
    SynapError,
)
from synap.store.layout import StoreFacts

# Well above a node's HTTP workers, each of which takes a slot for each thread that reads at once.
_MAX_READERS = 1024
_MAX_DATABASES = 8
# A write that was cut short has used up all there was; what is left is others' coming and going.
_FULL_DISK_BYTES = 1024 * 1024
# LMDB's table of that many readers, 64 bytes each, and what stands before it.
_LOCK_FILE_BYTES = _MAX_READERS * 64 + 4096

# What LMDB says of pages that are not what it wrote.
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.PageFullError,
    lmdb.CursorFullError,
    lmdb.NotFoundError,
)


class _ThisProcess:
    """The running process's id, kept up over forks; asking the kernel would slow each read."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        os.register_at_fork(after_in_child=self._ask)

    def _ask(self) -> None:
        self.pid = os.getpid()


this_process = _ThisProcess()


class Environment:
    """One generation's LMDB environment and its databases, opened by this process."""

    def __init__(self, folder: Path, *, map_bytes: int = 0, writing: bool = False) -> None:
        """
        Args:
            map_bytes: What the file can grow to; 0 takes what the writer chose.
        """
        self.folder = folder
        self.generation = int(folder.name)
        self.pid = this_process.pid
        try:
            if writing:
                _reserve_lock_file(folder / "lock.mdb")
            self.lmdb = lmdb.open(
                str(folder),
                map_size=map_bytes,
                readonly=not writing,
                create=writing,
                mode=0o600,
                sync=False,
                metasync=False,
                max_readers=_MAX_READERS,
                max_dbs=_MAX_DATABASES,
                # One cached transaction makes a read three times as cheap.
                max_spare_txns=1,
            )
            self.keys = self.lmdb.open_db(b"keys", create=writing)
            self.accounts = self.lmdb.open_db(b"accounts", create=writing)
            self.expiry = self.lmdb.open_db(b"expiry", create=writing)
            self.requests = self.lmdb.open_db(b"requests", create=writing)
        except (lmdb.Error, OSError) as error:
            is_damaged = isinstance(error, _DAMAGE) or str(error).endswith(os.strerror(errno.EIO))
            kind = StoreDamaged if is_damaged and writing else StoreUnusable
            raise kind(f"the live store in {folder} can't be opened: {error}") from error

    def check_process(self) -> None:
        """Raise StoreError in a process that did not open this, such as a forked child."""
        if this_process.pid != self.pid:
            raise StoreError(f"the store was opened by process {self.pid}; open it after the fork")

    @contextmanager
    def reading(self, *, buffers: bool = False) -> Iterator[lmdb.Transaction[Any]]:
        """Have a read transaction; a long one keeps old pages from being used again.

        Args:
            buffers: Give memory views of the pages for keys and values, valid until the end.
        """
        self.check_process()
        try:
            with self.lmdb.begin(buffers=True) if buffers else self.lmdb.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise self.translate(error) from error

    def begin_write(self) -> lmdb.Transaction[bytes]:
        """Begin the write transaction; waits for another one to end."""
        self.check_process()
        try:
            return self.lmdb.begin(write=True)
        except lmdb.Error as error:
            raise self.translate(error) from error

    def translate(self, error: lmdb.Error) -> SynapError:
        """Return the error that Synap raises for one of LMDB's."""
        if isinstance(error, lmdb.MapFullError):
            return MemoryLimit()
        if isinstance(error, lmdb.DiskError) or self._is_want_of_room(error):
            return DiskFull()
        kind = StoreDamaged if isinstance(error, _DAMAGE) else StoreError
        return kind(f"LMDB: {error}")

    def _is_want_of_room(self, error: lmdb.Error) -> bool:
        """Say whether the disk, or a quota, took nothing or less than it was given.

        LMDB has no name of its own for the first and reports the second as EIO.
        """
        message = str(error)
        if any(message.endswith(os.strerror(number)) for number in NO_ROOM):
            return True
        is_short = message.endswith(os.strerror(errno.EIO))
        return is_short and not has_room(self.folder, _FULL_DISK_BYTES)

    def used_bytes(self, transaction: lmdb.Transaction[bytes]) -> int:
        """Return the bytes of all pages with data in them, and of the two meta pages."""
        pages = 2
        for database in (None, self.keys, self.accounts, self.expiry, self.requests):
            stat = transaction.stat(database) if database else self.lmdb.stat()
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * self.lmdb.stat()["psize"]

    def facts(self) -> StoreFacts:
        """Return what the store takes up; costs a few looks, whatever its size."""
        with self.reading() as transaction:
            keys = transaction.stat(self.keys)["entries"]
            expiring = transaction.stat(self.expiry)["entries"]
            used_bytes = self.used_bytes(transaction)
            seen = _open_readers(self.lmdb.readers())
        info = self.lmdb.info()
        file_bytes = (info["last_pgno"] + 1) * self.lmdb.stat()["psize"]
        return StoreFacts(
            keys=keys,
            expiring=expiring,
            used_bytes=used_bytes,
            free_bytes=file_bytes - used_bytes,
            file_bytes=file_bytes,
            map_bytes=info["map_size"],
            readers=len(seen) - 1,
            oldest_reader_age=max(0, info["last_txnid"] - min(seen)),
        )


def _open_readers(table: str) -> list[int]:
    """Return the transaction ids in LMDB's printed table of readers (pid, thread, id or `-`)."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return [int(row[2]) for row in rows if len(row) == 3 and row[2] != "-"]


def _reserve_lock_file(path: Path) -> None:
    """Give LMDB's table of readers its blocks.

    LMDB makes it as a hole and maps it. This comes before LMDB opens it, for closing a file drops a
    process's locks on it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        reserve(file, _LOCK_FILE_BYTES)
    finally:
        os.close(file)
