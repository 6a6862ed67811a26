"""A disk whose k-th changing call fails; apart from what imports pytest, for processes that die."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from synap.disk import Files

# The disk fails once, or it fails from then on, as a process that ends there sees it.
ONCE = "once"
FOR_GOOD = "for good"


class KthCallFails(Files):
    """Real files whose k-th call that changes or syncs something fails, and maybe all later ones.

    A write that fails has written a half, a tree whose removal fails has lost a file.

    Attributes:
        is_armed: Whether calls count yet.
        has_failed: Whether it came to that.
        failed: What failed first.
    """

    def __init__(self, number: int, error: int, length: str) -> None:
        self._left = number
        self._error = error
        self._is_for_good = length == FOR_GOOD
        self.is_armed = True
        self.has_failed = False
        self.failed = ""

    def make_directory(self, path: Path) -> None:
        self._call("make_directory")
        super().make_directory(path)

    def make_new_directory(self, path: Path, mode: int = 0o777) -> None:
        self._call("make_new_directory")
        super().make_new_directory(path, mode)

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        if flags & os.O_CREAT:
            self._call("open")
        return super().open(path, flags, mode)

    def write(self, file: int, buffers: Sequence[bytes | memoryview]) -> int:
        def write_half() -> None:
            whole = b"".join(buffers)
            super(KthCallFails, self).write(file, [whole[: len(whole) // 2]])

        self._call("write", write_half)
        return super().write(file, buffers)

    def write_at(self, file: int, content: bytes | memoryview, at: int) -> int:
        def write_half() -> None:
            super(KthCallFails, self).write_at(file, content[: len(content) // 2], at)

        # The marker of a store is one sector: it is there whole or not.
        self._call("write_at", write_half if len(content) > 512 else None)
        return super().write_at(file, content, at)

    def allocate(self, file: int, size: int) -> None:
        self._call("allocate")
        super().allocate(file, size)

    def truncate(self, file: int, size: int) -> None:
        self._call("truncate")
        super().truncate(file, size)

    def sync(self, file: int) -> None:
        self._call("sync")
        super().sync(file)

    def sync_all(self, file: int) -> None:
        self._call("sync_all")
        super().sync_all(file)

    def sync_directory(self, path: Path) -> None:
        self._call("sync_directory")
        super().sync_directory(path)

    def rename(self, source: Path, destination: Path) -> None:
        self._call("rename")
        super().rename(source, destination)

    def link(self, path: Path, name: Path) -> None:
        self._call("link")
        super().link(path, name)

    def remove(self, path: Path) -> None:
        self._call("remove")
        super().remove(path)

    def remove_directory(self, path: Path) -> None:
        self._call("remove_directory")
        super().remove_directory(path)

    def remove_tree(self, path: Path) -> None:
        def remove_one() -> None:
            found = next((each for each in path.rglob("*") if each.is_file()), None)
            if found is not None:
                found.unlink()

        self._call("remove_tree", remove_one)
        super().remove_tree(path)

    def point_link(self, link: Path, target: str) -> None:
        self._call("point_link")
        super().point_link(link, target)

    def _call(self, name: str, do_part: Callable[[], None] | None = None) -> None:
        if not self.is_armed:
            return
        self._left -= 1
        if self._left == 0 and do_part is not None:
            do_part()
        if self._left == 0 or (self._left < 0 and self._is_for_good):
            self.has_failed, self.failed = True, self.failed or name
            raise OSError(self._error, os.strerror(self._error), name)
