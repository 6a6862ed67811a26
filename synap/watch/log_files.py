"""The log's files as a process sees them that does not own them.

The store says up to which byte of which segment the log is applied, and all before that is whole.
So this reads behind the owner without a word with it: what is appended meanwhile is not looked at.
Segments may go with a checkpoint, and all of them with a full resync; whoever reads what has gone
is told that the log begins later.
"""

from __future__ import annotations

from pathlib import Path

from synap.disk import DISK
from synap.errors import OffsetUnknown, WalFailed
from synap.frame import Frame
from synap.position import Position
from synap.store import Applied
from synap.wal.cursor import Extent, Readers, WalCursor
from synap.wal.segment import (
    SEGMENT_HEADER_BYTES,
    Segment,
    opened,
    read_header,
    segment_path,
    segment_paths,
)


class LogFiles:
    """The log up to what was applied when `see` was called last.

    One thread calls `see`, and has a cursor that follows it; any thread calls `read_after`.
    """

    def __init__(self, link: Path) -> None:
        """
        Args:
            link: The link to the active segment, see `Config.wal_path`.
        """
        self._folder, self._stem = link.parent, link.stem
        self._segments: tuple[Segment, ...] = ()
        empty = Extent((), 0, Position(0, 0, 0))
        # Apart, so that the follower never waits for those who read what is long past.
        self._following = Readers(DISK, empty)
        self._reading = Readers(DISK, empty)

    @property
    def first_offset(self) -> int:
        """Offset of the oldest entry that can be read, or of the first that will be."""
        return max(self._following.first_offset, self._reading.first_offset)

    def see(self, applied: Applied, *, anew: bool = False) -> None:
        """Have the log readable up to what is applied.

        Args:
            anew: Look into the folder also where the log goes on in the segment that is known.

        Raises:
            WalFailed: the files do not hold what was applied, for now: they are being changed.
        """
        segments = self._segments
        if anew or not segments or segments[-1].first_offset != applied.segment:
            segments = self._segments = self._find(applied)
        end = 0
        if segments:
            end = applied.byte_position
            segments[-1].size = max(segments[-1].size, end)
        extent = Extent(segments, end, applied.position)
        self._following.extent = self._reading.extent = extent

    def follow(self, offset: int) -> WalCursor:
        """Return a cursor at the frame that ends with `offset`, for the thread that calls `see`."""
        return WalCursor(self._following, offset)

    def read_after(self, offset: int, limit_bytes: int) -> list[Frame]:
        """Return some frames after `offset`, from that on that holds the entry after it.

        Args:
            limit_bytes: See `WalCursor.next`.

        Raises:
            OffsetNotRetained: the log begins later.
            WalCorrupt: it is damaged there, and begins later from now on.
            OffsetUnknown: it is not applied that far.
            WalFailed: it can't be read.
        """
        readers = self._reading
        try:
            cursor = WalCursor(readers, offset)
        except OffsetUnknown:
            # A key's version may be inside of a frame.
            before = readers.frame_end_before(offset)
            if before == offset:
                raise
            cursor = WalCursor(readers, before)
        with cursor:
            return cursor.next_frames(limit_bytes)

    def _find(self, applied: Applied) -> tuple[Segment, ...]:
        """Return the segments that hold something of what is applied, oldest first.

        A store that came from another node names a segment of that one, and the own log begins
        after it.
        """
        offset = applied.position.offset
        known = {segment.first_offset: segment for segment in self._segments}
        try:
            found = [
                self._open(first, known.get(first))
                for first, _ in segment_paths(DISK, self._folder, self._stem)
                if first <= offset
            ]
        except OSError as error:
            raise WalFailed(f"{self._folder} can't be read: {error}") from error
        last = found[-1].first_offset if found else 0
        if found and last != applied.segment:
            raise WalFailed(
                f"the log is applied in the segment of {applied.segment}, and its files end with "
                f"that of {last}"
            )
        return tuple(found)

    def _open(self, first_offset: int, known: Segment | None) -> Segment:
        path = segment_path(self._folder, self._stem, first_offset)
        with opened(DISK, path) as file:
            header, size = read_header(DISK, file, path), DISK.size(file)
        if header is None or header.first_offset != first_offset:
            raise WalFailed(f"{path} has no header")
        if known is not None and known.header == header:
            # What is known of where its frames end stays.
            known.size = size
            return known
        return Segment(path, header, max(size, SEGMENT_HEADER_BYTES))
