"""A file of the run directory that all processes of a node map: the same memory for each.

It is made whole under another name, reserved and filled in, before anybody can open it: a mapped
hole would end a process by SIGBUS where the disk is full, and half a table would be misread. What
memory it is and who may write where is the business of those who map it.

The other way to share memory is a file for each process: see `claimed_file`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

from synap.disk import reserve
from synap.errors import DataDirUnusable


def map_node_file(path: Path, size: int, *, tail: bytes = b"") -> mmap.mmap:
    """Map the node's file, which is made where it is missing.

    One of another size is of another version of Synap, and is begun anew.

    Args:
        path: In the run directory.
        size: Of the file in bytes.
        tail: What a new file ends with; the rest is zeros.

    Raises:
        OSError: there is no room for it.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Of two processes that come at the same time, the second takes what the first has made.
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_size != size:
            _make(path, size, tail)
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(folder)
    try:
        return mmap.mmap(file, size)
    finally:
        os.close(file)


def map_needed_file(path: Path, size: int, *, tail: bytes = b"") -> mmap.mmap:
    """As `map_node_file`, for what a node can't do without.

    Raises:
        DataDirUnusable: there is no room for it.
    """
    try:
        return map_node_file(path, size, tail=tail)
    except OSError as error:
        raise DataDirUnusable(
            f"{path} can't be made: {error.strerror}; make room or set SYNAP_RUN_DIR"
        ) from error


def own_memory(size: int) -> mmap.mmap:
    """Return memory that this process shares with those that it forks, and nobody else."""
    return mmap.mmap(-1, size)


def _make(path: Path, size: int, tail: bytes) -> None:
    part = path.with_name(path.name + ".new")
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, size)
        reserve(file, size)
        os.pwrite(file, tail, size - len(tail))
        os.replace(part, path)
    except OSError:
        part.unlink()
        raise
    finally:
        os.close(file)
