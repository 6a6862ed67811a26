"""What a log's files hold when it is opened, and whether its end is torn or damaged.

A write that a crash cut short leaves a torn tail: bytes that are no frame, and no frame behind
them. It is cut, and the report says how much went. Anything else is damage, and then nothing is
changed: a whole frame, or a later segment, behind bytes that are no frame; a whole frame that does
not continue the log. `docs/wal-format.md`, "Torn or damaged", has the table.

`scan_segments` only reads; `cut_tail` carries out what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import O_RDWR
from pathlib import Path

import msgspec

from synap.disk import Files
from synap.errors import FrameCorrupt, FrameTruncated, WalCorrupt
from synap.frame import HEADER_BYTES, MAGIC, Frame, follows, frame_bytes
from synap.position import START, Position
from synap.wal.segment import (
    SEGMENT_HEADER_BYTES,
    Border,
    Mark,
    Segment,
    opened,
    read_frames,
    read_header,
    segment_paths,
)

_SEARCH_BYTES = 1024 * 1024

# Takes where the log stands before a frame, the frame, and the id of the reign that wrote it.
OnFrame = Callable[[Position, Frame, bytes], None]


class Cut(msgspec.Struct, frozen=True):
    """A torn tail.

    Attributes:
        path: The last segment.
        keep_bytes: How much of it is sound; 0 where even its header is torn and the file goes.
        lost_bytes: How much is not.
    """

    path: Path
    keep_bytes: int
    lost_bytes: int


class Recovered(msgspec.Struct, frozen=True):
    """What the files hold.

    Attributes:
        segments: Oldest first, each with its sound size.
        position: Behind the last frame.
        scanned_frames: Frames that were read and checked.
        cut: The torn tail, None where there is none.
    """

    segments: tuple[Segment, ...]
    position: Position
    scanned_frames: int
    cut: Cut | None


def scan_segments(
    files: Files,
    directory: Path,
    stem: str,
    resume: tuple[Position, Mark] | None,
    base: Position = START,
    on_frame: OnFrame | None = None,
) -> Recovered:
    """Read the log in `directory` and find its end.

    Args:
        resume: Where the live store stands. What lies before it is taken as sound, unless the files
            do not bear the mark out; then, as without it, everything is checked.
        base: Where the log stands where there is no segment.
        on_frame: Given each frame that is checked, in order; damage behind it may still be found.

    Raises:
        WalCorrupt: the log is damaged before its end.
        OSError: it can't be read.
    """
    segments, cut = _read_segments(files, directory, stem, base)
    if not segments:
        return Recovered((), base, 0, cut)
    index, border = _resume_at(files, segments, resume) or (0, segments[0].border_before(0))
    scan = _Scan(files, segments, border, cut, on_frame)
    for later in range(index, len(segments)):
        scan.read_segment(later)
    return Recovered(tuple(segments), scan.position, scan.frames, scan.cut)


def cut_tail(files: Files, cut: Cut) -> None:
    """Remove the torn tail, durably.

    Raises:
        OSError: it may be there or not.
    """
    if not cut.keep_bytes:
        files.remove(cut.path)
        files.sync_directory(cut.path.parent)
        return
    file = files.open(cut.path, O_RDWR)
    try:
        files.truncate(file, cut.keep_bytes)
        files.sync(file)
    finally:
        files.close(file)


class _Scan:
    """A walk over the segments, from one border to the log's end."""

    def __init__(
        self,
        files: Files,
        segments: list[Segment],
        border: Border,
        cut: Cut | None,
        on_frame: OnFrame | None,
    ) -> None:
        self._files = files
        self._segments = segments
        self._at = border.at
        self.position = border.position
        self.frames = 0
        self.cut = cut
        self._on_frame = on_frame

    def read_segment(self, index: int) -> None:
        segment = self._segments[index]
        if self._at == SEGMENT_HEADER_BYTES and segment.header.base != self.position:
            detail = f"it begins behind {segment.header.base}, the log before it ends at "
            raise WalCorrupt(str(segment.path), 0, detail + str(self.position))
        segment.keep(Border(self.position, self._at))
        with opened(self._files, segment.path) as file:
            try:
                self._read_frames(segment, file)
            except (FrameTruncated, FrameCorrupt) as error:
                is_last = index == len(self._segments) - 1
                self._judge(segment, file, error, is_last=is_last)
        self._at = SEGMENT_HEADER_BYTES

    def _read_frames(self, segment: Segment, file: int) -> None:
        epoch, on_frame = segment.header.epoch, self._on_frame
        for frame in read_frames(self._files, file, self._at, segment.size):
            if frame.epoch != epoch or not follows(frame, self.position):
                detail = f"frame {frame.position} does not follow {self.position}"
                raise WalCorrupt(str(segment.path), self._at, detail)
            before, self.position = self.position, frame.position
            self._at += len(frame.encoded)
            self.frames += 1
            segment.note(self.position, self._at)
            if on_frame is not None:
                on_frame(before, frame, segment.header.history)

    def _judge(self, segment: Segment, file: int, error: Exception, *, is_last: bool) -> None:
        """Plan the cut of a torn tail, or raise WalCorrupt."""
        path, at, size = str(segment.path), self._at, segment.size
        if not is_last or self.cut:
            raise WalCorrupt(path, at, f"{error}, and there is a later segment") from error
        behind = _behind(self._files, file, at)
        found = _find_frame(self._files, file, behind, size, self.position.offset)
        if found is not None:
            raise WalCorrupt(path, at, f"{error}, and a whole frame at byte {found}") from error
        segment.size = at
        self.cut = Cut(segment.path, at, size - at)


def _read_segments(
    files: Files, directory: Path, stem: str, base: Position
) -> tuple[list[Segment], Cut | None]:
    """Read all headers; a last segment whose header is torn comes back as the cut."""
    paths = segment_paths(files, directory, stem)
    segments: list[Segment] = []
    for first_offset, path in paths:
        with opened(files, path) as file:
            size = files.size(file)
            header = read_header(files, file, path)
            if header is not None and header.first_offset != first_offset:
                detail = f"the header says that it begins at offset {header.first_offset}"
                raise WalCorrupt(str(path), 0, detail)
            if header is not None:
                segments.append(Segment(path, header, size))
                continue
            if path != paths[-1][1] or (not segments and first_offset != base.offset + 1):
                raise WalCorrupt(str(path), 0, "the segment's header is damaged")
            if _find_frame(files, file, 0, size, first_offset - 1) is not None:
                raise WalCorrupt(str(path), 0, "the header is damaged, and a frame follows")
            return segments, Cut(path, 0, size)
    return segments, None


def _resume_at(
    files: Files, segments: list[Segment], resume: tuple[Position, Mark] | None
) -> tuple[int, Border] | None:
    """Return the segment's index and the border to go on from; None where the mark does not fit.

    What follows the mark proves it: the next frame, or the next segment's header, carries the
    rolling checksum on. At the very end of the log the file's length has to do.
    """
    if resume is None:
        return None
    position, mark = resume
    indexes = {segment.first_offset: index for index, segment in enumerate(segments)}
    index = indexes.get(mark.segment)
    if index is None or not SEGMENT_HEADER_BYTES <= mark.byte_position <= segments[index].size:
        return None
    segment, border = segments[index], Border(position, mark.byte_position)
    if border.at == SEGMENT_HEADER_BYTES:
        fits = segment.header.base == position
    elif segment.header.epoch != position.epoch or position.offset < segment.first_offset:
        fits = False
    elif border.at < segment.size:
        fits = _is_followed(files, segment, border)
    else:
        fits = index == len(segments) - 1 or segments[index + 1].header.base == position
    return (index, border) if fits else None


def _is_followed(files: Files, segment: Segment, border: Border) -> bool:
    with opened(files, segment.path) as file:
        try:
            frame = next(read_frames(files, file, border.at, segment.size))
        except (FrameTruncated, FrameCorrupt):
            return False
    return follows(frame, border.position)


def _behind(files: Files, file: int, at: int) -> int:
    """Return where the search for a frame behind the bad one at `at` begins.

    Where its header is sound, its payload is left out: a value may hold anything, even a frame.
    """
    try:
        return at + frame_bytes(files.read(file, HEADER_BYTES, at))
    except (FrameTruncated, FrameCorrupt):
        return at + 1


def _find_frame(files: Files, file: int, at: int, end: int, after_offset: int) -> int | None:
    """Return the byte in [at, end) where a whole frame begins behind `after_offset`, else None."""
    for place in _find_headers(files, file, at, end):
        try:
            frame = next(read_frames(files, file, place, end))
        except (FrameTruncated, FrameCorrupt):
            continue
        if frame.first_offset > after_offset:
            return place
    return None


def _find_headers(files: Files, file: int, at: int, end: int) -> Iterator[int]:
    """Yield the bytes in [at, end) where a sound frame header begins."""
    while at < end:
        buffer = files.read(file, min(_SEARCH_BYTES, end - at), at)
        found = buffer.find(MAGIC)
        while 0 <= found <= len(buffer) - HEADER_BYTES:
            try:
                frame_bytes(buffer, found)
                yield at + found
            except FrameCorrupt:
                pass
            found = buffer.find(MAGIC, found + 1)
        if len(buffer) <= HEADER_BYTES:
            return
        # A header that began in the last bytes is looked at again with what follows it.
        at += len(buffer) - HEADER_BYTES + 1
