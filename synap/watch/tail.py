"""The frames that were applied since the last look, each of which continues the one before."""

from __future__ import annotations

from synap.errors import (
    FrameCorrupt,
    OffsetNotRetained,
    OffsetUnknown,
    WalCorrupt,
    WalFailed,
)
from synap.frame import follows
from synap.place import Place, Reigns
from synap.position import Position
from synap.store import Applied
from synap.wal.cursor import WalCursor
from synap.watch.changes import Batch
from synap.watch.log_files import LogFiles

# Of one read.
_STEP_BYTES = 1024 * 1024
UNREADABLE = (FrameCorrupt, OffsetNotRetained, OffsetUnknown, WalCorrupt, WalFailed)
"""What reading the log of another process may raise while that changes it, or it is damaged."""


class LogChanged(Exception):
    """The log is not the one any more that was followed, or can't be read on."""


class Tail:
    """Follows one log. Where that becomes another one, whoever has this makes a new one.

    Attributes:
        position: The end of the last frame that was returned.
        reigns: The lineage that it was read in.
    """

    def __init__(self, files: LogFiles, applied: Applied, reigns: Reigns) -> None:
        """Begin after what is applied.

        Raises:
            LogChanged: the files do not hold that, for now.
        """
        self.position: Position = applied.position
        self.reigns = reigns
        self._files = files
        try:
            files.see(applied, anew=True)
            self._cursor: WalCursor = files.follow(self.position.offset)
        except UNREADABLE as error:
            raise LogChanged(str(error)) from error

    def is_on(self, applied: Applied, reigns: Reigns) -> bool:
        """Say whether `applied` is where this has read to, or further on the same log."""
        offset = self.position.offset
        here = Place(offset, self.reigns.tag_of(offset))
        return offset <= applied.position.offset and (not offset or reigns.holds(here))

    def read(self, applied: Applied, reigns: Reigns) -> list[Batch]:
        """Return the next batches, of about 1 MiB; none where all are had that are applied.

        Args:
            applied: What the store shows now.
            reigns: The lineage up to there.

        Raises:
            LogChanged: it is no continuation, or can't be read.
        """
        try:
            self._files.see(applied)
            frames = self._cursor.next_frames(_STEP_BYTES)
            batches = []
            for frame in frames:
                if not follows(frame, self.position):
                    raise LogChanged(f"the frame of {frame.first_offset} does not continue the log")
                self.position = frame.position
                batches.append(Batch(frame, reigns))
        except UNREADABLE as error:
            raise LogChanged(str(error)) from error
        if not batches and self.position.offset < applied.position.offset:
            raise LogChanged(f"the log begins after offset {self.position.offset}")
        self.reigns = reigns
        return batches

    def close(self) -> None:
        """Let go of the file."""
        self._cursor.close()
