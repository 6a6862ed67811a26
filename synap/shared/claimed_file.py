"""Shared memory that one process at a time writes and every process of the node reads.

Numbered files of one size, `<name>-0`, `<name>-1` and so on, of which a process claims the first
that is free. The claim is a lock on the open file, which the kernel drops when the process ends,
however it ends. The next one finds what the last one left, so there are never more files than there
were processes at the same time, and nothing that was counted is lost.

The other way to share memory is one file that all map: see `node_file`.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from synap.disk import reserve
from synap.errors import SynapError
from synap.shared.node_file import own_memory

logger = logging.getLogger(__name__)

# More than Gunicorn has workers, with those of a reload that still drain.
_MOST_FILES = 1024


class ClaimedFile:
    """A file that belongs to this process until it is closed.

    Attributes:
        number: Which of the files it is.
        memory: Its content; zeros where nobody has written yet.
    """

    def __init__(self, folder: Path, name: str, size: int) -> None:
        """Claim the first free file and map it.

        Where the disk has no room for it, this process gets memory that nobody else sees: a node
        must start.

        Raises:
            SynapError: every number is taken.
        """
        for number in range(_MOST_FILES):
            path = folder / f"{name}-{number}"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._file)
                continue
            self.number = number
            self.memory = _map(self._file, path, size)
            return
        raise SynapError(f"all {_MOST_FILES} files {folder}/{name}-* are taken")

    def close(self) -> None:
        """Give it back; what it holds stays. Views of `memory` must be released before."""
        self.memory.close()
        os.close(self._file)


def claimed_paths(folder: Path, name: str) -> list[Path]:
    """Return the files of that name, those included that no process holds now."""
    return sorted(folder.glob(f"{name}-*"))


def forget_contents(folder: Path) -> None:
    """Remove all files of any name. For who knows that no process of the node runs."""
    for path in claimed_paths(folder, "*"):
        path.unlink(missing_ok=True)


def claimed_contents(folder: Path, name: str, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each of them, as it is now.

    One of another size is left out: another process makes it just now.
    """
    for path in claimed_paths(folder, name):
        content = path.read_bytes()
        if len(content) == size:
            yield int(path.name.rpartition("-")[2]), content


def _map(file: int, path: Path, size: int) -> mmap.mmap:
    try:
        if os.fstat(file).st_size != size:
            # Of another version of Synap: what it holds has another form.
            os.ftruncate(file, 0)
            os.ftruncate(file, size)
        reserve(file, size)
        return mmap.mmap(file, size)
    except OSError as error:
        logger.warning(
            "%s can't be shared (%s); what this process counts there is not shown", path,
            error.strerror, extra={"action": "claim"},
        )  # fmt: skip
        return own_memory(size)
