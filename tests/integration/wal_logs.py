"""Logs for the tests of the WAL: real files, small frames, and file calls that can fail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from synap.disk import DISK, Files
from synap.frame import SET, Entry, Frame, encode_frame
from synap.position import Position, Reign
from synap.wal.wal import Mark, Wal, WalOptions

REIGN = Reign(1, b"first history id", 1)
LINK = "synap.wal"


def wal_options(directory: Path, **changes: object) -> WalOptions:
    values = {
        "directory": directory,
        "link_name": LINK,
        "segment_bytes": 1 << 20,
        "fsync_mode": "never",
        "fsync_interval_ms": 5,
        **changes,
    }
    return WalOptions(**values)  # type: ignore[arg-type]


def no_failure(error: BaseException) -> None:
    raise AssertionError("a sync failed that should not") from error


def open_wal(
    directory: Path,
    resume: tuple[Position, Mark] | None = None,
    files: Files = DISK,
    **changes: object,
) -> Wal:
    """Open the log in `directory`; a new one begins the reign REIGN."""
    options = wal_options(directory, **changes)
    wal = Wal.open(options, resume=resume, on_sync_failure=no_failure, files=files)
    if not wal.epoch:
        wal.begin_reign(REIGN)
    return wal


def next_frames(
    position: Position, count: int, epoch: int = 1, entries: int = 2, value: bytes = b"value"
) -> list[Frame]:
    """Encode `count` frames that follow `position`, each of `entries` entries."""
    frames = []
    for number in range(count):
        batch = [Entry(SET, b"key %d %d" % (number, entry), value) for entry in range(entries)]
        frame = encode_frame(batch, previous=position, epoch=epoch, time_ms=1_700_000_000_000)
        frames.append(frame)
        position = frame.position
    return frames


def append_frames(wal: Wal, count: int, **shape: object) -> list[Frame]:
    """Append `count` new frames one by one and return them."""
    frames = next_frames(wal.position, count, wal.epoch, **shape)  # type: ignore[arg-type]
    for frame in frames:
        wal.append([frame])
    return frames


def build_log(directory: Path, count: int, **changes: object) -> list[Frame]:
    """Write and close a log of `count` frames."""
    wal = open_wal(directory, **changes)
    frames = append_frames(wal, count)
    wal.close()
    return frames


def segments_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("synap-*.wal"))


def contents(directory: Path) -> dict[str, bytes]:
    """Return every regular file's bytes by name."""
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.is_file() and not path.is_symlink()
    }


class FailingFiles(Files):
    """Real files whose named call fails, once or from now on.

    Attributes:
        calls: Names of the calls that change or sync something, in order.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._errors: dict[str, int] = {}
        self._is_once = False
        self._short_bytes = -1

    def fail(self, call: str, error: int, *, once: bool = False) -> None:
        self._errors, self._is_once = {call: error}, once

    def heal(self) -> None:
        self._errors, self._short_bytes = {}, -1

    def write_short(self, count: int) -> None:
        """Let the next write take `count` bytes only."""
        self._short_bytes = count

    def write(self, file: int, buffers: Sequence[bytes | memoryview]) -> int:
        if self._short_bytes >= 0:
            whole = b"".join(buffers)
            count, self._short_bytes = self._short_bytes, -1
            return super().write(file, [whole[:count]])
        self._call("write")
        return super().write(file, buffers)

    def truncate(self, file: int, size: int) -> None:
        self._call("truncate")
        super().truncate(file, size)

    def sync(self, file: int) -> None:
        self._call("sync")
        super().sync(file)

    def sync_directory(self, path: Path) -> None:
        self._call("sync_directory")
        super().sync_directory(path)

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        if "open" in self._errors:
            self._call("open")
        return super().open(path, flags, mode)

    def read(self, file: int, count: int, at: int) -> bytes:
        if "read" in self._errors:
            self._call("read")
        return super().read(file, count, at)

    def rename(self, source: Path, destination: Path) -> None:
        self._call("rename")
        super().rename(source, destination)

    def point_link(self, link: Path, target: str) -> None:
        self._call("point_link")
        super().point_link(link, target)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self._errors:
            error = self._errors[name]
            if self._is_once:
                self.heal()
            raise OSError(error, os.strerror(error))
