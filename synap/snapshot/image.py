"""Snapshots: the store at one offset as a file, with a manifest that proves it.

Writing reads the store in a read transaction, so that it holds up nobody; it takes a while and
belongs into a process or a thread of its own. What was written is read back and opened before it
counts.

LMDB is the store's business (`synap.store.image`), the files are `snapshot_folder`'s, and when a
snapshot is due is `snapshot_rule`'s.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import msgspec
import zstandard

from synap.disk import DISK, NO_ROOM, Files, write_whole
from synap.errors import DiskFull, SnapshotError, SnapshotInvalid, StoreError, StoreUnusable
from synap.position import Lineage
from synap.snapshot.apart import walk_apart
from synap.snapshot.folder import (
    SYNC_BYTES,
    TEMPORARY,
    Manifest,
    discard,
    name_snapshot,
    read_manifest,
    snapshot_path,
    write_manifest,
)
from synap.store import ImageFacts, check_image, look_into
from synap.store.generations import DATA_FILE

# Tells what an image holds, or that it is none.
Look = Callable[[Path], ImageFacts]

_CHUNK_BYTES = 1024 * 1024
# The fastest level that still halves typical values; a snapshot is read far less than written.
_ZSTD_LEVEL = 1
# Memory that an image may ask for to be unpacked; that level asks for a sixteenth.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024


class Imaged(Protocol):
    """What can be written as a snapshot. `synap.store.StoreReader` is one."""

    def copy_to(self, file: int) -> ImageFacts:
        """Write an image to an open file, and return what it holds."""


def write_snapshot(
    reader: Imaged,
    directory: Path,
    lineage: Lineage,
    *,
    compress: bool,
    now_ms: int,
    files: Files = DISK,
    look: Look = check_image,
) -> Manifest:
    """Write, verify and put in place a snapshot of what `reader` shows.

    Args:
        directory: Exists; a snapshot of the same offset in it is replaced.
        lineage: That of the log.
        compress: By Zstandard.
        now_ms: Wall clock.
        look: `walk_apart` where `reader` shows what comes from elsewhere.

    Raises:
        DiskFull: there is no room; nothing changed.
        SnapshotError: it could not be written, or not be read back; nothing changed.
    """
    temporary = directory / f"snapshot.{os.getpid()}.bin{TEMPORARY}"
    try:
        file = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            writer = _SteadyWriter(file, files)
            manifest = _write_image(reader, writer, lineage, compress=compress, now_ms=now_ms)
        finally:
            files.close(file)
        position = manifest.position
        if position.offset and position.epoch not in {reign.epoch for reign in lineage}:
            raise SnapshotError(f"epoch {position.epoch} began meanwhile; the next try names it")
        _verify(temporary, manifest, files, look)
        manifest = msgspec.structs.replace(manifest, checked=True)
        return put_in_place(temporary, manifest, files)
    except (OSError, StoreError, SnapshotError) as error:
        with suppress(OSError):
            discard(temporary, files)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise DiskFull("no room for a snapshot on the disk") from error
        raise SnapshotError(f"no snapshot could be written to {directory}: {error}") from error


def put_in_place(temporary: Path, manifest: Manifest, files: Files = DISK) -> Manifest:
    """Make a snapshot of a verified and synced image under a temporary name.

    Where there is a sound one of the same position already, its image stays, for two files can't be
    replaced in one step; only the manifest is new. One that is not sound, or of another history, is
    replaced.

    Returns:
        The manifest of what is there now.

    Raises:
        OSError: the disk refuses.
    """
    path = snapshot_path(temporary.parent, manifest.position.offset)
    same = _named_anew(path, manifest) if path.exists() else None
    if same is None:
        name_snapshot(temporary, manifest, files)
        return manifest
    write_manifest(path, same, files)
    discard(temporary, files)
    return same


def _named_anew(path: Path, manifest: Manifest) -> Manifest | None:
    """Return `manifest` for the image at `path`; None where that is of no use for it."""
    try:
        held = verify_snapshot(path)
    except SnapshotInvalid:
        return None
    if held.position != manifest.position:
        return None
    return msgspec.structs.replace(
        manifest, bytes=held.bytes, sha256=held.sha256,
        compression=held.compression, plain_bytes=held.plain_bytes, checked=True,
    )  # fmt: skip


def verify_snapshot(path: Path) -> Manifest:
    """Read all of the snapshot at `path`, whoever wrote it, and return its manifest.

    A compressed one is unpacked beside itself for that time.

    Raises:
        SnapshotInvalid: size, checksum or position are not the manifest's, or it is no store.
    """
    manifest = read_manifest(path)
    try:
        _verify(path, manifest, DISK, walk_apart)
    except OSError as error:
        raise SnapshotInvalid(path, f"it can't be read: {error}") from error
    return manifest


def unpack_image(
    path: Path,
    manifest: Manifest,
    folder: Path,
    files: Files = DISK,
    *,
    look: Look | None = None,
) -> None:
    """Put the snapshot's image into `folder` as a live store, synced, and verify it on the way.

    Args:
        look: `walk_apart` where the image comes from elsewhere; by default each record is looked
            at unless that was done when the snapshot was taken.

    Raises:
        SnapshotInvalid: size, checksum or position are not the manifest's.
        OSError: the disk refuses; the folder may hold a part.
    """
    data = folder / DATA_FILE
    target = files.open(data, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with path.open("rb") as source:
            writer = _SteadyWriter(target, files)
            _unpack(path, manifest, source, writer, _most_plain_bytes(manifest, folder))
    finally:
        files.close(target)
    _check_facts(path, manifest, data, look or (look_into if manifest.checked else check_image))
    files.sync_directory(folder)


def _unpack(
    path: Path, manifest: Manifest, source: BinaryIO, writer: _SteadyWriter, most_bytes: int
) -> None:
    hashed = _Hashed(source)
    try:
        for chunk in _plain_chunks(hashed, manifest):
            if writer.count + len(chunk) > most_bytes:
                raise SnapshotInvalid(
                    path, f"it unpacks to more than the {most_bytes} bytes it should"
                )
            writer.write(chunk)
    except zstandard.ZstdError as error:
        raise SnapshotInvalid(path, f"it can't be decompressed: {error}") from error
    _compare(path, manifest, hashed)
    writer.sync()


def _most_plain_bytes(manifest: Manifest, folder: Path) -> int:
    """Return how long the unpacked image may be: what its manifest says, if there is room."""
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if manifest.plain_bytes > free_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return manifest.plain_bytes or free_bytes // 2


def _write_image(
    reader: Imaged, writer: _SteadyWriter, lineage: Lineage, *, compress: bool, now_ms: int
) -> Manifest:
    """Write the image, synced, and return its manifest."""
    with _Copy(reader) as copy:
        plain = _Counted(copy.stream)
        for chunk in _chunks(plain, compress=compress):
            writer.write(chunk)
        facts = copy.facts()
    writer.sync()
    # What follows reads the disk, not the kernel's memory of it.
    os.posix_fadvise(writer.file, 0, 0, os.POSIX_FADV_DONTNEED)
    return Manifest(
        lineage=lineage,
        position=facts.applied.position,
        time_ms=facts.applied.time_ms,
        created_ms=now_ms,
        keys=facts.keys,
        bytes=writer.count,
        sha256=writer.hash.hexdigest(),
        compression="zstd" if compress else "none",
        plain_bytes=plain.count,
    )


def _chunks(stream: _Counted, *, compress: bool) -> Iterator[bytes]:
    if compress:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        source = cast(BinaryIO, stream)
        return iter(compressor.read_to_iter(source, write_size=_CHUNK_BYTES))
    return iter(lambda: stream.read(_CHUNK_BYTES), b"")


class _Copy:
    """The image as a stream, written by a thread of its own; `facts` are there after its end."""

    def __init__(self, reader: Imaged) -> None:
        self._reader = reader
        self._failure: StoreError | None = None
        read_end, self._write_end = os.pipe()
        fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
        self.stream: BinaryIO = open(read_end, "rb", buffering=0)  # noqa: SIM115
        self._thread = threading.Thread(target=self._run, name="snapshot-copy")

    def __enter__(self) -> _Copy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # First the stream: a copy that nobody reads any more then fails, and ends.
        self.stream.close()
        self._thread.join()

    def facts(self) -> ImageFacts:
        """Return what the image holds; wait for its end, which the stream has reached.

        Raises:
            StoreError: it is not whole.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._facts

    def _run(self) -> None:
        try:
            self._facts = self._reader.copy_to(self._write_end)
        except StoreError as error:
            self._failure = error
        finally:
            os.close(self._write_end)


def _verify(path: Path, manifest: Manifest, files: Files, look: Look) -> None:
    """Raise SnapshotInvalid unless the image at `path` is what the manifest says."""
    if manifest.compression == "none":
        with path.open("rb", buffering=0) as file:
            _compare(path, manifest, _Hashed(file))
        _check_facts(path, manifest, path, look)
        return
    folder = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    files.make_new_directory(folder)
    try:
        unpack_image(path, manifest, folder, files, look=look)
    finally:
        with suppress(OSError):
            files.remove_tree(folder)


def _compare(path: Path, manifest: Manifest, hashed: _Hashed) -> None:
    """Read what is left of a file, and raise SnapshotInvalid unless it is the manifest's."""
    while hashed.read(_CHUNK_BYTES):
        pass
    if hashed.count != manifest.bytes:
        raise SnapshotInvalid(path, f"it has {hashed.count} bytes instead of {manifest.bytes}")
    if hashed.hash.hexdigest() != manifest.sha256:
        raise SnapshotInvalid(path, "its checksum does not match the manifest's")


def _check_facts(path: Path, manifest: Manifest, image: Path, look: Look) -> None:
    try:
        facts = look(image)
    except StoreUnusable as error:
        raise SnapshotInvalid(path, error.message) from error
    if facts.applied.position != manifest.position:
        raise SnapshotInvalid(
            path, f"it stands at {facts.applied.position}, its manifest says {manifest.position}"
        )


def _plain_chunks(source: _Hashed, manifest: Manifest) -> Iterator[bytes]:
    if manifest.compression == "none":
        return iter(lambda: source.read(_CHUNK_BYTES), b"")
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    return iter(decompressor.read_to_iter(cast(BinaryIO, source), write_size=_CHUNK_BYTES))


class _Counted:
    """Reads a stream and counts what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self.count += len(chunk)
        return chunk


class _Hashed(_Counted):
    """Reads a stream, and counts and hashes what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.hash = sha256()

    def read(self, size: int) -> bytes:
        chunk = super().read(size)
        self.hash.update(chunk)
        return chunk


class _SteadyWriter:
    """Writes to a file, hashes that, and syncs it in steps."""

    def __init__(self, file: int, files: Files) -> None:
        self.file = file
        self._files = files
        self._unsynced = 0
        self.count = 0
        self.hash = sha256()

    def write(self, chunk: bytes) -> None:
        self.hash.update(chunk)
        write_whole(self._files, self.file, [chunk])
        self.count += len(chunk)
        self._unsynced += len(chunk)
        if self._unsynced >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        self._files.sync_all(self.file)
        self._unsynced = 0
