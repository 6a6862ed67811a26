"""LMDB, opened and with Synap's errors in place of its own."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lmdb

from synap.disk import NO_ROOM, has_room, no_room, reserve
from synap.errors import (
    MemoryLimit,
    StoreDamaged,
    StoreError,
    StoreUnusable,
    SynapError,
)
from synap.store.generations import DATA_FILE
from synap.store.layout import StoreFacts
from synap.store.reserve import Reserve, Trees, changes_in_place, step_bytes

logger = logging.getLogger(__name__)

Writemap = Literal["auto", "on", "off"]
"""Whether pages are written through LMDB's map; `auto` where a full disk can't end the process."""

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
    """One generation's LMDB environment and its databases, opened by this process.

    Attributes:
        reserve: Has the blocks that a transaction needs; None where LMDB asks for them itself.
        have_room: Called with a number of changes, and the bytes that they write, before a write
            transaction makes them; raises DiskFull.
    """

    def __init__(
        self,
        folder: Path,
        *,
        map_bytes: int = 0,
        writing: bool = False,
        writemap: Writemap = "off",
    ) -> None:
        """
        Args:
            map_bytes: What the file can grow to; 0 takes what the writer chose.
            writemap: How the writer writes pages.
        """
        self.folder = folder
        self.generation = int(folder.name)
        self.pid = this_process.pid
        self.reserve: Reserve | None = None
        self.have_room: Callable[[int, int], None] = _have_room_as_written
        try:
            if writing:
                _reserve_lock_file(folder / "lock.mdb")
            self._open(map_bytes, writing=writing)
            if writing and (writemap == "on" or (writemap == "auto" and changes_in_place(folder))):
                self._write_through_map(map_bytes)
        except (lmdb.Error, OSError) as error:
            is_damaged = isinstance(error, _DAMAGE) or str(error).endswith(os.strerror(errno.EIO))
            kind = StoreDamaged if is_damaged and writing else StoreUnusable
            raise kind(f"the live store in {folder} can't be opened: {error}") from error

    def _open(self, map_bytes: int, *, writing: bool, writemap: bool = False) -> None:
        self.lmdb = lmdb.open(
            str(self.folder),
            map_size=map_bytes,
            readonly=not writing,
            create=writing,
            mode=0o600,
            sync=False,
            metasync=False,
            writemap=writemap,
            max_readers=_MAX_READERS,
            max_dbs=_MAX_DATABASES,
            # One cached transaction makes a read three times as cheap.
            max_spare_txns=1,
        )
        create = writing and not writemap
        self.keys = self.lmdb.open_db(b"keys", create=create)
        self.accounts = self.lmdb.open_db(b"accounts", create=create)
        self.expiry = self.lmdb.open_db(b"expiry", create=create)
        self.requests = self.lmdb.open_db(b"requests", create=create)

    def _write_through_map(self, map_bytes: int) -> None:
        """Open it anew, with a reserve; on a disk without room for one it stays as it is."""
        file = os.open(self.folder / DATA_FILE, os.O_RDWR | os.O_CLOEXEC)
        page_bytes = self.lmdb.stat()["psize"]
        reserved_bytes = (self._trees().last_page + 1) * page_bytes + step_bytes(file)
        try:
            # From the beginning: a page that was never used may be a hole.
            os.posix_fallocate(file, 0, reserved_bytes)
        except OSError as error:
            os.close(file)
            logger.warning(
                "the live store's pages are written one by one, which takes longer: %s", error,
                extra={"action": "no_writemap"},
            )  # fmt: skip
            return
        self.lmdb.close()
        try:
            self._open(map_bytes, writing=True, writemap=True)
            # LMDB made it as long as the map; a copy of that would be as long.
            os.ftruncate(file, reserved_bytes)
        except BaseException:
            os.close(file)
            raise
        self.reserve = Reserve(file, page_bytes, self._trees, reserved_bytes)
        self.have_room = self.reserve.take

    def close(self, *, keeps_reserve: bool = True) -> None:
        """Close it, and its readers with it; no effect a second time.

        Args:
            keeps_reserve: Leave the file its blocks beyond the last page.
        """
        if self.reserve is not None:
            self.reserve.close(keeps_blocks=keeps_reserve)
            self.reserve = None
        self.lmdb.close()

    def _trees(self) -> Trees:
        with self.reading() as transaction:
            stats = [transaction.stat(database) for database in self._databases()]
        return Trees(
            self.lmdb.info()["last_pgno"],
            sum(stat["branch_pages"] + stat["leaf_pages"] for stat in stats),
            max(stat["depth"] for stat in stats),
        )

    def _databases(self) -> tuple[Any, ...]:
        return self.keys, self.accounts, self.expiry, self.requests

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
        """Begin the write transaction; waits for another one to end.

        Before a key is changed in it, `have_room` is to be called.
        """
        self.check_process()
        try:
            if self.reserve is not None:
                self.reserve.begin()
            return self.lmdb.begin(write=True)
        except lmdb.Error as error:
            raise self.translate(error) from error

    def translate(self, error: lmdb.Error) -> SynapError:
        """Return the error that Synap raises for one of LMDB's."""
        if isinstance(error, lmdb.MapFullError):
            return MemoryLimit()
        if isinstance(error, lmdb.DiskError) or self._is_want_of_room(error):
            return no_room(self.folder)
        if not isinstance(error, _DAMAGE):
            return StoreError(f"LMDB: {error}")
        damaged = StoreDamaged(f"LMDB: {error}")
        damaged.generation = self.generation
        return damaged

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
        for database in (None, *self._databases()):
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
        # With what is reserved, and without what is a hole: what `du` tells.
        file_bytes = max(file_bytes, os.stat(self.folder / DATA_FILE).st_blocks * 512)
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


def _have_room_as_written(changes: int, count: int) -> None:
    """Do nothing: LMDB asks the disk for what it needs when it writes it."""


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
