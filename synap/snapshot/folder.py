"""The folder of snapshots: which files make one, how one appears there and how it goes.

    snapshot_<offset>.bin     LMDB's image, compressed by Zstandard where the manifest says so
    snapshot_<offset>.json    the manifest

A snapshot appears by rename, after it was synced and verified; a file without the other one is
none, and `clear_leftovers` removes it. What is in an image is `image`'s business.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from synap.disk import DISK, Files, remove_if_there, write_file, write_synced
from synap.errors import SnapshotInvalid
from synap.position import Lineage, Position, manifest_faults
from synap.sealed import sealed, unsealed

FORMAT = 1
# What is written is synced in such steps, so that the log's own syncs never wait for all of it.
SYNC_BYTES = 16 * 1024 * 1024
# Ends the names of what is no snapshot yet, all of which begin with "snapshot".
TEMPORARY = ".tmp"

# Some hundred, and a hundred for each reign.
_MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_NAME = re.compile(r"snapshot_(\d{20})\.(bin|json)")


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot is.

    Attributes:
        lineage: The reigns that its log went through.
        position: Where the log stood.
        time_ms: The master's wall clock in the last frame up to there.
        created_ms: Wall clock when the snapshot was written.
        keys: Stored keys.
        bytes: Size of the image's file.
        sha256: Of the image's file as it is stored, in hex.
        compression: How the image is compressed.
        format: Version of this layout.
        plain_bytes: Size of the image unpacked; 0 where an earlier version wrote it.
        checked: Each record of the image was looked at before it counted; false where an earlier
            version wrote it.
    """

    lineage: Lineage
    position: Position
    time_ms: int
    created_ms: int
    keys: int
    bytes: int
    sha256: str
    compression: Literal["none", "zstd"]
    format: int = FORMAT
    plain_bytes: int = 0
    checked: bool = False


def snapshot_path(directory: Path, offset: int) -> Path:
    """Return the image's path; the manifest is beside it with the suffix .json."""
    return directory / f"snapshot_{offset:020d}.bin"


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the snapshot at `path`, unchecked.

    Raises:
        SnapshotInvalid: there is none, or it is damaged.
    """
    try:
        manifest = unsealed(_content_of(_manifest_path(path)), Manifest)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise SnapshotInvalid(path, f"its manifest can't be read: {error}") from error
    if manifest.format != FORMAT:
        raise SnapshotInvalid(path, f"its format {manifest.format} is not known here")
    faults = manifest_faults(
        manifest.lineage, manifest.position, time_ms=manifest.time_ms,
        created_ms=manifest.created_ms, keys=manifest.keys, bytes=manifest.bytes,
        plain_bytes=manifest.plain_bytes,
    )  # fmt: skip
    if faults:
        raise SnapshotInvalid(path, f"its manifest lies: {'; '.join(faults)}")
    return manifest


def _content_of(path: Path) -> bytes:
    """Return what a manifest's file holds, bounded; a pipe would be waited for.

    Raises:
        OSError: it can't be read.
        ValueError: it is no file, or too long.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is no file")
    if facts.st_size > _MOST_MANIFEST_BYTES:
        raise ValueError(f"it has {facts.st_size} bytes")
    return path.read_bytes()


def snapshots(directory: Path) -> list[tuple[Path, Manifest]]:
    """Return the snapshots in `directory`, newest first, as their manifests tell.

    Only whether the image is there is looked at; `verify_snapshot` and `unpack_image` check it.
    """
    found = []
    for path in sorted(_images(directory), reverse=True):
        with suppress(SnapshotInvalid):
            found.append((path, read_manifest(path)))
    return found


def damaged_manifests(directory: Path) -> list[tuple[Path, str]]:
    """Return the images whose manifest is damaged, and what is wrong with each."""
    found = []
    for path in sorted(_images(directory)):
        try:
            unsealed(_manifest_path(path).read_bytes(), Manifest)
        except (ValueError, msgspec.DecodeError) as error:
            found.append((path, f"its manifest is damaged: {error}"))
        except OSError:
            continue
    return found


def name_snapshot(temporary: Path, manifest: Manifest, files: Files) -> None:
    """Make a snapshot of a verified and synced image under a temporary name.

    One of the same offset is replaced, and neither is there where that is cut off.

    Raises:
        OSError: the disk refuses.
    """
    path = snapshot_path(temporary.parent, manifest.position.offset)
    write_synced(_manifest_path(temporary), sealed(manifest), 0o644, files)
    files.rename(_manifest_path(temporary), _manifest_path(path))
    files.rename(temporary, path)
    files.sync_directory(path.parent)


def write_manifest(path: Path, manifest: Manifest, files: Files) -> None:
    """Replace the manifest of the snapshot at `path`, in one step.

    Raises:
        OSError: the disk refuses.
    """
    write_file(_manifest_path(path), sealed(manifest), files=files)


def discard(temporary: Path, files: Files = DISK) -> None:
    """Remove an image under a temporary name, and its manifest."""
    for path in (temporary, _manifest_path(temporary)):
        remove_if_there(path, files)


def prune(directory: Path, keep: int, files: Files = DISK) -> list[Path]:
    """Remove all but the `keep` newest snapshots; return the images that went."""
    removed = [path for path, _ in snapshots(directory)[keep:]]
    for path in removed:
        # In this order a crash leaves no manifest without its image, and no half of the set.
        remove_if_there(_manifest_path(path), files)
        remove_if_there(path, files)
    if removed:
        files.sync_directory(directory)
    return removed


def clear_leftovers(directory: Path, files: Files = DISK) -> list[Path]:
    """Remove what an interrupted write or prune left behind; return it.

    For the owner of `directory`, while nothing is written there.
    """
    leftovers = [path for path in directory.iterdir() if _is_leftover(path)]
    for path in leftovers:
        if path.is_dir():
            files.remove_tree(path)
        else:
            remove_if_there(path, files)
    return leftovers


class ReceivedImage:
    """An image that comes in pieces, under a name that makes it no snapshot yet.

    What an interrupted process leaves of it is removed by `clear_leftovers`.

    Attributes:
        path: Where it is.
    """

    def __init__(self, directory: Path, size: int, files: Files = DISK) -> None:
        """Begin one, with room for `size` bytes; one that was begun before goes.

        Raises:
            OSError: the disk refuses, or has no room for it.
        """
        self.path = directory / f"snapshot.received.bin{TEMPORARY}"
        self._files = files
        self._file = files.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._unsynced = 0
        try:
            # Better known now than after most of it has come.
            files.allocate(self._file, size)
        except OSError:
            self.discard()
            raise

    def write(self, at_byte: int, content: bytes) -> None:
        """Put a piece where it belongs.

        Raises:
            OSError: the disk refuses.
        """
        rest = memoryview(content)
        while rest:
            written = self._files.write_at(self._file, rest, at_byte)
            at_byte += written
            rest = rest[written:]
        self._unsynced += len(content)
        if self._unsynced >= SYNC_BYTES:
            self._files.sync_all(self._file)
            self._unsynced = 0

    def sync(self) -> None:
        """Make it durable."""
        self._files.sync_all(self._file)

    def discard(self) -> None:
        """Remove it."""
        self.close()
        discard(self.path, self._files)

    def close(self) -> None:
        """Close the file, which stays; twice does no harm."""
        if self._file >= 0:
            self._files.close(self._file)
            self._file = -1


def _manifest_path(path: Path) -> Path:
    """Return the manifest's path for an image's, also for one under a temporary name."""
    if path.name.endswith(TEMPORARY):
        return path.with_name(path.name.replace(".bin", ".json"))
    return path.with_suffix(".json")


def _images(directory: Path) -> list[Path]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [directory / name for name in names if _NAME.fullmatch(name) and name.endswith(".bin")]


def _is_leftover(path: Path) -> bool:
    if path.name.startswith("snapshot") and path.name.endswith(TEMPORARY):
        return True
    other = path.with_suffix(".json" if path.suffix == ".bin" else ".bin")
    return bool(_NAME.fullmatch(path.name)) and not other.exists()
