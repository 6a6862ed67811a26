"""The write-ahead log: encoded frames in segment files, appended by one owner.

    Wal             open, append, roll over, retract, retire, close  this module
    ActiveSegment   the file at the end, and its successor           active_segment
    WalCursor       reading beside the owner                         cursor
    Syncer          fsync modes, and what a failed sync means        syncer
    find_end        what the files hold: sound, torn or damaged      scan
    Segment         one file                                         segment
    Files           the system calls                                 synap.disk

The log knows frames and positions, not what the entries mean. The engines of `synap.node.data_dir`
own it; one process at a time, which they see to. `docs/wal-format.md` describes the files.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from synap.disk import DISK, Files
from synap.errors import LogError, OffsetGap, OffsetUnknown, StaleEpoch, WalFailed
from synap.frame import Frame, follows
from synap.position import NO_HISTORY, START, Position, Reign, check_next_reign
from synap.wal.active_segment import ActiveSegment, NoFileLeft, check_link
from synap.wal.cursor import Extent, Readers, WalCursor
from synap.wal.scan import OnFrame, Recovered, cut_tail, find_end
from synap.wal.segment import SEGMENT_HEADER_BYTES, VERSION, Border, Mark, Segment, SegmentHeader
from synap.wal.syncer import Syncer

logger = logging.getLogger(__name__)

_WARN_SECONDS = 10.0

__all__ = ["Files", "Mark", "Wal", "WalCursor", "WalOptions", "WalReport"]


class WalOptions(msgspec.Struct, frozen=True):
    """Where the log is and how it is written.

    Attributes:
        directory: The folder of the segments and the link.
        link_name: Name of the link to the active segment; segments are named after its stem.
        segment_bytes: An append that would make a segment longer begins the next one.
        fsync_mode: `always` (before append returns), `periodic` (by a thread) or `never` (only
            where a segment ends and at close).
        fsync_interval_ms: Time between two syncs in mode `periodic`.
    """

    directory: Path
    link_name: str
    segment_bytes: int
    fsync_mode: str
    fsync_interval_ms: int

    @property
    def link(self) -> Path:
        return self.directory / self.link_name

    @property
    def stem(self) -> str:
        return Path(self.link_name).stem


class WalReport(msgspec.Struct, frozen=True):
    """What opening the log found.

    Attributes:
        segments: Number of segments.
        bytes: Their size together.
        cut_bytes: Length of the torn tail that was removed; 0 where there was none.
        cut_path: The segment that it was in; "" where there was none.
        scanned_frames: Frames that were read and checked.
    """

    segments: int
    bytes: int
    cut_bytes: int
    cut_path: str
    scanned_frames: int


class Wal:
    """An open log. All methods are the owner's, except where they say otherwise.

    Attributes:
        report: What opening found.
    """

    def __init__(self, options: WalOptions, files: Files, found: Recovered, syncer: Syncer) -> None:
        self._options = options
        # Told of an append before it is published: in mode `always` no reader sees what is not
        # durable. Its `durable_offset` is at most the log's.
        self._syncer = syncer
        # The file of the extent's last segment; none before the first one.
        self._is_closed = False
        self._active = ActiveSegment(files, syncer, options.link)
        # Where the last append began, in the active segment; None where it was taken back, or there
        # was none. To be asked for before anything else is written.
        self._before_append: Border | None = None
        self._warned = -_WARN_SECONDS
        # Files that are in no extent any more, oldest first. The owner adds at one end while the
        # thread that removes them takes from the other.
        self._retired: deque[Path] = deque()
        # What readers see. Its extent is replaced as a whole, by the owner alone: the segments
        # follow each other without a gap, the last one is the active one, whose size is `end`, and
        # `position` is the position there. `furthest_offset` is at most its offset.
        segments = found.segments
        end = segments[-1].size if segments else 0
        self._readers = Readers(files, Extent(segments, end, found.position))
        self.report = WalReport(
            segments=len(segments),
            bytes=self.size_bytes,
            cut_bytes=found.torn_bytes,
            cut_path=str(found.torn.path) if found.torn else "",
            scanned_frames=found.scanned_frames,
        )

    @classmethod
    def open(
        cls,
        options: WalOptions,
        *,
        resume: tuple[Position, Mark] | None = None,
        base: Position = START,
        on_sync_failure: Callable[[BaseException], None],
        files: Files = DISK,
        on_frame: OnFrame | None = None,
    ) -> Wal:
        """Open the log in `options.directory`, or begin one, and cut a torn tail.

        Args:
            resume: Position and mark of a live store that is trusted; only what follows is read.
                Where they do not fit the files, and without them, everything is checked. The log's
                end may then lie before the position: the caller has to look.
            base: Where the log stands where there is no segment.
            on_sync_failure: Called from the syncing thread when a sync failed.
            files: The file calls; tests give their own.
            on_frame: Given each frame that is checked.

        Raises:
            WalCorrupt: the log is damaged before its end; nothing was changed.
            WalFailed: the disk can't be read or written.
            DataDirUnusable: something that is no link has the link's name.
        """
        try:
            files.make_directory(options.directory)
            check_link(files, options.link)
            found = find_end(files, options.directory, options.stem, resume, base, on_frame)
            if found.torn:
                cut_tail(files, found.torn)
                _warn_of_cut(found)
            syncer = Syncer(files, options.fsync_mode, options.fsync_interval_ms, on_sync_failure)
            wal = cls(options, files, found, syncer)
            if found.segments:
                wal._active.open(found.segments[-1].path, found.position.offset)
        except OSError as error:
            raise WalFailed(f"the log in {options.directory} can't be opened: {error}") from error
        return wal

    @property
    def position(self) -> Position:
        """Where the log ends."""
        return self._readers.extent.position

    @property
    def mark(self) -> Mark:
        """The place in the files where the log ends; Mark(0, 0) before the first segment."""
        extent = self._readers.extent
        return Mark(extent.segments[-1].first_offset if extent.segments else 0, extent.end)

    @property
    def first_offset(self) -> int:
        """Offset of the oldest entry that is given out, or of the first that will be; 1 at first.

        What lies before a place that was found damaged is not given out.
        """
        return self._readers.first_offset

    @property
    def damage(self) -> str:
        """What of the files is damaged, as far as anybody has read them; empty for nothing."""
        return self._readers.damage

    @property
    def epoch(self) -> int:
        """Number of the active segment's reign; 0 before the first segment."""
        segments = self._readers.extent.segments
        return segments[-1].header.epoch if segments else 0

    @property
    def history(self) -> bytes:
        """Id of the active segment's reign; NO_HISTORY before the first segment."""
        segments = self._readers.extent.segments
        return segments[-1].header.history if segments else NO_HISTORY

    def histories(self) -> tuple[SegmentHeader, ...]:
        """Return the headers of all segments, oldest first."""
        return tuple(segment.header for segment in self._readers.extent.segments)

    @property
    def segment_count(self) -> int:
        return len(self._readers.extent.segments)

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._readers.extent.segments)

    @property
    def durable_offset(self) -> int:
        """Last offset that is known to be on the disk."""
        return self._syncer.durable_offset

    @property
    def last_sync_ms(self) -> int:
        """Wall clock at the end of the last sync; 0 before the first."""
        return self._syncer.last_sync_ms

    @property
    def last_sync_seconds(self) -> float:
        """How long the last sync took."""
        return self._syncer.last_sync_seconds

    def has_room(self, count: int) -> bool:
        """Say whether the disk has `count` bytes for the log now."""
        return self._readers.files.has_room(self._options.directory, count)

    def begin_reign(self, reign: Reign) -> None:
        """Begin a segment headed by `reign`; all frames up to the next call are of its epoch.

        The active segment's own reign changes nothing. One that wrote nothing is forgotten.

        Raises:
            StaleEpoch: the reign does not come after the one that wrote last.
            OffsetGap: it does not begin where the log ends.
            DiskFull: nothing changed.
            WalFailed: the log is of no more use.
        """
        self._syncer.check()
        if (reign.epoch, reign.history) == (self.epoch, self.history):
            return
        end, written = self.position, None
        for segment in self._readers.extent.segments:
            # An empty one counts for nothing: its reign wrote nothing, and gives way.
            if segment.first_offset <= end.offset:
                written = segment.header.history
        check_next_reign(reign, end, written)
        try:
            self._begin_segment(reign.epoch, reign.history)
        except NoFileLeft as error:
            raise self._syncer.fail(error, "a reign's segment can't be begun") from error

    def append(self, frames: Sequence[Frame], *, is_own: bool = False) -> None:
        """Append `frames` by one write: all of them, or none where an error says so.

        Args:
            frames: In order, the first one following `position`, all of the active reign.
            is_own: They were made here, to follow `position`, so that their digests need no look.

        Raises:
            StaleEpoch: a frame is of an earlier reign; nothing changed.
            OffsetGap: a frame does not follow, or is of a reign not begun; nothing changed.
            DiskFull: nothing changed, and the log goes on when there is room.
            WalFailed: the log is of no more use; the frames may be in it.
        """
        if not frames:
            return
        self._syncer.check()
        position = self._check_order(frames, is_own=is_own)
        buffers = [frame.encoded for frame in frames]
        size = sum(map(len, buffers))
        end = self._readers.extent.end
        is_long = end + size > self._options.segment_bytes and end > SEGMENT_HEADER_BYTES
        is_older = self._readers.extent.segments[-1].header.version != VERSION
        if is_long or is_older:
            self._roll_over(may_wait=not is_older)
        before = self._readers.extent
        self._active.write(buffers, before.end)
        self._syncer.written(position.offset)
        self._before_append = Border(before.position, before.end)
        self._publish(before.segments, before.end + size, position)

    def retract(self, position: Position) -> None:
        """Take the last append back: the live store refused its effects, nobody may see them.

        Args:
            position: Where the log stood before it.

        Raises:
            OffsetUnknown: the last append did not begin there.
            WalFailed: a reader has them already, or the file can't be cut; the log is of no more
                use, and the frames stay in it for the next start.
        """
        self._syncer.check()
        before = self._before_append
        if before is None or before.position != position:
            raise OffsetUnknown(f"the last append did not begin at {position}")
        with self._readers.lock:
            if self._readers.furthest_offset > position.offset:
                raise self._syncer.fail(
                    LogError("a reader has them"), "frames can't be taken back from the log"
                )
            self._active.cut_back(before.at)
            self._syncer.retracted(position.offset)
            segments = self._readers.extent.segments
            segments[-1].forget_behind(before.at)
            self._publish(segments, before.at, position)
        self._before_append = None

    def cursor(self, offset: int) -> WalCursor:
        """Return a cursor that reads what follows `offset`; for any one thread.

        Raises:
            OffsetNotRetained: offset + 1 is no longer in the log.
            OffsetUnknown: no frame ends there: it is inside one, or after the log's end.
        """
        return WalCursor(self._readers, offset)

    def frames_after(self, offset: int) -> Iterator[Frame]:
        """Yield the frames that follow `offset` up to the log's end; errors as for `cursor`."""
        with self.cursor(offset) as cursor:
            yield from cursor.frames()

    def position_at(self, offset: int) -> Position | None:
        """Return the position of the frame that ends with `offset`; from any thread.

        Returns:
            None where no frame of the log ends there.

        Raises:
            OffsetNotRetained: the log begins after `offset`.
        """
        try:
            return self._readers.locate(offset)[1].position
        except OffsetUnknown:
            return None

    def retire(self, covered_offset: int, max_bytes: int) -> int:
        """Let go of the oldest segments as long as the log is longer than `max_bytes`.

        The active one stays, and so does what an open cursor has yet to read. Their files are there
        until `remove_retired`.

        Args:
            covered_offset: Entries up to here can be had from snapshots.

        Returns:
            The number of segments that went.
        """
        readers = self._readers
        # A reader at work may hold it for the time of a read: then the next call will do.
        if not readers.lock.acquire(blocking=False):
            return 0
        try:
            extent = readers.extent
            needed = readers.needed_offset()
            if needed is not None:
                covered_offset = min(covered_offset, needed - 1)
            surplus = self.size_bytes - max_bytes
            count = 0
            for segment, following in pairwise(extent.segments):
                if surplus <= 0 or following.first_offset > covered_offset + 1:
                    break
                surplus -= segment.size
                count += 1
            if count:
                self._retired.extend(segment.path for segment in extent.segments[:count])
                readers.extent = Extent(extent.segments[count:], extent.end, extent.position)
        finally:
            readers.lock.release()
        return count

    def remove_retired(self) -> None:
        """Remove the files of retired segments, oldest first; in any one thread.

        Raises:
            OSError: one can't be removed; it and those after it are tried again the next time.
        """
        while self._retired:
            # Each is gone for good before the next one goes: a crash leaves no hole.
            with suppress(FileNotFoundError):
                self._readers.files.remove(self._retired[0])
            self._readers.files.sync_directory(self._options.directory)
            self._retired.popleft()

    def sync(self) -> None:
        """Make all of the log durable, whatever the fsync mode.

        Raises:
            WalFailed: the sync failed; the log is of no more use.
        """
        self._syncer.check()
        self._syncer.sync()

    def close(self) -> None:
        """Sync what is not durable, in every mode, and close; twice does no harm.

        Raises:
            WalFailed: that sync failed. After an earlier failure none is tried.
        """
        self._is_closed = True
        try:
            self._syncer.finish()
        finally:
            self._active.close()

    def misplaced(self) -> str:
        """Return what is wrong where the log's file no longer has its name; empty where it has."""
        return self._active.misplaced()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def _check_order(self, frames: Sequence[Frame], *, is_own: bool) -> Position:
        """Return the position after `frames`, which must continue the log."""
        position, epoch = self.position, self.epoch
        for frame in frames:
            if frame.epoch < epoch:
                raise StaleEpoch(f"a frame of epoch {frame.epoch} in the reign of epoch {epoch}")
            if frame.epoch > epoch:
                raise OffsetGap(f"reign {frame.epoch} was not begun, the log's epoch is {epoch}")
            is_next = is_own and frame.first_offset == position.offset + 1
            if not (is_next or follows(frame, position)):
                raise OffsetGap(f"frame {frame.position} does not follow {position}")
            position = frame.position
        return position

    def _publish(self, segments: tuple[Segment, ...], end: int, position: Position) -> None:
        segments[-1].size = end
        segments[-1].note(position, end)
        self._readers.extent = Extent(segments, end, position)

    def _roll_over(self, *, may_wait: bool) -> None:
        """Begin the next segment, or go on with this one where no file can be opened for now.

        The segment is longer then, and the next append tries again.

        Args:
            may_wait: This one may hold what comes next: it is of this program's format.
        """
        try:
            self._begin_segment(self.epoch, self.history)
        except NoFileLeft as error:
            if not may_wait:
                raise self._syncer.fail(error, "the next segment can't be begun") from error
            now = time.monotonic()
            if now - self._warned >= _WARN_SECONDS:
                self._warned = now
                logger.warning(
                    "the next segment of the log waits: %s", error, extra={"action": "wal_waits"}
                )

    def _begin_segment(self, epoch: int, history: bytes) -> None:
        base, now_ms = self.position, time.time_ns() // 1_000_000
        first_offset = base.offset + 1
        header = SegmentHeader(history, epoch, first_offset, base.epoch, base.rolling, now_ms)
        segment = Segment(self._active.replace(header), header)
        # A reign that wrote nothing gives way to the next one, under the same name.
        earlier = (s for s in self._readers.extent.segments if s.first_offset < first_offset)
        self._publish((*earlier, segment), segment.size, base)


def _warn_of_cut(found: Recovered) -> None:
    assert found.torn is not None
    path = found.torn.path
    logger.warning(
        "%s ended inside a write; %d bytes were cut, the log ends at %s",
        path,
        found.torn_bytes,
        found.position,
        extra={"action": "wal_cut", "path": str(path), "bytes": found.torn_bytes},
    )
