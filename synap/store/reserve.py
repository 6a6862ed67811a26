"""Blocks of the data file that are there before a transaction writes to them through LMDB's map.

With `MDB_WRITEMAP` a commit costs no system call, a third of what a write costs. But a page that is
written through the map and has no block on a full disk ends the process by SIGBUS, where a `pwrite`
would have said ENOSPC. So the file has blocks, at any time, for all that the running transaction
may need beyond the last page: a bound of that is counted with each change, and more blocks are had
before it is passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from synap.disk import NO_ROOM
from synap.errors import DiskFull, StoreError

STEP_BYTES = 16 * 1024 * 1024
_LEAST_STEP_BYTES = 1024 * 1024
# Of what the file takes, at most this part: a small store's file stays small.
_FILE_PART = 4
# Of what the disk has free, at most this part: log and snapshots need it too.
_DISK_PART = 16
# The main database, and what LMDB's list of free pages takes where it is short.
_SPARE_PAGES = 64
# A page of the list of free pages names 500, and those of before are listed anew.
_LISTED_PAGES = 200
# Beside a key and its value in a page: what LMDB and the record put before them.
_BESIDE_BYTES = 48
# File systems that change a block in place: what was reserved there is enough. Others write a block
# that a copy shares to a new place (btrfs, zfs, xfs), or keep it elsewhere (nfs, fuse, overlay).
_IN_PLACE = frozenset({"ext2", "ext3", "ext4", "tmpfs"})
_MOUNTS = Path("/proc/self/mountinfo")


class Trees(msgspec.Struct, frozen=True):
    """How the store's trees stand.

    Attributes:
        last_page: The last page in use, as of the last commit.
        pages: Of all trees together, those of long records not among them.
        depth: Of the deepest one.
    """

    last_page: int
    pages: int
    depth: int


class Reserve:
    """Has blocks for one transaction after the other.

    A change of one key rewrites at most the pages from a tree's root to a leaf and their neighbours
    there, and adds one for each that is split. Many changes together rewrite each page of the trees
    once at most, and what they add is, as pages are filled by a third at least, no more than four
    times what they write. The smaller of both bounds counts.
    """

    def __init__(
        self, file: int, page_bytes: int, look: Callable[[], Trees], reserved_bytes: int
    ) -> None:
        """
        Args:
            file: The data file, open for writing; closed by `close`.
            look: Measures the store; it may be asked within a write transaction.
            reserved_bytes: Up to here the file has its blocks.
        """
        self._file = file
        self._page_bytes = page_bytes
        self._look = look
        self._reserved_pages = reserved_bytes // page_bytes
        # Of the running transaction.
        self._changes = 0
        self._bytes = 0
        # Pages that are there for it, as far as changes times `_pages_each` bound them.
        self._pages = 0
        self._pages_each = 1
        self._was_long = False

    def begin(self) -> None:
        """Take note that a transaction begins; what the one before may have taken is taken."""
        if self._was_long:
            self._give_back()
        self._pages -= self._bound()
        self._changes = self._bytes = 0

    def take(self, changes: int, count: int) -> None:
        """Have room for `changes` more changes of a tree, which write `count` bytes in all.

        Raises:
            DiskFull: there is none.
            StoreError: the disk refuses.
        """
        self._changes += changes
        self._bytes += count
        if self._bound() > self._pages:
            self._grow()

    def close(self, *, keeps_blocks: bool) -> None:
        """Close the file; without `keeps_blocks` cut off what no page uses."""
        if not keeps_blocks:
            os.ftruncate(self._file, (self._look().last_page + 1) * self._page_bytes)
        os.close(self._file)

    def _give_back(self) -> None:
        """Let go of what a long transaction had reserved, and did not need."""
        self._was_long = False
        end = self._look().last_page + 1 + step_bytes(self._file) // self._page_bytes
        if end < self._reserved_pages:
            os.ftruncate(self._file, end * self._page_bytes)
            self._reserved_pages = end
        self._changes = self._bytes = self._pages = 0

    def _bound(self) -> int:
        return self._changes * self._pages_each + self._bytes // self._page_bytes

    def _grow(self) -> None:
        trees = self._look()
        # A tree may have grown by a level since the last commit.
        self._pages_each = 2 * (trees.depth + 1) + 2
        written = self._bytes + self._changes * _BESIDE_BYTES
        needed = min(self._bound(), trees.pages + 4 * (written // self._page_bytes + 1))
        self._was_long |= needed * self._page_bytes > STEP_BYTES
        end = trees.last_page + 1
        spare = _SPARE_PAGES + (end + needed) // _LISTED_PAGES
        self._have(end + needed + spare)
        self._pages = self._bound() + self._reserved_pages - end - needed - spare

    def _have(self, pages: int) -> None:
        """Have blocks for the file's first `pages`, and a step more where there is room."""
        if pages <= self._reserved_pages:
            return
        with suppress(OSError):
            self._allocate(pages + step_bytes(self._file) // self._page_bytes)
            return
        try:
            self._allocate(pages)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull from error
            raise StoreError(f"the live store can't grow: {error}") from error

    def _allocate(self, pages: int) -> None:
        begin = self._reserved_pages * self._page_bytes
        os.posix_fallocate(self._file, begin, pages * self._page_bytes - begin)
        self._reserved_pages = pages


def step_bytes(file: int) -> int:
    """Return what is reserved beyond what is needed, where there is room for it."""
    disk = os.fstatvfs(file)
    wanted = max(_LEAST_STEP_BYTES, os.fstat(file).st_blocks * 512 // _FILE_PART)
    return min(STEP_BYTES, wanted, disk.f_bavail * disk.f_frsize // _DISK_PART)


def changes_in_place(path: Path) -> bool:
    """Say whether the file system of `path` is known to need no new block for an old one."""
    status = os.stat(path)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    try:
        rows = _MOUNTS.read_text().splitlines()
    except OSError:
        return False
    kinds = [row.partition(" - ")[2].split()[0] for row in rows if row.split()[2] == device]
    return bool(kinds) and kinds[-1] in _IN_PLACE
