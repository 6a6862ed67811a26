"""What of a log's files is sound, and whether a bad place is a torn end or damage.

    read_frames    the frames in a run of bytes: whole, their checksums right
    read_chunk     the same for encoded frames that are handed on as they are
    SegmentScan    the frames of one segment, each going on from the one before
    LogScan        those of a whole log, up to its end or its first `BadPlace`
    find_end       where the log ends, for its owner; `cut_tail` cuts off what is torn

A write that a crash cut short leaves a torn tail: bytes that are no frame, and no frame after
them. Anything else is damage: a whole frame, or a later segment, after bytes that are no frame; a
whole frame that does not go on from the log. `docs/wal-format.md`, "Torn or damaged", has the
table. Opening a log, walking through one and reading one beside its owner all decide by this
module; all of it but `cut_tail` only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import O_RDWR
from pathlib import Path

import msgspec

from synap.disk import Files
from synap.errors import FrameCorrupt, FrameTruncated, WalCorrupt
from synap.frame import (
    HEADER_BYTES,
    MAGIC,
    Frame,
    decode_frame,
    follows,
    frame_bytes,
    last_offset_of,
)
from synap.position import START, Position
from synap.wal.segment import (
    SEGMENT_HEADER_BYTES,
    Border,
    Mark,
    Segment,
    opened,
    read_header,
    segment_paths,
)

# How much one read takes: large enough that the system call does not show beside the decoding.
_READ_BYTES = 256 * 1024
_SEARCH_BYTES = 1024 * 1024

# Takes where the log stands before a frame, the frame, and the id of the reign that wrote it.
OnFrame = Callable[[Position, Frame, bytes], None]
# Returns a frame's length and checks it on the way, as `frame_bytes` and `check_frame` do.
Measure = Callable[[bytes, int], int]


class BadPlace(msgspec.Struct, frozen=True):
    """Where the log can't be read on.

    Attributes:
        path: The segment.
        byte_position: The byte in it.
        detail: What is wrong.
        is_torn: It is the end of a write that was cut short, which a node cuts off by itself;
            otherwise it is damage, which a node refuses.
    """

    path: Path
    byte_position: int
    detail: str
    is_torn: bool

    def as_error(self) -> WalCorrupt:
        return WalCorrupt(str(self.path), self.byte_position, self.detail)


class Recovered(msgspec.Struct, frozen=True):
    """What the files hold.

    Attributes:
        segments: Oldest first, each with its sound size.
        position: After the last frame.
        scanned_frames: Frames that were read and checked.
        torn: The torn tail, None where there is none.
        torn_bytes: Its length.
    """

    segments: tuple[Segment, ...]
    position: Position
    scanned_frames: int
    torn: BadPlace | None
    torn_bytes: int


def read_frames(files: Files, file: int, at: int, end: int) -> Iterator[Frame]:
    """Yield the frames in the bytes from `at` up to `end` of an open segment.

    Raises:
        FrameTruncated: `end` lies inside a frame.
        FrameCorrupt: after the frames that were yielded comes none.
    """
    buffer, start = b"", at
    while at < end:
        try:
            frame = decode_frame(buffer, at - start)
        except FrameTruncated:
            had = start + len(buffer)
            # At least twice what is left, so that a frame of any length fits in the end.
            count = max(_READ_BYTES, 2 * (had - at))
            buffer, start = files.read(file, min(count, end - at), at), at
            if start + len(buffer) <= had:
                raise
            continue
        yield frame
        at += len(frame.encoded)


def read_chunk(
    files: Files, file: int, at: int, end: int, limit_bytes: int, measure: Measure
) -> tuple[bytes, int]:
    """Return encoded frames, whole, from the bytes from `at` up to `end`, and their last offset.

    Args:
        limit_bytes: Bound on the length; one frame that is longer comes alone.

    Raises:
        FrameTruncated: the file ends before `end`.
        FrameCorrupt: the first frame is damaged; a later one only ends what is returned.
    """
    left = end - at
    chunk = files.read(file, min(max(limit_bytes, HEADER_BYTES), left), at)
    size, last = _whole_frames(chunk, measure)
    if not size:
        chunk = files.read(file, min(frame_bytes(chunk), left), at)
        size, last = _whole_frames(chunk, measure)
    if not size:
        raise FrameTruncated("the file ends before its last frame")
    return (chunk if size == len(chunk) else chunk[:size]), last_offset_of(chunk, last)


class SegmentScan:
    """One reading of a segment's frames, from a border on up to `end` or the first bad place.

    Attributes:
        segment: It; learns where its frames end.
        position: After the last frame that was yielded.
        at: The byte there.
        bad: Where and why it could not go on; None up to there, and where it came to `end`. What
            `judged` has not looked at is called damage.
    """

    def __init__(self, files: Files, segment: Segment, border: Border, end: int) -> None:
        self.segment = segment
        self.position = border.position
        self.at = border.at
        self.bad: BadPlace | None = None
        self._files = files
        self._end = end
        self._is_frame = True

    def frames(self) -> Iterator[tuple[Position, Frame]]:
        """Yield where the log stands before each frame, and the frame.

        Raises:
            OSError: it can't be read.
        """
        segment, epoch = self.segment, self.segment.header.epoch
        if self.bad is not None:
            return
        with opened(self._files, segment.path) as file:
            try:
                for frame in read_frames(self._files, file, self.at, self._end):
                    before = self.position
                    if frame.epoch != epoch or not follows(frame, before):
                        self.stop(f"frame {frame.position} does not follow {before}")
                        return
                    self.position = position = frame.position
                    self.at += len(frame.encoded)
                    segment.note(position, self.at)
                    yield before, frame
            except (FrameTruncated, FrameCorrupt) as error:
                self._is_frame = False
                self.stop(str(error))

    def stop(self, detail: str) -> None:
        """Call the place after the last frame bad."""
        self.bad = BadPlace(self.segment.path, self.at, detail, is_torn=False)

    def judged(self, *, is_last: bool) -> BadPlace | None:
        """Return the bad place, torn where it may be the end of a write that was cut short.

        Args:
            is_last: No segment follows this one.
        """
        if self.bad is None or self._is_frame:
            return self.bad
        if not is_last:
            detail = f"{self.bad.detail}, and there is a later segment"
            return msgspec.structs.replace(self.bad, detail=detail)
        with opened(self._files, self.segment.path) as file:
            begin = _search_from(self._files, file, self.at)
            found = _find_frame(self._files, file, begin, self._end, self.position.offset)
        if found is None:
            return msgspec.structs.replace(self.bad, is_torn=True)
        detail = f"{self.bad.detail}, and a whole frame at byte {found}"
        return msgspec.structs.replace(self.bad, detail=detail)


class LogScan:
    """One reading of a log: all headers first, then its frames, up to the first bad place.

    Attributes:
        segments: Those before the first whose header is bad, oldest first.
        bad_header: That one's bad place; None where all headers are sound.
        bad_header_bytes: The size of its segment.
        bad: The first bad place that the reading came to; None before.
    """

    def __init__(
        self,
        files: Files,
        paths: list[tuple[int, Path]],
        first_offset: int | None,
        *,
        count: int | None = None,
    ) -> None:
        """Read the headers.

        Args:
            paths: First offset and path of each segment up to the log's last, oldest first.
            first_offset: Where the log begins; a first segment with another name can't be the
                rest of a write that was cut short. None where others are before `paths`.
            count: Read only so many segments.

        Raises:
            OSError: a file can't be read.
        """
        self._files = files
        self._last_path = paths[-1][1] if paths else None
        self._index = 0
        self._border: Border | None = None
        self._reading: SegmentScan | None = None
        self.segments: list[Segment] = []
        self.bad_header_bytes = 0
        self.bad_header = self._read_headers(paths[:count], first_offset)
        self.bad: BadPlace | None = None

    @property
    def position(self) -> Position:
        """Where the log stands as far as it was read; START where there is no segment."""
        if self._reading is not None:
            return self._reading.position
        if self._border is not None:
            return self._border.position
        return self.segments[0].header.base if self.segments else START

    def go_on_from(self, position: Position, mark: Mark) -> None:
        """Leave out what is before a place of which somebody else knows that it was sound.

        What follows the mark proves it: the next frame, or the next segment's header, carries the
        rolling checksum on. At the very end of the log the file's length has to do. Where it does
        not fit, nothing is left out.
        """
        indexes = {segment.first_offset: index for index, segment in enumerate(self.segments)}
        index = indexes.get(mark.segment)
        if index is None:
            return
        segment, border = self.segments[index], Border(position, mark.byte_position)
        if SEGMENT_HEADER_BYTES <= border.at <= segment.size and self._fits(index, border):
            self._index, self._border = index, border

    def readings(self) -> Iterator[SegmentScan]:
        """Yield the reading of each segment; whoever takes it reads its frames before the next."""
        for segment in self.segments[self._index :]:
            self._reading = reading = self._begin(segment)
            yield reading
            self.bad = reading.judged(is_last=segment.path == self._last_path)
            if self.bad is not None:
                return
        self.bad = self.bad_header

    def _begin(self, segment: Segment) -> SegmentScan:
        base, end = segment.header.base, self.position
        if self._reading is None and self._border is not None:
            border = self._border
        elif base == end:
            border = Border(base, SEGMENT_HEADER_BYTES)
        else:
            reading = SegmentScan(self._files, segment, Border(end, 0), segment.size)
            reading.stop(f"it begins after {base}, the log before it ends at {end}")
            return reading
        segment.keep(border)
        return SegmentScan(self._files, segment, border, segment.size)

    def _read_headers(
        self, paths: list[tuple[int, Path]], log_begins_at: int | None
    ) -> BadPlace | None:
        """Read all headers up to the first bad one; return that one's place."""
        for first_offset, path in paths:
            with opened(self._files, path) as file:
                self.bad_header_bytes = size = self._files.size(file)
                try:
                    header = read_header(self._files, file, path)
                except WalCorrupt as error:
                    return BadPlace(path, 0, error.detail, is_torn=False)
                if header is None:
                    may_be_torn = path == self._last_path and (
                        bool(self.segments) or log_begins_at in (None, first_offset)
                    )
                    return self._judge_header(path, file, size, first_offset, may_be_torn)
            if header.first_offset != first_offset:
                detail = f"the header says that it begins at offset {header.first_offset}"
                return BadPlace(path, 0, detail, is_torn=False)
            self.segments.append(Segment(path, header, size))
        self.bad_header_bytes = 0
        return None

    def _judge_header(
        self, path: Path, file: int, size: int, first_offset: int, may_be_torn: bool
    ) -> BadPlace:
        if not may_be_torn:
            return BadPlace(path, 0, "the segment's header is damaged", is_torn=False)
        if _find_frame(self._files, file, 0, size, first_offset - 1) is not None:
            return BadPlace(path, 0, "the header is damaged, and a frame follows", is_torn=False)
        return BadPlace(path, 0, "the segment's header is damaged", is_torn=True)

    def _fits(self, index: int, border: Border) -> bool:
        segment, position = self.segments[index], border.position
        if border.at == SEGMENT_HEADER_BYTES:
            return segment.header.base == position
        if segment.header.epoch != position.epoch or position.offset < segment.first_offset:
            return False
        if border.at < segment.size:
            reading = SegmentScan(self._files, segment, border, segment.size)
            return next(reading.frames(), None) is not None
        is_last = index == len(self.segments) - 1
        return is_last or self.segments[index + 1].header.base == position


def find_end(
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
        on_frame: Given each frame that is checked, in order; damage after it may still be found.

    Raises:
        WalCorrupt: the log is damaged before its end.
        OSError: it can't be read.
    """
    scan = LogScan(files, segment_paths(files, directory, stem), base.offset + 1)
    if scan.bad_header is not None and not scan.bad_header.is_torn:
        raise scan.bad_header.as_error()
    if resume is not None:
        scan.go_on_from(*resume)
    frames = 0
    for reading in scan.readings():
        history = reading.segment.header.history
        for before, frame in reading.frames():
            frames += 1
            if on_frame is not None:
                on_frame(before, frame, history)
    bad = scan.bad
    if bad is not None and not bad.is_torn:
        raise bad.as_error()
    position = scan.position if scan.segments else base
    return Recovered(tuple(scan.segments), position, frames, bad, _let_go(scan, bad))


def cut_tail(files: Files, torn: BadPlace) -> None:
    """Remove a torn tail, durably; where even the segment's header is torn, the file goes.

    Raises:
        OSError: it may be there or not.
    """
    if not torn.byte_position:
        files.remove(torn.path)
        files.sync_directory(torn.path.parent)
        return
    file = files.open(torn.path, O_RDWR)
    try:
        files.truncate(file, torn.byte_position)
        files.sync(file)
    finally:
        files.close(file)


def _let_go(scan: LogScan, torn: BadPlace | None) -> int:
    """Leave a torn tail out of the segments; return its length."""
    if torn is None:
        return 0
    if torn is scan.bad_header:
        return scan.bad_header_bytes
    segment = scan.segments[-1]
    torn_bytes, segment.size = segment.size - torn.byte_position, torn.byte_position
    return torn_bytes


def _whole_frames(chunk: bytes, measure: Measure) -> tuple[int, int]:
    """Return how many bytes of `chunk` are whole frames, and where the last of them begins.

    Raises:
        FrameCorrupt: the first of them is damaged; a later one only ends what counts.
    """
    at = last = 0
    while len(chunk) - at >= HEADER_BYTES:
        try:
            length = measure(chunk, at)
        except FrameTruncated:
            break
        except FrameCorrupt:
            if not at:
                raise
            break
        if at + length > len(chunk):
            break
        last, at = at, at + length
    return at, last


def _search_from(files: Files, file: int, at: int) -> int:
    """Return where the search for a frame after the bad one at `at` begins.

    Where its header is sound, its payload is left out: a value may hold anything, even a frame.
    """
    try:
        return at + frame_bytes(files.read(file, HEADER_BYTES, at))
    except (FrameTruncated, FrameCorrupt):
        return at + 1


def _find_frame(files: Files, file: int, at: int, end: int, after_offset: int) -> int | None:
    """Return the byte in [at, end) where a whole frame begins after `after_offset`, else None."""
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
