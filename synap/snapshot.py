"""Snapshots: the store at one offset as a file, with a manifest that proves it.

    snapshot_<offset>.bin     LMDB's image, compressed by Zstandard where the manifest says so
    snapshot_<offset>.json    the manifest

A snapshot appears by rename, after it was synced, read back and opened; a file without the other
one is none, and `clear_leftovers` removes it. Writing reads the store in a read transaction, so
that it holds up nobody; it takes a while and belongs into a process or a thread of its own.

LMDB is the store's business (`synap.store.image`), when a snapshot is due is `snapshot_rule`'s.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

import msgspec
import zstandard

from synap.durable import sync_directory
from synap.errors import DiskFull, SnapshotError, SnapshotInvalid, StoreError, StoreUnusable
from synap.files import NO_ROOM
from synap.position import Lineage, Position, Reign
from synap.store import ImageFacts, look_into
from synap.store.generations import DATA_FILE

FORMAT = 1

_CHUNK_BYTES = 1024 * 1024
# What is written is synced in such steps, so that the log's own syncs never wait for all of it.
_SYNC_BYTES = 16 * 1024 * 1024
# The fastest level that still halves typical values; a snapshot is read far less than written.
_ZSTD_LEVEL = 1
# Memory that an image may ask for to be unpacked; that level asks for a sixteenth.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
_NAME = re.compile(r"snapshot_(\d{20})\.(bin|json)")
_TEMPORARY = ".tmp"


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
    """

    lineage: Lineage
    position: Position
    time_ms: int
    created_ms: int
    keys: int
    bytes: int
    sha256: str
    compression: Literal["none", "zstd"] = "none"
    format: int = FORMAT
    plain_bytes: int = 0


class Imaged(Protocol):
    """What can be written as a snapshot. `synap.store.StoreReader` is one."""

    def copy_to(self, file: int) -> ImageFacts:
        """Write an image to an open file, and return what it holds."""


def snapshot_path(directory: Path, offset: int) -> Path:
    """Return the image's path; the manifest is beside it with the suffix .json."""
    return directory / f"snapshot_{offset:020d}.bin"


def write_snapshot(
    reader: Imaged, directory: Path, lineage: Lineage, *, compress: bool, now_ms: int
) -> Manifest:
    """Write, verify and put in place a snapshot of what `reader` shows.

    Args:
        directory: Exists; a snapshot of the same offset in it is replaced.
        lineage: That of the log.
        compress: By Zstandard.
        now_ms: Wall clock.

    Raises:
        DiskFull: there is no room; nothing changed.
        SnapshotError: it could not be written, or not be read back; nothing changed.
    """
    temporary = directory / f"snapshot.{os.getpid()}.bin{_TEMPORARY}"
    try:
        with temporary.open("wb", buffering=0) as file:
            manifest = _write_image(
                reader, file.fileno(), lineage, compress=compress, now_ms=now_ms
            )
        _verify(temporary, manifest)
        path = snapshot_path(directory, manifest.position.offset)
        _write_synced(_manifest_path(temporary), _encode(manifest))
        os.replace(_manifest_path(temporary), _manifest_path(path))
        os.replace(temporary, path)
        sync_directory(directory)
    except (OSError, StoreError, SnapshotError) as error:
        for each in (temporary, _manifest_path(temporary)):
            each.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise DiskFull("no room for a snapshot on the disk") from error
        raise SnapshotError(f"no snapshot could be written to {directory}: {error}") from error
    return manifest


def verify_snapshot(path: Path) -> Manifest:
    """Read all of the snapshot at `path` and return its manifest.

    A compressed one is unpacked beside itself for that time.

    Raises:
        SnapshotInvalid: size, checksum or position are not the manifest's, or it is no store.
    """
    manifest = read_manifest(path)
    try:
        _verify(path, manifest)
    except OSError as error:
        raise SnapshotInvalid(path, f"it can't be read: {error}") from error
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the snapshot at `path`, unchecked.

    Raises:
        SnapshotInvalid: there is none, or it is damaged.
    """
    try:
        content = _manifest_path(path).read_bytes()
        fields = msgspec.json.decode(content, type=_ManifestFile)
        if fields.format != FORMAT:
            raise SnapshotInvalid(path, f"its format {fields.format} is not known here")
        return _decode(fields)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise SnapshotInvalid(path, f"its manifest can't be read: {error}") from error


def snapshots(directory: Path) -> list[tuple[Path, Manifest]]:
    """Return the snapshots in `directory`, newest first, as their manifests tell.

    Only whether the image is there is looked at; `verify_snapshot` and `unpack_image` check it.
    """
    found = []
    for path in sorted(_images(directory), reverse=True):
        with suppress(SnapshotInvalid):
            found.append((path, read_manifest(path)))
    return found


def unpack_image(path: Path, manifest: Manifest, folder: Path) -> None:
    """Put the snapshot's image into `folder` as a live store, synced, and verify it on the way.

    Raises:
        SnapshotInvalid: size, checksum or position are not the manifest's.
        OSError: the disk refuses; the folder may hold a part.
    """
    data = folder / DATA_FILE
    with path.open("rb") as source, data.open("xb", buffering=0) as target:
        os.chmod(target.fileno(), 0o600)
        writer = _SteadyWriter(target.fileno())
        hashed = _Hashed(source)
        try:
            for chunk in _plain_chunks(hashed, manifest):
                if manifest.plain_bytes and writer.count + len(chunk) > manifest.plain_bytes:
                    raise SnapshotInvalid(
                        path, f"it unpacks to more than the {manifest.plain_bytes} bytes it should"
                    )
                writer.write(chunk)
        except zstandard.ZstdError as error:
            raise SnapshotInvalid(path, f"it can't be decompressed: {error}") from error
        _compare(path, manifest, hashed)
        os.fsync(target.fileno())
    _check_facts(path, manifest, data)
    sync_directory(folder)


def prune(directory: Path, keep: int) -> list[Path]:
    """Remove all but the `keep` newest snapshots; return the images that went."""
    removed = [path for path, _ in snapshots(directory)[keep:]]
    for path in removed:
        # In this order a crash leaves no manifest without its image, and no half of the set.
        _manifest_path(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    if removed:
        sync_directory(directory)
    return removed


def clear_leftovers(directory: Path) -> list[Path]:
    """Remove what an interrupted write or prune left behind; return it.

    For the owner of `directory`, while nothing is written there.
    """
    leftovers = [path for path in directory.iterdir() if _is_leftover(path)]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return leftovers


class ReceivedImage:
    """An image that comes in pieces, under a name that makes it no snapshot yet.

    What an interrupted process leaves of it is removed by `clear_leftovers`.

    Attributes:
        path: Where it is.
    """

    def __init__(self, directory: Path, size: int) -> None:
        """Begin one, with room for `size` bytes; one that was begun before goes.

        Raises:
            OSError: the disk refuses, or has no room for it.
        """
        self.path = directory / f"snapshot.received.bin{_TEMPORARY}"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._unsynced = 0
        try:
            # Better known now than after most of it has come.
            os.posix_fallocate(self._file, 0, size)
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
            written = os.pwrite(self._file, rest, at_byte)
            at_byte += written
            rest = rest[written:]
        self._unsynced += len(content)
        if self._unsynced >= _SYNC_BYTES:
            os.fdatasync(self._file)
            self._unsynced = 0

    def sync(self) -> None:
        """Make it durable."""
        os.fsync(self._file)

    def put_in_place(self, manifest: Manifest) -> Path:
        """Make a snapshot of it, which was verified and synced.

        Raises:
            OSError: the disk refuses.
        """
        directory = self.path.parent
        path = snapshot_path(directory, manifest.position.offset)
        _write_synced(_manifest_path(self.path), _encode(manifest))
        os.replace(_manifest_path(self.path), _manifest_path(path))
        os.replace(self.path, path)
        sync_directory(directory)
        self.close()
        return path

    def discard(self) -> None:
        """Remove it."""
        self.close()
        for path in (self.path, _manifest_path(self.path)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, which stays; twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _ManifestFile(msgspec.Struct):
    """The manifest as JSON: the bytes in hex, everything by name."""

    format: int
    lineage: list[tuple[int, str, int]]
    position: Position
    time_ms: int
    created_ms: int
    keys: int
    bytes: int
    sha256: str
    compression: Literal["none", "zstd"]
    plain_bytes: int = 0


def _encode(manifest: Manifest) -> bytes:
    fields = _ManifestFile(
        format=manifest.format,
        lineage=[(each.epoch, each.history.hex(), each.first_offset) for each in manifest.lineage],
        position=manifest.position,
        time_ms=manifest.time_ms,
        created_ms=manifest.created_ms,
        keys=manifest.keys,
        bytes=manifest.bytes,
        sha256=manifest.sha256,
        compression=manifest.compression,
        plain_bytes=manifest.plain_bytes,
    )
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


def _decode(fields: _ManifestFile) -> Manifest:
    return Manifest(
        format=fields.format,
        lineage=tuple(Reign(e, bytes.fromhex(history), o) for e, history, o in fields.lineage),
        position=fields.position,
        time_ms=fields.time_ms,
        created_ms=fields.created_ms,
        keys=fields.keys,
        bytes=fields.bytes,
        sha256=fields.sha256,
        compression=fields.compression,
        plain_bytes=fields.plain_bytes,
    )


def _write_image(
    reader: Imaged, file: int, lineage: Lineage, *, compress: bool, now_ms: int
) -> Manifest:
    """Write the image to `file`, synced, and return its manifest."""
    writer = _SteadyWriter(file)
    with _Copy(reader) as copy:
        plain = _Counted(copy.stream)
        for chunk in _chunks(plain, compress=compress):
            writer.write(chunk)
        facts = copy.facts()
    os.fsync(file)
    # What follows reads the disk, not the kernel's memory of it.
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
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
    """The image as a stream, written by a thread of its own; `facts` are there behind its end."""

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


def _verify(path: Path, manifest: Manifest) -> None:
    """Raise SnapshotInvalid unless the image at `path` is what the manifest says."""
    if manifest.compression == "none":
        with path.open("rb", buffering=0) as file:
            _compare(path, manifest, _Hashed(file))
        _check_facts(path, manifest, path)
        return
    folder = path.with_name(f"{path.name}.{os.getpid()}{_TEMPORARY}")
    folder.mkdir()
    try:
        unpack_image(path, manifest, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compare(path: Path, manifest: Manifest, hashed: _Hashed) -> None:
    """Read what is left of a file, and raise SnapshotInvalid unless it is the manifest's."""
    while hashed.read(_CHUNK_BYTES):
        pass
    if hashed.count != manifest.bytes:
        raise SnapshotInvalid(path, f"it has {hashed.count} bytes instead of {manifest.bytes}")
    if hashed.hash.hexdigest() != manifest.sha256:
        raise SnapshotInvalid(path, "its checksum does not match the manifest's")


def _check_facts(path: Path, manifest: Manifest, image: Path) -> None:
    try:
        facts = look_into(image)
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


class _Hashed:
    """Reads a file and hashes what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0
        self.hash = sha256()

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self.hash.update(chunk)
        self.count += len(chunk)
        return chunk


class _SteadyWriter:
    """Writes to a file, hashes that, and syncs it in steps."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._unsynced = 0
        self.count = 0
        self.hash = sha256()

    def write(self, chunk: bytes) -> None:
        self.hash.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self.count += len(chunk)
        self._unsynced += len(chunk)
        if self._unsynced >= _SYNC_BYTES:
            os.fdatasync(self._file)
            self._unsynced = 0


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _manifest_path(path: Path) -> Path:
    """Return the manifest's path for an image's, also for one under a temporary name."""
    if path.name.endswith(_TEMPORARY):
        return path.with_name(path.name.replace(".bin", ".json"))
    return path.with_suffix(".json")


def _images(directory: Path) -> list[Path]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [directory / name for name in names if _NAME.fullmatch(name) and name.endswith(".bin")]


def _is_leftover(path: Path) -> bool:
    if path.name.startswith("snapshot") and path.name.endswith(_TEMPORARY):
        return True
    other = path.with_suffix(".json" if path.suffix == ".bin" else ".bin")
    return bool(_NAME.fullmatch(path.name)) and not other.exists()
