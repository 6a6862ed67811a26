"""Walking through a log's files as they lie there: to check them, to show them, to replay a part.

Unlike opening a log this changes nothing, needs no node, and keeps what it saw before the first bad
place. What is sound, and whether a bad place is torn or damaged, is `synap.wal.scan`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from synap.disk import DISK
from synap.errors import BackupError, WalCorrupt
from synap.frame import Frame
from synap.position import START, Position
from synap.wal.scan import BadPlace, LogScan
from synap.wal.segment import SegmentHeader, opened, read_header, segment_paths

_SEGMENT_NAME = re.compile(r"(.+)-\d{20}\.wal")
DEFAULT_STEM = "synap"


class WalkedSegment(msgspec.Struct):
    """What was seen of one segment.

    Attributes:
        path: The file.
        size: Its bytes.
        header: None where it is damaged.
        sound_bytes: Bytes up to the end of the last sound frame.
        frames: Sound frames that were read.
        entries: Their entries.
        first_offset: Offset of the first of them; 0 without any.
        last_offset: Offset of the last of them; 0 without any.
        first_time_ms: Wall clock in the first frame; 0 without any.
        last_time_ms: Wall clock in the last frame; 0 without any.
    """

    path: Path
    size: int
    header: SegmentHeader | None = None
    sound_bytes: int = 0
    frames: int = 0
    entries: int = 0
    first_offset: int = 0
    last_offset: int = 0
    first_time_ms: int = 0
    last_time_ms: int = 0


class Walked(NamedTuple):
    """One frame on the way.

    Attributes:
        header: That of its segment.
        before: Where the log stands before it.
        frame: The frame, checked.
    """

    header: SegmentHeader
    before: Position
    frame: Frame


class LogReport(msgspec.Struct, frozen=True):
    """What the files of a log hold.

    Attributes:
        directory: Their folder.
        stem: What their names begin with.
        segments: Those up to the bad place, oldest first.
        unread: Those after it.
        position: Behind the last sound frame; where the first segment begins without one.
        bad: The first bad place; None where all is sound.
    """

    directory: Path
    stem: str
    segments: tuple[WalkedSegment, ...]
    unread: tuple[Path, ...]
    position: Position
    bad: BadPlace | None

    @property
    def first_offset(self) -> int:
        """Offset of the oldest entry, or of the first that will be there."""
        header = self.segments[0].header if self.segments else None
        return header.first_offset if header is not None else self.position.offset + 1

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    @property
    def entries(self) -> int:
        return sum(segment.entries for segment in self.segments)


class LogWalk:
    """One walk over the files of a log, from the first frame or from a later one.

    Attributes:
        segments: What was seen of each segment so far.
    """

    def __init__(self, directory: Path) -> None:
        """
        Raises:
            BackupError: the folder holds the segments of more than one log.
            OSError: it can't be read.
        """
        self.directory = directory
        self.stem = _stem_in(directory)
        self.segments: list[WalkedSegment] = []
        self._paths = segment_paths(DISK, directory, self.stem)
        self._scan: LogScan | None = None

    @property
    def first_offset(self) -> int | None:
        """Offset in the name of the first segment; None where there is none."""
        return self._paths[0][0] if self._paths else None

    @property
    def end(self) -> Position:
        """Where the log stands so far; START where there is no segment."""
        return START if self._scan is None else self._scan.position

    def frames(self, after_offset: int = 0) -> Iterator[Walked]:
        """Yield the frames, up to the first bad place.

        Args:
            after_offset: Leave out the segments that end before this offset.
        """
        skipped = sum(1 for first_offset, _ in self._paths[1:] if first_offset <= after_offset + 1)
        yield from self._walk(self._paths[skipped:], is_all=not skipped)

    def walk_alone(self, path: Path) -> WalkedSegment:
        """Read one segment, whatever lies before it; a bad place is that of the segment.

        Raises:
            BackupError: its name is not a segment's.
        """
        names = [each.name for _, each in self._paths]
        if path.name not in names:
            raise BackupError(f"{path} has not the name of a segment, as synap-<20 digits>.wal")
        index = names.index(path.name)
        for _ in self._walk(self._paths[index:], is_all=not index, count=1):
            pass
        return self.segments[0]

    def report(self) -> LogReport:
        """Return what was seen, after the last frame."""
        read = {segment.path for segment in self.segments}
        return LogReport(
            directory=self.directory,
            stem=self.stem,
            segments=tuple(self.segments),
            unread=tuple(path for _, path in self._paths if path not in read),
            position=self.end,
            bad=self.bad_place(),
        )

    def bad_place(self) -> BadPlace | None:
        """Return where the walk could not go on; None where it came to the log's end."""
        return None if self._scan is None else self._scan.bad

    def _walk(
        self, paths: list[tuple[int, Path]], *, is_all: bool, count: int | None = None
    ) -> Iterator[Walked]:
        """Walk through the first `count` of the last segments, `paths`; through all without it."""
        begin = START.offset + 1 if is_all else None
        self._scan = scan = LogScan(DISK, paths, begin, count=count)
        for reading in scan.readings():
            header = reading.segment.header
            seen = WalkedSegment(reading.segment.path, reading.segment.size, header, reading.at)
            self.segments.append(seen)
            for before, frame in reading.frames():
                _note(seen, frame, reading.at)
                yield Walked(header, before, frame)
        if scan.bad is not None and scan.bad is scan.bad_header:
            self.segments.append(WalkedSegment(scan.bad.path, scan.bad_header_bytes))


def _note(seen: WalkedSegment, frame: Frame, at: int) -> None:
    seen.sound_bytes = at
    seen.frames += 1
    seen.entries += frame.count
    seen.first_offset = seen.first_offset or frame.first_offset
    seen.last_offset = frame.last_offset
    seen.first_time_ms = seen.first_time_ms or frame.time_ms
    seen.last_time_ms = frame.time_ms


def check_log(directory: Path) -> LogReport:
    """Read and check all of the log in `directory`.

    Raises:
        BackupError: the folder holds the segments of more than one log.
        OSError: it can't be read.
    """
    walk = LogWalk(directory)
    for _ in walk.frames():
        pass
    return walk.report()


def headers_in(directory: Path) -> list[SegmentHeader]:
    """Return the headers of all segments in `directory` that have a sound one, oldest first."""
    found = []
    for _, path in segment_paths(DISK, directory, _stem_in(directory)):
        with opened(DISK, path) as file:
            header = _header_of(file, path)
        if header is not None:
            found.append(header)
    return found


def log_folder(directory: Path) -> Path:
    """Return the folder of the segments: `directory`, or the one of a data directory.

    Raises:
        BackupError: there is no log in either.
    """
    if not directory.is_dir():
        raise BackupError(f"there is no folder {directory}")
    for folder in (directory, directory / "wal"):
        if folder.is_dir() and has_segments(folder):
            return folder
    raise BackupError(
        f"there is no log in {directory}, nor in its folder wal; where persistence.wal.path puts "
        "the log elsewhere, name that folder"
    )


def has_segments(directory: Path) -> bool:
    """Whether the folder holds a log's segments."""
    return any(_SEGMENT_NAME.fullmatch(path.name) for path in directory.iterdir())


def _header_of(file: int, path: Path) -> SegmentHeader | None:
    try:
        return read_header(DISK, file, path)
    except WalCorrupt:
        return None


def _stem_in(directory: Path) -> str:
    matches = (_SEGMENT_NAME.fullmatch(path.name) for path in directory.iterdir())
    stems = sorted({match[1] for match in matches if match})
    if len(stems) > 1:
        raise BackupError(f"{directory} holds more than one log: {', '.join(stems)}")
    return stems[0] if stems else DEFAULT_STEM
