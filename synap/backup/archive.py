"""A backup: one consistent image of the store, with its manifest, in one file or stream.

    at              size  field
     0                 8  magic "SYNAPBAK"
     8                 4  version, 1; little-endian
    12                 4  length M of the manifest; little-endian
    16                 M  the manifest, JSON
    16 + M             B  the image, `bytes` in the manifest
    16 + M + B         8  magic "SYNAPEND"
    24 + M + B        32  the checksum: SHA-256 of all that is before "SYNAPEND"

`docs/backup-format.md` describes it for other programs. Taking one copies the store into an unnamed
file, so that nothing is left behind whatever ends it, and takes the digest of that very copy.
`backup_client` fetches one, `restore` makes a data directory of it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, get_args

import msgspec

from synap import __version__
from synap.disk import NO_ROOM, write_all
from synap.errors import BackupError, BackupInvalid, DiskFull, StoreError, StoreUnusable
from synap.node.identity import NodeIdentity, Role, read_identity
from synap.position import Lineage, Position, decode_json, encode_json, manifest_faults
from synap.store import Applied, ImageFacts, digest_image

MAGIC = b"SYNAPBAK"
END_MAGIC = b"SYNAPEND"
VERSION = 1
FORMAT = 1

_HEAD = struct.Struct("<8sII")
_SHA256 = re.compile("[0-9a-f]{64}")
_TRAILER_BYTES = len(END_MAGIC) + hashlib.sha256().digest_size
# A manifest has some hundred bytes, and some dozen more for each reign; a length that lies is seen.
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
# What stays free beside the copy, so that a backup is never what stops the node's writes.
_SPARE_BYTES = 16 * 1024 * 1024


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is.

    Attributes:
        node_id: The id of the node's data directory.
        node_name: Its `server.node_id`.
        role: Its role.
        lineage: The reigns that its log went through, up to the position.
        position: Where the log stood.
        time_ms: The master's wall clock in the last frame up to there; 0 without any.
        created_ms: Wall clock when the backup was taken.
        keys: Stored keys.
        bytes: Size of the image.
        sha256: Of the image, in hex.
        digest: What `GET /digest` answered on every node at that offset.
        version: The program that took it.
        format: Version of the manifest's layout.
    """

    node_id: str
    node_name: str
    role: str
    lineage: Lineage
    position: Position
    time_ms: int
    created_ms: int
    keys: int
    bytes: int
    sha256: str
    digest: str
    version: str
    format: int


class Source(Protocol):
    """What a backup is taken of. `synap.store.StoreReader` is one."""

    def copy_to(self, file: int) -> ImageFacts:
        """Write an image to an open file, and return what it holds."""

    def used_bytes(self) -> int:
        """Return about how long the image will be."""


class Backup:
    """A backup that was taken, read from its beginning to its end.

    Its file has no name: it is gone when it is closed, or with the process.

    Attributes:
        manifest: What it is.
        checksum: That of its trailer, in hex.
        total_bytes: Its length with head and trailer.
    """

    def __init__(self, file: BinaryIO, manifest: BackupManifest, lock: int | None = None) -> None:
        """
        Args:
            file: The image; the backup closes it.
            lock: A descriptor that is closed with it.
        """
        # A reader may sit in another thread when it is closed.
        self._guard = threading.Lock()
        self._file = file
        self._lock: int | None = None
        self.manifest = manifest
        head = _encode_head(manifest)
        checksum = _hash(file, hashlib.sha256(head))
        self.checksum = checksum.hexdigest()
        self.total_bytes = len(head) + manifest.bytes + _TRAILER_BYTES
        self._chunks = self._read(head, END_MAGIC + checksum.digest())
        self._lock = lock

    def __del__(self) -> None:
        self.close()

    def next_chunk(self) -> bytes:
        """Return the next bytes; b"" after the last ones.

        Raises:
            OSError, ValueError: the file can't be read, or is closed.
        """
        with self._guard:
            return next(self._chunks, b"")

    def close(self) -> None:
        """Give back the room on the disk; twice does no harm."""
        with self._guard:
            self._file.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _read(self, head: bytes, trailer: bytes) -> Iterator[bytes]:
        yield head
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk
        yield trailer


def take_backup(
    source: Source, directory: Path, node_file: Path, node_name: str, now_ms: int, lock: int | None
) -> Backup:
    """Copy the store and return the backup. It takes a while: for a thread of its own.

    Args:
        source: The store.
        directory: Where the unnamed file is made.
        node_file: The node's `node.json`.
        node_name: The node's `server.node_id`.
        now_ms: Wall clock.
        lock: A descriptor that the backup closes when it is closed; where this raises, the caller.

    Raises:
        DiskFull: there is no room for the copy.
        StoreError: the store can't be read.
        DataDirUnusable: `node.json` is damaged.
    """
    try:
        _check_room(directory, source.used_bytes())
        # Where the file system has no unnamed files it has this name for a moment; a node that
        # starts removes such files from its snapshots' folder.
        file: BinaryIO = tempfile.TemporaryFile(  # noqa: SIM115
            buffering=0, dir=directory, prefix="snapshot.backup.", suffix=".tmp"
        )
        try:
            facts = source.copy_to(file.fileno())
            manifest = _manifest_of(file, facts, read_identity(node_file), node_name, now_ms)
            return Backup(file, manifest, lock)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"no room for a backup's copy of the store in {directory}") from error
        raise StoreError(f"no backup can be taken in {directory}: {error}") from error


def read_manifest(path: Path) -> BackupManifest:
    """Return the manifest of the backup at `path`; of the rest only the length is looked at.

    Raises:
        BackupInvalid: it is no backup, or cut off.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        manifest, head_bytes = _read_head(path, file)
        size = os.fstat(file.fileno()).st_size
    expected = head_bytes + manifest.bytes + _TRAILER_BYTES
    if size != expected:
        raise BackupInvalid(path, f"it has {size} bytes instead of {expected}")
    return manifest


def verify_backup(path: Path) -> tuple[BackupManifest, str]:
    """Read all of the backup at `path`; return its manifest and checksum.

    Raises:
        BackupInvalid: it is not whole, or its checksum does not match.
        OSError: it can't be read.
    """
    read_manifest(path)
    with path.open("rb") as file:
        manifest, head_bytes = _read_head(path, file)
        file.seek(0)
        state = hashlib.sha256(file.read(head_bytes))
        image = hashlib.sha256()
        for chunk in _image_chunks(file, manifest.bytes):
            state.update(chunk)
            image.update(chunk)
        trailer = file.read()
    if trailer != END_MAGIC + state.digest():
        raise BackupInvalid(path, "its checksum does not match")
    if image.hexdigest() != manifest.sha256:
        raise BackupInvalid(path, "the image's checksum does not match the manifest's")
    return manifest, state.hexdigest()


def shown_time(time_ms: int) -> str:
    """Return a wall clock in ms since 1970 for people, with its zone."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "no time of this calendar"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_backup(path: Path) -> bool:
    """Whether the file at `path` begins as a backup does.

    Raises:
        BackupError: it is no file: reading a pipe may never end.
        OSError: it can't be read.
    """
    if not path.is_file():
        # What is not there says so.
        path.stat()
        raise BackupError(f"{path} is no file")
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def look_into_backup(path: Path, look: Callable[[Path], ImageFacts]) -> BackupManifest:
    """Look at the image in the backup at `path`, beside it and without a name; return its manifest.

    Args:
        path: A backup that was verified.
        look: Returns what an image holds.

    Raises:
        BackupInvalid: the image is no store, or not what the manifest says.
        OSError: there is no room for it.
    """
    manifest = read_manifest(path)
    with tempfile.TemporaryFile(buffering=0, dir=path.absolute().parent) as file:
        StoredImage(path).copy_to(file.fileno())
        # A child of `look` has descriptors of its own.
        image = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        try:
            facts = look(image)
        except StoreUnusable as error:
            raise BackupInvalid(path, f"its image is no sound store: {error.message}") from error
    if (facts.applied.position, facts.keys) != (manifest.position, manifest.keys):
        raise BackupInvalid(
            path, f"its image stands at {facts.applied.position} with {facts.keys} keys, and its "
            f"manifest says {manifest.position} and {manifest.keys}",
        )  # fmt: skip
    return manifest


class StoredImage:
    """The image in a backup's file; what `synap.snapshot.image.write_snapshot` takes."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            BackupInvalid: it is no whole backup.
        """
        self._path = path
        self._manifest = read_manifest(path)

    def copy_to(self, file: int) -> ImageFacts:
        """Write the image to `file`.

        Raises:
            StoreError: it can't be read or written.
        """
        manifest = self._manifest
        try:
            with self._path.open("rb") as source:
                _read_head(self._path, source)
                for chunk in _image_chunks(source, manifest.bytes):
                    write_all(file, chunk)
        except (OSError, BackupInvalid) as error:
            raise StoreError(f"the image in {self._path} can't be copied: {error}") from error
        return ImageFacts(Applied(manifest.position, 0, 0, manifest.time_ms), manifest.keys)


def _manifest_of(
    file: BinaryIO, facts: ImageFacts, node: NodeIdentity, node_name: str, now_ms: int
) -> BackupManifest:
    size = os.fstat(file.fileno()).st_size
    seen, digest = digest_image(Path(f"/proc/self/fd/{file.fileno()}"))
    if seen != facts:
        raise StoreError(f"the copy stands at {seen.applied}, the store was at {facts.applied}")
    position = facts.applied.position
    return BackupManifest(
        node_id=node.id,
        node_name=node_name,
        role=node.role,
        # The node may have gone on since the copy was made.
        lineage=tuple(r for r in node.lineage if r.first_offset <= position.offset + 1),
        position=position,
        time_ms=facts.applied.time_ms,
        created_ms=now_ms,
        keys=facts.keys,
        bytes=size,
        sha256=_hash(file, hashlib.sha256()).hexdigest(),
        digest=digest,
        version=__version__,
        format=FORMAT,
    )


def _check_room(directory: Path, needed_bytes: int) -> None:
    disk = os.statvfs(directory)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < needed_bytes + _SPARE_BYTES:
        raise DiskFull(
            f"a backup needs about {needed_bytes} bytes in {directory} for as long as it takes, "
            f"and {_SPARE_BYTES} beside them; {free_bytes} are free"
        )


def _hash(file: BinaryIO, state: hashlib._Hash) -> hashlib._Hash:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        state.update(chunk)
    return state


def _encode_head(manifest: BackupManifest) -> bytes:
    content = encode_json(manifest)
    return _HEAD.pack(MAGIC, VERSION, len(content)) + content


def _read_head(path: Path, file: BinaryIO) -> tuple[BackupManifest, int]:
    """Return the manifest and the length of what is before the image, where the file then is."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise BackupInvalid(path, "it does not begin as one")
    _, version, length = _HEAD.unpack(head)
    if version != VERSION:
        raise BackupInvalid(path, f"its version {version} is not known to this program")
    if length > _MAX_MANIFEST_BYTES:
        raise BackupInvalid(path, "its manifest can't be read: it is too long")
    try:
        manifest = decode_json(file.read(length), BackupManifest)
    except (ValueError, msgspec.DecodeError) as error:
        raise BackupInvalid(path, f"its manifest can't be read: {error}") from error
    if manifest.format != FORMAT:
        raise BackupInvalid(path, f"its manifest's format {manifest.format} is not known here")
    if faults := _faults_of(manifest):
        raise BackupInvalid(path, f"its manifest lies: {'; '.join(faults)}")
    return manifest, _HEAD.size + length


def _faults_of(manifest: BackupManifest) -> list[str]:
    """Return what can't be so, by field: whoever made the file may have written anything."""
    faults = manifest_faults(
        manifest.lineage, manifest.position, time_ms=manifest.time_ms,
        created_ms=manifest.created_ms, keys=manifest.keys, bytes=manifest.bytes,
    )  # fmt: skip
    if manifest.role not in get_args(Role):
        faults.append(f"role is {manifest.role[:40]!r}, and not one of {', '.join(get_args(Role))}")
    for name in ("sha256", "digest"):
        if not _SHA256.fullmatch(getattr(manifest, name)):
            faults.append(f"{name} is not 64 digits in hex")
    return faults


def _image_chunks(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise OSError(errno.EIO, "the file ended before its length")
        left -= len(chunk)
        yield chunk
