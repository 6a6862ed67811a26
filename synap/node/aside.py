"""Putting files of another history than the node's aside: never mixed in, never deleted.

Each start that finds some makes a folder of its own, `foreign/<number>`, and keeps their names
below it. What is moved is logged with its reason.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from synap.disk import sync_directory
from synap.errors import DataDirUnusable

logger = logging.getLogger(__name__)

# Another file system, as where log and data directory have a disk each, or one without links.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})


class Quarantine:
    """The folder for what one start puts aside, made when it is needed.

    Attributes:
        moved: What was put aside, as it was named before.
    """

    def __init__(self, directory: Path) -> None:
        """
        Args:
            directory: Holds the folders of all starts.
        """
        self._directory = directory
        self._folder: Path | None = None
        self.moved: list[Path] = []

    def take(self, paths: Iterable[Path], why: str) -> None:
        """Put files or a folder aside; together, so that a crash between them loses none.

        Raises:
            DataDirUnusable: they can't be moved.
        """
        paths = list(paths)
        try:
            targets = [(path, self._target_of(path)) for path in paths]
            for path, target in targets:
                if path.is_dir():
                    path.rename(target)
                else:
                    _have_also(path, target)
                sync_directory(target.parent)
            for path in paths:
                path.unlink(missing_ok=True)
                sync_directory(path.parent)
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
            self._directory.mkdir(exist_ok=True)
            taken = [int(each.name) for each in self._directory.iterdir() if each.name.isdigit()]
            self._folder = self._directory / f"{max(taken, default=0) + 1:04d}"
            self._folder.mkdir()
            sync_directory(self._directory)
            sync_directory(self._directory.parent)
        parent = self._folder / path.parent.name
        parent.mkdir(exist_ok=True)
        return parent / path.name


def _have_also(path: Path, target: Path) -> None:
    """Have the file at `path` also as `target`, whole: by another name for it, or by a copy."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        temporary = target.with_name(f"{target.name}.tmp")
        shutil.copy2(path, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(temporary, target)
