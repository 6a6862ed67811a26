"""The file calls that a node makes for what must survive, gathered so that a test can fail one.

Every method of `Files` is one system call or little more, and raises `OSError` as the call does;
what an error means is the caller's to say.

`write_file` makes small files that are there whole or not at all, also after a power cut: a
temporary name, fsync, rename, fsync of the folder. After "All File Systems Are Not Created Equal"
(OSDI 2014): a rename alone is not durable.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from synap.errors import DiskFull

# What the disk says when it has no room, for now or for this user or process.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# What the system says when this process, or all together, may open no more files for now.
NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
# Connections that took them are cut off within moments, so what must be opened is tried again.
_AGAIN_SECONDS = 5.0
_AGAIN_STEP_SECONDS = 0.01
# Buffers that one writev takes on Linux (IOV_MAX).
_MAX_BUFFERS = 1024


class Files:
    """The real thing; a test's subclass overrides the call that is to fail."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def make_new_directory(self, path: Path, mode: int = 0o777) -> None:
        path.mkdir(mode=mode)

    def names(self, directory: Path) -> list[str]:
        return os.listdir(directory)

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, file: int) -> None:
        os.close(file)

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def read(self, file: int, count: int, at: int) -> bytes:
        return os.pread(file, count, at)

    def write(self, file: int, buffers: Sequence[bytes | memoryview]) -> int:
        return os.writev(file, buffers)

    def write_at(self, file: int, content: bytes | memoryview, at: int) -> int:
        return os.pwrite(file, content, at)

    def allocate(self, file: int, size: int) -> None:
        os.posix_fallocate(file, 0, size)

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        """Make what the log wrote durable."""
        os.fdatasync(file)

    def sync_all(self, file: int) -> None:
        """Make a file of another kind durable, with what the file system knows of it."""
        os.fsync(file)

    def sync_directory(self, path: Path) -> None:
        sync_directory(path)

    def has_room(self, directory: Path, count: int) -> bool:
        return has_room(directory, count)

    def rename(self, source: Path, destination: Path) -> None:
        os.replace(source, destination)

    def link(self, path: Path, name: Path) -> None:
        """Give the file, or the symbolic link, at `path` another name."""
        os.link(path, name, follow_symlinks=False)

    def remove(self, path: Path) -> None:
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path)

    def link_target(self, link: Path) -> str | None:
        """Return what the symbolic link names, None where there is nothing.

        Raises:
            OSError: with EINVAL where `link` is no symbolic link.
        """
        try:
            return os.readlink(link)
        except FileNotFoundError:
            return None

    def point_link(self, link: Path, target: str) -> None:
        """Make `link` a symbolic link to `target`, in one step for whoever looks."""
        temporary = link.with_name(f"{link.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, link)


# The real disk: it knows no state.
DISK = Files()


def has_room(directory: Path, count: int) -> bool:
    """Say whether `count` bytes can be had in `directory` now, by having them for a moment.

    What the file system tells of its free blocks leaves out quotas.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, count)
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def bytes_left(*folders: Path) -> str:
    """Return how much room the folder has that has least, in words; empty where none tells."""
    found: list[tuple[int, Path]] = []
    for folder in folders:
        with suppress(OSError):
            found.append((shutil.disk_usage(folder).free, folder))
    return "{} bytes are left for {}".format(*min(found)) if found else ""


def no_room(folder: Path) -> DiskFull:
    """Return the error of a write that found no room, with what there is, and what may go."""
    left = bytes_left(folder)
    return DiskFull(
        f"The disk is full{': ' if left else ''}{left}; reads go on, and writes do when there is "
        "room. What is in foreign/ and diverged/ of the data directory may go, and what others "
        "keep on the disk"
    )


def reserve(file: int, size: int) -> None:
    """Give an open file of up to `size` bytes all its blocks, before anybody maps it.

    A mapped hole is filled when it is first written, and where the disk is full then, the process
    is ended by SIGBUS. Needs no room where the blocks are there already.

    Raises:
        OSError: there is no room.
    """
    # What is whole is left alone: without fallocate, the C library rewrites a byte of each block.
    if os.fstat(file).st_blocks * 512 < size:
        os.posix_fallocate(file, 0, size)


def write_whole(files: Files, file: int, buffers: Sequence[bytes]) -> None:
    """Append all of `buffers` to `file`, in one call unless the disk takes less.

    A regular file takes less than asked only where room ends; the next call then says why.

    Raises:
        OSError: a part may have been written.
    """
    if len(buffers) > _MAX_BUFFERS:
        buffers = [b"".join(buffers)]
    written = files.write(file, buffers)
    if written == sum(map(len, buffers)):
        return
    rest = memoryview(b"".join(buffers))[written:]
    while rest:
        written = files.write(file, [rest])
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def write_file(path: Path, content: bytes, mode: int = 0o644, files: Files = DISK) -> None:
    """Replace `path` by a file that holds `content`, atomically and durably.

    Raises:
        OSError: the old file is there, or the new one.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        write_synced(temporary, content, mode, files)
        files.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            files.remove(temporary)
        raise
    files.sync_directory(path.parent)


def write_synced(path: Path, content: bytes, mode: int, files: Files) -> None:
    """Write a file anew and make what is in it durable; its name is not."""
    file = opened(lambda: files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))
    try:
        write_whole(files, file, [content])
        files.sync_all(file)
    finally:
        files.close(file)


def remove_if_there(path: Path, files: Files) -> None:
    with suppress(FileNotFoundError):
        files.remove(path)


def write_all(file: int, content: bytes) -> None:
    """Write `content` to an open file or a pipe, in as many calls as it takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    folder = opened(lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def opened(open_file: Callable[[], int]) -> int:
    """Open what can't be done without, a little later where no more files may be open now."""
    deadline = time.monotonic() + _AGAIN_SECONDS
    while True:
        try:
            return open_file()
        except OSError as error:
            if error.errno not in NO_FILES or time.monotonic() >= deadline:
                raise
            time.sleep(_AGAIN_STEP_SECONDS)
