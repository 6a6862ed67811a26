"""Which mount a file lies in: what it says after an unmount is another thing than before.

Pages that the kernel had not written yet go with the file system when its disk is detached, or it
is unmounted after an error. Device and inode are the same again after the next mount, and so is the
kernel's boot; the number of the mount is not.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_STATX_BYTES = 256
_MASK_AT = 0
_MOUNT_AT = 144
# Of the kernel, from 5.8 and from 6.8 on; the latter's numbers are never used again.
_STATX_MNT_ID = 0x1000
_STATX_MNT_ID_UNIQUE = 0x4000
_MOUNTS = Path("/proc/self/mountinfo")


def mount_of(path: Path) -> str:
    """Return what names the mount of `path` and its file system; empty where that is unknown.

    Where the kernel knows no unique number, another mount in the place of one that has gone may
    have its name.

    Raises:
        OSError: `path` is not there.
    """
    number = _mount_number(path)
    # A file system without an id of its own tells 0.
    return f"{number} {os.statvfs(path).f_fsid:x}" if number else ""


def _mount_number(path: Path) -> str:
    for mask in (_STATX_MNT_ID_UNIQUE, _STATX_MNT_ID):
        number = _asked(path, mask)
        if number is not None:
            return f"{'unique' if mask == _STATX_MNT_ID_UNIQUE else 'reused'} {number}"
    return _listed(os.stat(path).st_dev)


def _asked(path: Path, mask: int) -> int | None:
    """Ask the kernel for the mount's number; None where the C library or the kernel can't tell."""
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if statx is None:
        return None
    facts = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(path), 0, mask, facts):
        return None
    told = int.from_bytes(facts.raw[_MASK_AT : _MASK_AT + 4], "little")
    return int.from_bytes(facts.raw[_MOUNT_AT : _MOUNT_AT + 8], "little") if told & mask else None


def _listed(device: int) -> str:
    """Return the numbers of the mounts of a device, as this process sees them."""
    named = f"{os.major(device)}:{os.minor(device)}"
    try:
        rows = [line.split() for line in _MOUNTS.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    numbers = [row[0] for row in rows if len(row) > 2 and row[2] == named]
    return f"listed {' '.join(sorted(numbers))}" if numbers else ""
