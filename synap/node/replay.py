"""Bringing a live store to the log's end.

A store that is rebuilt takes frames while opening the log checks them, so that the files are read
once; the rest, and all that a store in use lacks, is read from the open log. Only whole bulks are
committed, which bounds the memory.

`synap.node.recovery` calls it, and `synap.node.data_dir` where a store had stayed behind on a full
disk.
"""

from __future__ import annotations

from synap.frame import Frame
from synap.position import Position
from synap.store import Applied, Bulk, Store
from synap.wal.segment import Mark
from synap.wal.wal import Wal

# So much is committed at a time: the more, the fewer times is each page of the store written. In
# memory it takes about two and a half times this size, with the pages.
BULK_BYTES = 128 * 1024 * 1024


class Replay:
    """What a store lacks of the log, on its way there.

    Attributes:
        frames: Frames that were taken.
    """

    def __init__(self, store: Store, bulk_bytes: int = BULK_BYTES) -> None:
        """
        Args:
            bulk_bytes: How much is committed at a time.
        """
        self.frames = 0
        self._store = store
        self._bulk_bytes = bulk_bytes
        position = store.applied.position
        self._next_offset = position.offset + 1
        self._rolling = position.rolling
        self._bulk = Bulk()
        self._history = store.applied.history

    def see(self, before: Position, frame: Frame, history: bytes) -> None:
        """Take a checked frame where it follows what was taken, and leave it alone elsewhere.

        Args:
            before: Where the log stands before it.
            history: Id of the reign that wrote it.

        Raises:
            FrameCorrupt, DiskFull, MemoryLimit: as `WriteTransaction.apply_many`; what was
                committed before stays.
        """
        # The rolling checksum is of all that lies before, the epoch among it.
        if frame.first_offset != self._next_offset or before.rolling != self._rolling:
            return
        self._take(frame, history)

    def finish(self, wal: Wal) -> None:
        """Take what the open log holds beyond, and commit all; errors as for `see`."""
        history = {header.epoch: header.history for header in wal.histories()}
        for frame in wal.frames_after(self._next_offset - 1):
            self._take(frame, history[frame.epoch])
        if self._bulk.frames:
            self._commit(wal.mark)

    def _take(self, frame: Frame, history: bytes) -> None:
        if self._bulk.bytes >= self._bulk_bytes:
            # The mark is a hint for the next start; the one after the last frame is exact.
            self._commit(Mark(0, 0))
        self._bulk.add(frame)
        self._next_offset += frame.count
        self._rolling = frame.rolling
        self._history = history
        self.frames += 1

    def _commit(self, mark: Mark) -> None:
        bulk, self._bulk = self._bulk, Bulk()
        last = bulk.last
        assert last is not None
        transaction = self._store.begin()
        try:
            transaction.apply_many(bulk)
            transaction.set_applied(
                Applied(
                    last.position, mark.segment, mark.byte_position, last.time_ms, self._history
                )
            )
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise
