"""The log owner's handle on the live store."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import lmdb

from synap.disk import DISK, Files, has_room
from synap.errors import StoreDamaged, StoreUnusable
from synap.place import NO_REIGNS, Reigns
from synap.store import generations, walks
from synap.store.environment import Environment, Writemap
from synap.store.layout import Applied, StoreFacts
from synap.store.reader import StoreReader
from synap.store.room import Room
from synap.store.transaction import WriteTransaction
from synap.store.upgrade import upgrade


class Store:
    """The log owner's handle. One process has it, and changes through one transaction at a time.

    Attributes:
        applied: How far the log is in the store, as of the last commit.
    """

    def __init__(
        self, root: Path, environment: Environment, boot_id: str | None, files: Files
    ) -> None:
        """Take over an open environment; `open`, `create` and `prepare` are the ways in."""
        self._root = root
        self._environment = environment
        self._boot_id = boot_id
        self._files = files
        try:
            upgrade(environment)
            self.applied = _applied_in(environment)
            generations.mark(environment.folder, clean=False, boot_id=boot_id, files=files)
            self._place = generations.place_of(environment.folder)
        except BaseException:
            environment.close()
            raise

    @classmethod
    def create(cls, root: Path, map_bytes: int) -> Store:
        """Put an empty generation in use, beside any older one, and open it."""
        store = cls.prepare(root, map_bytes)
        store.make_current()
        return store

    @classmethod
    def prepare(
        cls,
        root: Path,
        map_bytes: int,
        fill: Callable[[Path], None] | None = None,
        files: Files = DISK,
        writemap: Writemap = "auto",
    ) -> Store:
        """Open a new generation beside the one in use, which stays in use.

        Args:
            fill: Puts an image into the new generation's folder; without it the store is empty.
            writemap: How pages are written.

        Raises:
            StoreUnusable: it can't be made, for want of room or of permission.
        """
        folder = generations.add(root, files)
        try:
            if fill is not None:
                fill(folder)
            environment = Environment(folder, map_bytes=map_bytes, writing=True, writemap=writemap)
            return cls(root, environment, None, files)
        except BaseException:
            with suppress(OSError):
                files.remove_tree(folder)
            raise

    @classmethod
    def open(
        cls,
        root: Path,
        map_bytes: int,
        boot_id: str | None = None,
        files: Files = DISK,
        writemap: Writemap = "auto",
    ) -> Store:
        """Open the generation in use.

        Args:
            map_bytes: What the file can grow to; more than before is fine while nobody reads.
            boot_id: The kernel's boot, by default the running one.
            writemap: How pages are written.

        Raises:
            StoreUnusable: there is none, or it is not to be trusted, or can't be opened.
        """
        folder = generations.folder_in_use(root)
        trusted, reason = generations.is_trusted(root, boot_id)
        if not trusted:
            raise StoreUnusable(f"the live store in {folder} can't be trusted: {reason}")
        environment = Environment(folder, map_bytes=map_bytes, writing=True, writemap=writemap)
        return cls(root, environment, boot_id, files)

    @property
    def generation(self) -> int:
        return self._environment.generation

    def make_current(self) -> None:
        """Sync everything, then put this generation in use.

        Raises:
            StoreError: the disk refused.
            StoreUnusable: it refused to put it in use.
        """
        self.sync()
        try:
            generations.make_current(self._root, self.generation, self._files)
        except OSError as error:
            raise StoreUnusable(
                f"no live store can be put in use in {self._root}: {error}"
            ) from error

    def remove_others(self) -> None:
        """Remove all other generations; processes that have one open keep what they have."""
        generations.prune(self._root, self._files)

    def begin(self, reigns: Reigns = NO_REIGNS) -> WriteTransaction:
        """Begin the next transaction; the one before must have ended.

        Args:
            reigns: The log's lineage, where commands are evaluated that ask whose an entry is.

        Raises:
            StoreError: this process did not open the store, or LMDB refuses.
        """
        next_offset = self.applied.position.offset + 1
        return WriteTransaction(self._environment, next_offset, self._set_applied, reigns)

    def reader(self) -> StoreReader:
        """Return a reader on the same environment, of which a process can't open two."""
        return StoreReader(self._environment)

    def room(self, random: Random) -> Room:
        """Return what measures, samples and tidies this store."""
        return Room(self._environment, random)

    def due(self, now_ms: int, limit: int) -> list[bytes]:
        """Return up to `limit` keys that are expired at `now_ms`, the longest expired first."""
        with self._environment.reading() as transaction:
            due = walks.due(transaction.cursor(self._environment.expiry), now_ms)
            return [key for key, _ in zip(due, range(limit), strict=False)]

    def look_at_requests(
        self, after: bytes, limit: int, visit: Callable[[bytes, int, memoryview], None]
    ) -> bytes | None:
        """Show the records of requests in the order of their keys.

        Args:
            after: Only those with keys after this one.
            limit: At most so many, at least 1.
            visit: Given each one's key, expiry and value; the value is gone when it returns.

        Returns:
            The last key; None where no more follow.
        """
        with self._environment.reading(buffers=True) as transaction:
            cursor = transaction.cursor(self._environment.requests)
            return walks.look_at_requests(cursor, after, limit, visit)

    def facts(self) -> StoreFacts:
        """Return what the store takes up."""
        return self._environment.facts()

    def has_room(self, count: int) -> bool:
        """Say whether the disk has `count` bytes for the store now."""
        return has_room(self._environment.folder, count)

    def reader_check(self) -> int:
        """Free the slots of readers whose process died; return their number.

        Raises:
            StoreError: LMDB refuses.
        """
        try:
            return self._environment.lmdb.reader_check()
        except lmdb.Error as error:
            raise self._environment.translate(error) from error

    def sync(self) -> None:
        """Make every committed transaction durable.

        Raises:
            StoreError: the disk refused; the store's pages are not to be relied on any more.
        """
        try:
            self._environment.lmdb.sync(True)
        except lmdb.Error as error:
            raise self._environment.translate(error) from error

    def close(self, *, clean: bool) -> None:
        """Close the environment, and its readers with it.

        Args:
            clean: Make everything durable first and note that, so that the next start can trust
                the store even after the machine restarted.
        """
        if clean:
            self.sync()
        self._environment.close(keeps_reserve=not clean)
        # Files that took the place of these while they were open are not what was synced.
        if clean and self.is_in_place():
            folder, boot_id = self._environment.folder, self._boot_id
            generations.mark(folder, clean=True, boot_id=boot_id, files=self._files)

    def is_in_place(self) -> bool:
        """Say whether the files are still the ones that were opened."""
        return generations.place_of(self._environment.folder) == self._place

    def discard(self) -> None:
        """Close a generation that was never put in use, and remove it."""
        self._environment.close()
        with suppress(OSError):
            self._files.remove_tree(self._environment.folder)

    def _set_applied(self, applied: Applied) -> None:
        self.applied = applied


def _applied_in(environment: Environment) -> Applied:
    try:
        return StoreReader(environment).applied()
    except (struct.error, ValueError, StoreUnusable) as error:
        raise StoreDamaged(f"what the live store says of the log can't be read: {error}") from error
