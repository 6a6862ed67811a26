"""The folders of the live store, which of them is in use, and whether its pages can be trusted.

    <root>/CURRENT                 names the generation in use: 8 digits and, in hex, their CRC-32
    <root>/<8 digits>/data.mdb     LMDB's pages
    <root>/<8 digits>/born         empty; its time of creation can't be copied
    <root>/<8 digits>/marker.json  where and under which kernel the pages were last written

LMDB runs without syncs of its own, so that its pages are whole only as long as the kernel that
holds them runs, and their file system stays mounted, or after a clean stop. A copy of a live store
may hold pages of different moments. The marker tells all of it. It is written in place, so that a
start on a full disk needs no free byte.

Knows nothing of LMDB. The store and, before it opens one, the log's owner call it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import msgspec

from synap.disk import DISK, Files, write_file
from synap.errors import StoreUnusable
from synap.sealed import sealed, unsealed
from synap.store.mounts import mount_of

DATA_FILE = "data.mdb"
_CURRENT = "CURRENT"
_SET_ASIDE = "CURRENT.set-aside"
_MARKER = "marker.json"
_BORN = "born"
_FOLDER = re.compile(r"[0-9]{8}")
# Versions before wrote no checksum.
_POINTER = re.compile(rb"([0-9]{8})(?: ([0-9a-f]{8}))?\n?")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOUNTED_ANEW = "its file system was mounted anew without a clean stop of the node"
"""As below: pages that were not written yet went with the mount."""
MACHINE_RESTARTED = "the machine was restarted without a clean stop of the node"
"""Why a store is not trusted that is at home where it lies."""
NO_STORE = "there is no store yet"
"""Why there is nothing to trust on a new node."""
# One sector: an overwrite in place is there whole or not at all.
_MARKER_BYTES = 512


class Marker(msgspec.Struct, frozen=True):
    """Where the pages are at home.

    Attributes:
        boot_id: The kernel's boot under which they were last written; empty where unknown.
        device: The file system of the data file.
        inode: The data file's number there. A restored copy can get the number of the file that
            it replaces, hence `born_ns`.
        born_ns: Time of creation of the generation's `born` file, which no copy keeps.
        clean: Whether everything was synced and nothing written since.
        mount: The mount through which they were written, and its file system; empty where unknown.
    """

    boot_id: str
    device: int
    inode: int
    born_ns: int
    clean: bool
    mount: str = ""


def folder_of(root: Path, generation: int) -> Path:
    """Return the folder of a generation, which need not exist."""
    return root / f"{generation:08d}"


def current(root: Path) -> int | None:
    """Return the generation in use; None where there is none yet.

    Raises:
        StoreUnusable: CURRENT can't be read, or names a generation that is not there.
    """
    try:
        content = (root / _CURRENT).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnusable(f"{root / _CURRENT} can't be read: {error}") from error
    generation = _named(content)
    if generation is None or not is_there(root, generation):
        raise StoreUnusable(
            f"{root / _CURRENT} names {content[:32]!r}, which is no generation in {root}"
        )
    return generation


def came_in_use_ns(root: Path) -> int:
    """Return when (wall clock) the generation in use came in use.

    Raises:
        OSError: that can't be looked up.
    """
    return os.stat(root / _CURRENT).st_mtime_ns


def folder_in_use(root: Path) -> Path:
    """Return the folder of the generation in use.

    Raises:
        StoreUnusable: as `current`, and where there is none yet.
    """
    generation = current(root)
    if generation is None:
        raise StoreUnusable(f"there is no live store in {root} yet")
    return folder_of(root, generation)


def add(root: Path, files: Files = DISK) -> Path:
    """Make the folder of a new generation, above all others, which is not in use yet.

    Raises:
        StoreUnusable: it can't be made, for want of room or of permission.
    """
    try:
        files.make_directory(root)
        # Also above one that is gone: whoever has it open must see that this is another one.
        folder = folder_of(root, max([*_generations(root), _last_current(root)]) + 1)
        files.make_new_directory(folder, 0o700)
        try:
            files.close(files.open(folder / _BORN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            files.sync_directory(folder)
            files.sync_directory(root)
        except OSError:
            with suppress(OSError):
                files.remove_tree(folder)
            raise
    except OSError as error:
        raise StoreUnusable(f"no live store can be made in {root}: {error}") from error
    return folder


def held(root: Path) -> list[Path]:
    """Return the folder in use; where CURRENT is damaged, all that may be it."""
    try:
        return [folder_in_use(root)] if (root / _CURRENT).exists() else []
    except StoreUnusable:
        folders = [folder_of(root, generation) for generation in _generations(root)]
        return [folder for folder in folders if (folder / DATA_FILE).exists()]


def is_pointer_damaged(root: Path) -> bool:
    """Say whether CURRENT is there and names nothing, so that the store may be any generation."""
    return (root / _CURRENT).exists() and not _last_current(root)


def is_there(root: Path, generation: int) -> bool:
    """Say whether a generation has a data file."""
    return (folder_of(root, generation) / DATA_FILE).exists()


def make_current(root: Path, generation: int, files: Files = DISK) -> None:
    """Put a generation in use, durably; what it holds must be durable already."""
    number = b"%08d" % generation
    write_file(root / _CURRENT, b"%s %08x\n" % (number, crc32(number)), files=files)


def set_aside(root: Path, files: Files = DISK) -> bool:
    """Put the generation in use out of use, durably; its folder stays until the next one is.

    Returns:
        Whether there was one.
    """
    try:
        files.rename(root / _CURRENT, root / _SET_ASIDE)
    except FileNotFoundError:
        return False
    files.sync_directory(root)
    return True


def prune(root: Path, files: Files = DISK) -> list[int]:
    """Remove every generation but the one in use, and return their numbers.

    Processes that have one of them open keep what they have.
    """
    kept = current(root)
    removed = [generation for generation in _generations(root) if generation != kept]
    for generation in removed:
        files.remove_tree(folder_of(root, generation))
    return removed


def clear_unused(root: Path, files: Files = DISK) -> None:
    """Remove the generations that an interrupted or failed rebuild left behind.

    What is in use stays, and what was set aside until something is; all of it where CURRENT names
    nothing that is there, or what was set aside can't be told.
    """
    in_use, put_out = _last_current(root), _number_in(root / _SET_ASIDE)
    if (root / _CURRENT).exists() and not is_there(root, in_use):
        return
    if (root / _SET_ASIDE).exists() and not put_out:
        return
    kept = {in_use, put_out}
    for generation in _generations(root):
        if generation not in kept:
            files.remove_tree(folder_of(root, generation))


def mark(folder: Path, *, clean: bool, boot_id: str | None = None, files: Files = DISK) -> None:
    """Write the generation's marker for here and now, durably.

    Without `clean` this comes before the first page that is written, with it after the last sync.

    Raises:
        StoreUnusable: the disk refuses.
    """
    try:
        marker = Marker(
            _boot_id() if boot_id is None else boot_id, *_place(folder), clean, mount_of(folder)
        )
        content = sealed(marker).ljust(_MARKER_BYTES - 1) + b"\n"
        _overwrite(folder / _MARKER, content, files)
    except OSError as error:
        raise StoreUnusable(f"the marker in {folder} can't be written: {error}") from error


def is_trusted(root: Path, boot_id: str | None = None) -> tuple[bool, str]:
    """Say whether the pages of the generation in use are whole, and why.

    They are where nothing was copied or moved, and either the machine has been running since they
    were written, with their file system mounted all the time, or the last stop was a clean one.

    Args:
        boot_id: The kernel's boot, by default the running one.
    """
    try:
        generation = current(root)
    except StoreUnusable as error:
        return False, error.message
    if generation is None:
        return False, NO_STORE
    folder = folder_of(root, generation)
    try:
        marker = unsealed((folder / _MARKER).read_bytes(), Marker)
        device, inode, born_ns = _place(folder)
        mount = mount_of(folder)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return False, f"the store's marker can't be read: {error}"
    if marker.device != device:
        return False, "the store was copied here from another file system"
    if marker.inode != inode or marker.born_ns != born_ns:
        return False, "the store was copied here"
    if marker.clean:
        return True, "the last stop was clean"
    now = _boot_id() if boot_id is None else boot_id
    if not now or marker.boot_id != now:
        return False, MACHINE_RESTARTED
    # Versions before wrote none.
    if marker.mount and marker.mount != mount:
        return False, MOUNTED_ANEW
    return True, "the machine has been running since the last write"


def place_of(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells the generation's files from a copy that took their place; None if lost."""
    try:
        return _place(folder)
    except OSError:
        return None


def _overwrite(path: Path, content: bytes, files: Files) -> None:
    if not path.exists() or path.stat().st_size != _MARKER_BYTES:
        write_file(path, content, mode=0o600, files=files)
        return
    file = files.open(path, os.O_WRONLY)
    try:
        files.write_at(file, content, 0)
        files.sync_all(file)
    finally:
        files.close(file)


def _last_current(root: Path) -> int:
    """Return the number in CURRENT, whether the generation is there or not; 0 for none."""
    return _number_in(root / _CURRENT)


def _number_in(path: Path) -> int:
    try:
        return _named(path.read_bytes()) or 0
    except OSError:
        return 0


def _named(content: bytes) -> int | None:
    """Return the generation that a file like CURRENT names; None where it is damaged."""
    match = _POINTER.fullmatch(content)
    if match is None or (match[2] is not None and crc32(match[1]) != int(match[2], 16)):
        return None
    return int(match[1])


def _generations(root: Path) -> list[int]:
    return sorted(int(path.name) for path in root.iterdir() if _FOLDER.fullmatch(path.name))


def _place(folder: Path) -> tuple[int, int, int]:
    data = os.stat(folder / DATA_FILE)
    return data.st_dev, data.st_ino, os.stat(folder / _BORN).st_ctime_ns


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
