"""Putting files of another history than the node's aside: never mixed in, never deleted.

Each start that finds some makes a folder of its own, `foreign/<number>`, and keeps their names
below it. What is moved is logged with its reason.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from contextlib import suppress
from os import O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY
from pathlib import Path

from synap.disk import DISK, Files, remove_if_there, write_whole
from synap.errors import DataDirUnusable

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1024 * 1024
# Another file system, as where log and data directory have a disk each, or one without links.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})


class Quarantine:
    """The folder for what one start puts aside, made when it is needed.

    Attributes:
        moved: What was put aside, as it was named before.
    """

    def __init__(self, directory: Path, files: Files = DISK) -> None:
        """
        Args:
            directory: Holds the folders of all starts.
        """
        self._directory = directory
        self._files = files
        self._folder: Path | None = None
        self.moved: list[Path] = []

    def take(self, paths: Iterable[Path], why: str) -> None:
        """Put files or a folder aside; together, so that a crash between them loses none.

        Raises:
            DataDirUnusable: they can't be moved.
        """
        paths = list(paths)
        if not paths:
            return
        try:
            targets = [(path, self._target_of(path)) for path in paths]
            for path, target in targets:
                if path.is_dir():
                    self._files.rename(path, target)
                else:
                    self._have_also(path, target)
                self._files.sync_directory(target.parent)
            for path in paths:
                remove_if_there(path, self._files)
                self._files.sync_directory(path.parent)
        except OSError as error:
            raise DataDirUnusable(
                f"{error.filename} can't be put aside into {self._directory}: {error.strerror}; "
                f"move it out of the way: {why}"
            ) from error
        self.moved += paths
        logger.warning(
            "put aside into %s: %s; %s", self._folder, ", ".join(path.name for path in paths), why,
            extra={"action": "put_aside", "folder": str(self._folder)},
        )  # fmt: skip

    def _target_of(self, path: Path) -> Path:
        if self._folder is None:
            self._files.make_directory(self._directory)
            taken = [int(name) for name in self._files.names(self._directory) if name.isdigit()]
            folder = self._directory / f"{max(taken, default=0) + 1:04d}"
            self._files.make_new_directory(folder)
            self._folder = folder
            self._files.sync_directory(self._directory)
            self._files.sync_directory(self._directory.parent)
        parent = self._folder / path.parent.name
        self._files.make_directory(parent)
        return parent / path.name

    def _have_also(self, path: Path, target: Path) -> None:
        """Have the file at `path` also as `target`, whole: by another name for it, or by a copy."""
        try:
            self._files.link(path, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            copy_file(path, 0, target, self._files)


def copy_file(path: Path, at: int, target: Path, files: Files) -> None:
    """Have what is in the file at `path` from byte `at` on as `target`, whole and synced."""
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        _copy(path, at, temporary, files)
        files.rename(temporary, target)
    except OSError:
        with suppress(OSError):
            files.remove(temporary)
        raise


def _copy(path: Path, at: int, target: Path, files: Files) -> None:
    source = files.open(path, O_RDONLY)
    try:
        copy = files.open(target, O_WRONLY | O_CREAT | O_TRUNC)
        try:
            while chunk := files.read(source, _CHUNK_BYTES, at):
                write_whole(files, copy, [chunk])
                at += len(chunk)
            files.sync_all(copy)
        finally:
            files.close(copy)
    finally:
        files.close(source)
