"""Fetching a backup from a node, and proving that it restores.

The file gets its final name last: when it is whole, its checksum is the one that the node sent, and
a restore of it into a temporary place has the digest that the node's data had. Until then it is
`<name>.part`, which goes where anything fails.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import re
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

import msgspec

from synap.backup.archive import CHUNK_BYTES, BackupManifest, verify_backup
from synap.backup.restore import restore
from synap.disk import NO_ROOM, sync_directory
from synap.errors import BackupFailed, BackupInvalid, DiskFull
from synap.login_environment import HINT, login_headers
from synap.tls import client_context

CHECKSUM_HEADER = "X-Synap-Checksum"
# The node makes a copy of its store before the first byte comes, and says nothing meanwhile.
_TIMEOUT_SECONDS = 3600.0
# From then on bytes come, as fast as the network is.
IDLE_SECONDS = 60.0
_LENGTH = re.compile("[0-9]{1,18}")


class Progress(Protocol):
    """Is told how far a fetch is."""

    def step(self, words: str) -> None:
        """Something new begins."""

    def received(self, count: int, total: int) -> None:
        """So many bytes of `total` have come."""


class Fetched(msgspec.Struct, frozen=True):
    """A backup that was fetched and verified.

    Attributes:
        path: The file.
        manifest: What it is.
        bytes: The file's length.
        checksum: In hex.
    """

    path: Path
    manifest: BackupManifest
    bytes: int
    checksum: str


def fetch_backup(
    url: str, output: Path, *, force: bool, now_ms: Callable[[], int], progress: Progress
) -> Fetched:
    """Fetch a backup of the node at `url` into `output`, and verify it.

    Args:
        url: As http://host:port, or with https.
        output: An existing file is kept unless `force`.
        now_ms: The wall clock.

    Raises:
        BackupFailed: it could not be fetched or written; there is no file.
        BackupInvalid: what came is not whole; there is no file.
        DiskFull: there is no room here; there is no file.
        RestoreRefused, SnapshotError, StoreError: it does not restore; there is no file.
    """
    if output.is_dir():
        raise BackupFailed(f"{output} is a directory; name a file")
    if not output.parent.is_dir():
        raise BackupFailed(f"there is no folder {output.parent}")
    if not force and output.exists():
        raise _exists(output)
    part = output.with_name(f"{output.name}.part")
    try:
        with _owned(part) as file:
            try:
                count, checksum = _download(url, file, progress)
                fetched = _verify(part, output, checksum, now_ms, progress)
                _name(part, output, force=force)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"no room for the backup in {output.parent}; nothing is left") from error
        raise BackupFailed(f"{output} can't be written: {error}") from error
    return msgspec.structs.replace(fetched, path=output, bytes=count)


@contextmanager
def _owned(part: Path) -> Iterator[BinaryIO]:
    """Open the unfinished file; one that an earlier run left behind is begun anew."""
    with part.open("ab+", buffering=0) as file:
        os.fchmod(file.fileno(), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupFailed(f"{part} is being written by another backup") from None
        file.truncate(0)
        yield file


def _download(url: str, file: BinaryIO, progress: Progress) -> tuple[int, str]:
    """Write the answer to `file`, synced; return its length and the checksum that came with it."""
    connection = _connect(url)
    try:
        progress.step("waiting for the node's copy")
        path = f"{urlsplit(url).path.rstrip('/')}/backup"
        connection.request("GET", path, headers=login_headers())
        # The answer takes it over, where it is the connection's last.
        peer = connection.sock
        answer = connection.getresponse()
        peer.settimeout(IDLE_SECONDS)
        if answer.status != http.HTTPStatus.OK:
            raise BackupFailed(f"{url} refused: {_reason_in(answer)}")
        length = answer.headers.get("Content-Length") or ""
        total = int(length) if _LENGTH.fullmatch(length) else 0
        checksum = answer.headers.get(CHECKSUM_HEADER, "").removeprefix("sha256:")
        if not total or not checksum:
            raise BackupFailed(f"{url} does not answer as a Synap node does")
        _check_room(Path(str(file.name)).parent, total)
        progress.step("receiving")
        count = _copy(answer, file, total, progress)
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        words = str(error) or type(error).__name__
        raise BackupFailed(f"{url} gave no whole answer: {words}") from error
    finally:
        connection.close()
    os.fsync(file.fileno())
    return count, checksum


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, total: int, progress: Progress) -> int:
    count = 0
    while chunk := answer.read(CHUNK_BYTES):
        rest = memoryview(chunk)
        while rest:
            rest = rest[file.write(rest) :]
        count += len(chunk)
        progress.received(count, total)
    if count != total:
        raise BackupFailed(f"the connection ended after {count} of {total} bytes")
    return count


def _verify(
    part: Path, output: Path, checksum: str, now_ms: Callable[[], int], progress: Progress
) -> Fetched:
    """Read the file back from the disk, and restore it into a place of its own."""
    progress.step("verifying the checksum")
    with part.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    manifest, found = verify_backup(part)
    if found != checksum:
        raise BackupInvalid(part, f"its checksum is {found}, the node said {checksum}")
    progress.step("restoring it into a temporary place")
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.verify-", dir=output.parent))
    try:
        # This compares the digest of what it restored with the manifest's.
        restore(part, folder / "data", now_ms=now_ms())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Fetched(part, manifest, 0, checksum)


def _name(part: Path, output: Path, *, force: bool) -> None:
    if force:
        os.replace(part, output)
    else:
        try:
            os.link(part, output)
        except FileExistsError:
            raise _exists(output) from None
        except OSError as error:
            # Not every file system has links; then a file that appears just now is lost.
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP) or output.exists():
                raise
            os.replace(part, output)
        with suppress(FileNotFoundError):
            part.unlink()
    sync_directory(output.absolute().parent)


def _exists(output: Path) -> BackupFailed:
    return BackupFailed(f"{output} exists; choose another name, or give --force to replace it")


def _connect(url: str) -> http.client.HTTPConnection:
    try:
        address = urlsplit(url)
        host, port = address.hostname, address.port
    except ValueError:
        host = None
    if not host or address.scheme not in ("http", "https"):
        raise BackupFailed(f"{url} is not of the form http://host:port")
    try:
        if address.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT_SECONDS, context=client_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        connection.connect()
    except OSError as error:
        raise BackupFailed(f"{url} can't be reached: {error}") from error
    return connection


def _reason_in(answer: http.client.HTTPResponse) -> str:
    body = answer.read(4096)
    if answer.status == http.HTTPStatus.UNAUTHORIZED:
        return HINT
    try:
        return f"{answer.status}, {json.loads(body)['error']}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"{answer.status} {answer.reason}"


def _check_room(directory: Path, needed_bytes: int) -> None:
    disk = os.statvfs(directory)
    free_bytes = disk.f_bavail * disk.f_frsize
    # The file, and what it is restored to for the time of the comparison.
    if free_bytes < 2 * needed_bytes:
        raise DiskFull(
            f"the backup needs {needed_bytes} bytes in {directory}, and as many again while it is "
            f"verified; {free_bytes} are free"
        )
