"""Small disks of a test's own, to be filled up or cut off; they want root and a kernel for it.

What can't be had here skips the test and names the reason. Mounts are made in a mount namespace of
the test run's own, so that nothing is left behind whatever becomes of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_CLONE_NEWNS = 0x0002_0000
_BLOCK_BYTES = 4096

_own_namespaces: set[int] = set()


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """Have an empty tmpfs of `size_bytes` at `place`."""
    _enter_own_namespace()
    place.mkdir(parents=True)
    _run_or_skip(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)])
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def ext4_on_loop(folder: Path, size_bytes: int) -> Iterator[Ext4OnLoop]:
    """Have an ext4 of its own in a file below `folder`, mounted."""
    _enter_own_namespace()
    disk = Ext4OnLoop(folder, size_bytes)
    try:
        disk.mount()
        yield disk
    finally:
        disk.close()


class Ext4OnLoop:
    """An ext4 file system on a loop device.

    Attributes:
        place: Where it is mounted.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.place = folder / "mounted"
        self.place.mkdir(parents=True)
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        _run_or_skip(["mkfs.ext4", "-q", "-m", "0", str(image)])
        self._device = _run_or_skip(["losetup", "--find", "--show", str(image)]).strip()

    def mount(self) -> None:
        """Mount it; after a cut this is the machine's next start, with the journal's replay."""
        _run_or_skip(["mount", "-t", "ext4", self._device, str(self.place)])

    def unmount(self) -> None:
        """Unmount it; nobody may have a file of it open."""
        subprocess.run(["umount", str(self.place)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", self._device], check=True)


def is_unmounted(disk: Ext4OnLoop) -> bool:
    """Unmount it, once what the killed node's supervisor was just starting is gone too."""
    try:
        disk.unmount()
    except subprocess.CalledProcessError:
        return False
    return True


def fill(folder: Path) -> Path:
    """Fill the disk of `folder` to its last block; return the file that holds the room.

    A file that is there already goes on growing.
    """
    ballast = folder / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (256 * _BLOCK_BYTES, _BLOCK_BYTES):
            with suppress_full_disk():
                while True:
                    os.write(file, bytes(size))
    finally:
        os.close(file)
    return ballast


@contextmanager
def suppress_full_disk() -> Iterator[None]:
    """End the block where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _enter_own_namespace() -> None:
    """Move this process, and what it starts from now on, to a mount namespace of its own."""
    if os.getpid() in _own_namespaces:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        reason = os.strerror(ctypes.get_errno())
        pytest.skip(f"no mount namespace of its own can be had here: {reason}")
    _run_or_skip(["mount", "--make-rprivate", "/"])
    _own_namespaces.add(os.getpid())


def _run_or_skip(command: Sequence[str]) -> str:
    with suppress(FileNotFoundError):
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode == 0:
            return run.stdout
        pytest.skip(f"{' '.join(command)} is refused here: {run.stderr.strip()}")
    pytest.skip(f"{command[0]} is not installed here")
