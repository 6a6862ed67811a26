"""Reading the log while its owner appends.

The owner publishes an `Extent`, one immutable value for each append: which segments there are and
how far the last one goes. A reader takes the newest extent and never looks behind it, so it sees
whole frames only and the owner waits for nobody. Catch-up reads by `WalCursor` in chunks; a seek
decodes little, because each segment remembers some of its frames' ends.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter
from os import O_RDONLY

import msgspec

from synap.disk import Files
from synap.errors import (
    FrameCorrupt,
    FrameTruncated,
    OffsetNotRetained,
    OffsetUnknown,
    WalCorrupt,
    WalFailed,
)
from synap.frame import Frame, check_frame, decode_frame, frame_bytes
from synap.position import Position
from synap.wal.scan import Measure, SegmentScan, read_chunk
from synap.wal.segment import SEGMENT_HEADER_BYTES, Border, Segment, open_segment

_first_offset = attrgetter("first_offset")


class Extent(msgspec.Struct, frozen=True, gc=False):
    """What of the log may be read.

    Attributes:
        segments: Oldest first; all but the last are finished.
        end: Bytes of the last segment up to which it may be read; 0 without segments.
        position: Where the log stands there.
    """

    segments: tuple[Segment, ...]
    end: int
    position: Position

    @property
    def first_offset(self) -> int:
        """Offset of the oldest entry in the files, or of the first that will be there."""
        return self.segments[0].first_offset if self.segments else self.position.offset + 1

    def segment_of(self, offset: int) -> Segment | None:
        """Return the segment that holds `offset`, or will once it is written."""
        index = bisect_right(self.segments, offset, key=_first_offset) - 1
        return self.segments[index] if index >= 0 else None

    def segment_after(self, segment: Segment) -> Segment | None:
        """Return the one that follows; None after the last."""
        index = bisect_right(self.segments, segment.first_offset, key=_first_offset)
        return self.segments[index] if index < len(self.segments) else None

    def end_of(self, segment: Segment) -> int:
        return self.end if segment is self.segments[-1] else segment.size


class Readers:
    """What cursors share: the newest extent, and how far they have read.

    Attributes:
        extent: Set by the log's owner.
        files: The log's file calls.
        furthest_offset: Last offset that any of them has seen; it can't be taken back.
    """

    def __init__(self, files: Files, extent: Extent) -> None:
        self.files = files
        self.extent = extent
        self.furthest_offset = 0
        # Where damage was found, and the first offset after it that is given out; 0 for none.
        self._damage = ""
        self._sound_offset = 0
        # Held while something is read; the owner takes it only to retract and to retire.
        self.lock = threading.Lock()
        self._open: set[WalCursor] = set()

    @property
    def first_offset(self) -> int:
        """Offset of the oldest entry that is given out, or of the first that will be."""
        return max(self.extent.first_offset, self._sound_offset)

    @property
    def damage(self) -> str:
        """What of the log is damaged, as far as somebody read it; empty for nothing."""
        return self._damage if self.extent.first_offset < self._sound_offset else ""

    def damaged(self, segment: Segment, at: int, why: str) -> WalCorrupt:
        """Take note that `segment` is damaged at byte `at`; return the error to raise.

        Nothing up to its end is given out any more: who lacks that needs a snapshot.
        """
        extent = self.extent
        following = extent.segment_after(segment)
        if following is not None:
            sound_offset = following.first_offset
        else:
            segment.keep(Border(extent.position, extent.end))
            sound_offset = extent.position.offset + 1
        error = WalCorrupt(str(segment.path), at, why)
        if sound_offset > self._sound_offset:
            self._damage, self._sound_offset = error.message, sound_offset
        return error

    def check_sound(self, offset: int) -> None:
        """Raise OffsetNotRetained where what follows `offset` is not given out, or not any more."""
        if offset < self.first_offset - 1:
            raise OffsetNotRetained(offset, self.first_offset)

    def enter(self, cursor: WalCursor) -> None:
        """Keep what `cursor` has yet to read from going."""
        with self.lock:
            self._open.add(cursor)

    def leave(self, cursor: WalCursor) -> None:
        """Let it go; twice does no harm."""
        with self.lock:
            self._open.discard(cursor)

    def needed_offset(self) -> int | None:
        """Return the first offset that an open cursor has yet to read; under the lock."""
        return min((cursor.offset + 1 for cursor in self._open), default=None)

    def locate(self, offset: int) -> tuple[Segment | None, Border]:
        """Return where the frame that ends with `offset` ends, and in which segment.

        Raises:
            OffsetNotRetained: the log begins after `offset`.
            OffsetUnknown: no frame ends there.
            WalCorrupt: the log is damaged there.
            WalFailed: it can't be read.
        """
        with self.lock:
            extent = self.extent
            known = min(offset, extent.position.offset)
            self.furthest_offset = max(self.furthest_offset, known)
            self.check_sound(offset)
            if offset == extent.position.offset:
                segment = extent.segments[-1] if extent.segments else None
                return segment, Border(extent.position, extent.end)
            segment = extent.segment_of(offset + 1)
            if segment is None or offset > extent.position.offset:
                raise OffsetUnknown(f"the log ends at {extent.position}, before offset {offset}")
            return segment, self._walk(segment, extent.end_of(segment), offset)

    def frame_end_before(self, offset: int) -> int:
        """Return the last offset up to `offset` with which a frame ends.

        Raises:
            As `locate`.
        """
        with self.lock:
            extent = self.extent
            self.check_sound(offset)
            segment = extent.segment_of(offset + 1)
            if segment is None or offset >= extent.position.offset:
                return min(offset, extent.position.offset)
            border = segment.border_before(offset)
            reading = SegmentScan(self.files, segment, border, extent.end_of(segment))
            found = border.position.offset
            try:
                for _, frame in reading.frames():
                    if frame.last_offset > offset:
                        break
                    found = frame.last_offset
            except OSError as error:
                raise WalFailed(f"{segment.path} can't be read: {error}") from error
            return found

    def _walk(self, segment: Segment, end: int, offset: int) -> Border:
        border = segment.border_before(offset)
        if border.position.offset == offset:
            return border
        reading = SegmentScan(self.files, segment, border, end)
        try:
            for _, frame in reading.frames():
                if frame.last_offset == offset:
                    return Border(reading.position, reading.at)
                if frame.last_offset > offset:
                    raise OffsetUnknown(f"offset {offset} is inside a frame")
        except FileNotFoundError as error:
            raise self.damaged(segment, 0, "the file is gone") from error
        except OSError as error:
            raise WalFailed(f"{segment.path} can't be read: {error}") from error
        why = f"it ends before offset {offset}, and a later one follows"
        raise self.damaged(segment, reading.at, reading.bad.detail if reading.bad else why)


class WalCursor:
    """A reader's place in the log; for one thread, which may be another than the owner's.

    Attributes:
        offset: Last offset of what was read.
    """

    def __init__(self, readers: Readers, offset: int) -> None:
        self.offset = offset
        self._readers = readers
        # Where it reads; the file is opened when it is wanted.
        self._segment: Segment | None = None
        self._file = -1
        self._at = 0
        readers.enter(self)
        try:
            self._segment, border = readers.locate(offset)
            self._at = border.at
        except BaseException:
            readers.leave(self)
            raise

    def __enter__(self) -> WalCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self, limit_bytes: int) -> bytes:
        """Return the next encoded frames, whole, from one segment; b"" at the log's end.

        At the end it may be called again later. All checksums are compared: what a disk has
        damaged goes to nobody.

        Args:
            limit_bytes: Bound on the length; one frame that is longer comes alone.

        Raises:
            WalCorrupt: the file does not hold what was written there.
            OffsetNotRetained: that was found before.
            WalFailed: it can't be read.
        """
        return self._next(limit_bytes, check_frame)

    def _next(self, limit_bytes: int, measure: Measure) -> bytes:
        with self._readers.lock:
            self._readers.check_sound(self.offset)
            extent = self._readers.extent
            segment = extent.segment_of(self.offset + 1)
            if segment is None:
                return b""
            end = extent.end_of(segment)
            try:
                if segment is not self._segment:
                    self._leave_for(segment)
                if self._at == end:
                    if extent.segment_after(segment) is None:
                        return b""
                    why = f"it ends with offset {self.offset}, and a later one follows"
                    raise self._readers.damaged(segment, end, why)
                chunk = self._read(segment, end, limit_bytes, measure)
            except FileNotFoundError as error:
                raise self._readers.damaged(segment, 0, "the file is gone") from error
            except OSError as error:
                raise WalFailed(f"{segment.path} can't be read: {error}") from error
            self._readers.furthest_offset = max(self._readers.furthest_offset, self.offset)
            return chunk

    def frames(self, chunk_bytes: int = 1024 * 1024) -> Iterator[Frame]:
        """Yield what follows, decoded and checked, up to the log's end.

        Raises:
            WalCorrupt: a frame is damaged.
            WalFailed: the file can't be read.
        """
        while frames := self.next_frames(chunk_bytes):
            yield from frames

    def next_frames(self, limit_bytes: int) -> list[Frame]:
        """Return the next frames as `next` does, decoded; none at the log's end.

        Where they end is remembered, so that another cursor gets there soon.

        Raises:
            As `next` does.
        """
        # They are decoded here, which checks what `next` does.
        chunk = self._next(limit_bytes, frame_bytes)
        frames: list[Frame] = []
        at = 0
        while at < len(chunk):
            try:
                frame = decode_frame(chunk, at)
            except FrameCorrupt as error:
                raise self._corrupt(error, self._at - len(chunk) + at) from error
            frames.append(frame)
            at += len(frame.encoded)
        if frames and self._segment is not None:
            self._segment.note(frames[-1].position, self._at)
        return frames

    def close(self) -> None:
        """Close the file, and let go of what was not read; twice does no harm."""
        self._close_file()
        self._readers.leave(self)

    def _close_file(self) -> None:
        if self._file >= 0:
            self._readers.files.close(self._file)
            self._file = -1

    def _leave_for(self, segment: Segment) -> None:
        self._close_file()
        self._segment, self._at = segment, SEGMENT_HEADER_BYTES

    def _read(self, segment: Segment, end: int, limit_bytes: int, measure: Measure) -> bytes:
        if self._file < 0:
            self._file = open_segment(self._readers.files, segment.path, O_RDONLY)
        try:
            chunk, self.offset = read_chunk(
                self._readers.files, self._file, self._at, end, limit_bytes, measure
            )
        except (FrameTruncated, FrameCorrupt) as error:
            raise self._corrupt(error, self._at) from error
        self._at += len(chunk)
        return chunk

    def _corrupt(self, error: Exception, at: int) -> WalCorrupt:
        assert self._segment is not None
        return self._readers.damaged(self._segment, at, str(error))
