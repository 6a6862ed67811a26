"""A node's log and the state that it leads to: WAL, live store and identity as one.

The writer of a master and the subscriber of a replica both own a `Log` and differ in where their
frames come from. Whichever it is, a frame is in the WAL before the live store shows its effects, so
a reader never sees what the WAL does not hold. Opening is recovery: `docs/architecture.md`, "After
a crash", names the cases.

One process at a time may own it; a lock in the WAL's folder sees to that.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from synap.config import Config
from synap.errors import (
    DataDirUnusable,
    DiskFull,
    MemoryLimit,
    StaleEpoch,
    StoreUnusable,
)
from synap.frame import Frame, encode_frame
from synap.node import Node, lock_file
from synap.paths import NodePaths
from synap.position import START, Lineage, Position, Reign
from synap.store import Applied, Store, WriteTransaction, is_trusted
from synap.wal import Mark, Wal, WalOptions

logger = logging.getLogger(__name__)

# The map is address space, not memory: the file grows as it is written. It is never resized while
# readers have it, so it must hold whatever the limits below allow.
_MAP_BYTES = 1 << 40
# Replay commits this much at a time: enough that the commit's cost vanishes, little enough that the
# dirty pages of one transaction stay far below LMDB's limit.
_REPLAY_BYTES = 4 * 1024 * 1024
# How long a new owner waits for one that was killed to be gone.
_HANDOVER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening the log found and did.

    Attributes:
        source: `store` where the live store was used, `log` where it was rebuilt, `nothing` on a
            new node.
        reason: Why the live store was not used; empty where it was.
        replayed_frames: Frames of the log that the live store lacked.
        cut_bytes: Bytes of a torn tail that were cut off the log.
        seconds: How long it took.
    """

    source: str
    reason: str
    replayed_frames: int
    cut_bytes: int
    seconds: float


class Log:
    """The node's log, open for its owner.

    Attributes:
        node: The node's identity.
        wal: The frames on disk.
        store: The live store.
        recovery: What opening did.
    """

    def __init__(
        self, lock: int, node: Node, wal: Wal, store: Store, recovery: Recovery
    ) -> None:
        self._lock = lock
        self.node = node
        self.wal = wal
        self.store = store
        self.recovery = recovery

    @classmethod
    def open(
        cls,
        config: Config,
        paths: NodePaths,
        node: Node,
        on_sync_failure: Callable[[BaseException], None],
    ) -> Log:
        """Open and recover the node's log.

        Args:
            on_sync_failure: Called, from another thread, when a sync in the background failed: the
                process must end.

        Raises:
            DataDirInUse: another process owns it.
            WalCorrupt: the log is damaged before its end.
            WalFailed: the disk can't be read or written.
            StoreUnusable: the live store is lost and the log does not reach back to its beginning.
        """
        lock = lock_file(paths.wal_dir / "owner.lock", wait_seconds=_HANDOVER_SECONDS)
        try:
            began = time.monotonic()
            trusted, reason = is_trusted(paths.store_dir)
            options = _wal_options(config, paths)
            if trusted:
                store = Store.open(paths.store_dir, _MAP_BYTES)
                wal = _open_wal_behind(store, options, on_sync_failure)
                source = "store"
            else:
                wal = Wal.open(options, resume=None, on_sync_failure=on_sync_failure)
                store = _new_generation(paths.store_dir, wal)
                source = "log" if wal.position.offset else "nothing"
            _begin_reign(node, wal)
            replayed = _replay(wal, store)
            seconds = time.monotonic() - began
        except BaseException:
            os.close(lock)
            raise
        recovery = Recovery(source, reason, replayed, wal.report.cut_bytes, seconds)
        _tell(recovery, wal)
        return cls(lock, node, wal, store, recovery)

    @property
    def position(self) -> Position:
        """Where the log stands; the live store shows the same."""
        return self.wal.position

    @property
    def applied(self) -> Applied:
        return self.store.applied

    @property
    def lineage(self) -> Lineage:
        return self.node.lineage

    def commit(self, transaction: WriteTransaction, time_ms: int) -> Frame:
        """Log the effects that `transaction` collected, then show them to readers.

        Args:
            transaction: Begun on this log's store, with at least one entry; ended in any case.
            time_ms: Wall clock.

        Raises:
            DiskFull, MemoryLimit: nothing was logged and nothing changed.
            WalFailed: the log is of no more use; what became of the entries is unknown.
        """
        reign = self.node.reign
        assert reign is not None, "a node without a reign has no writer"
        frame = encode_frame(
            transaction.entries, previous=self.wal.position, epoch=reign.epoch, time_ms=time_ms
        )
        self._append_and_commit([frame], transaction)
        return frame

    def append_frames(self, frames: Sequence[Frame]) -> None:
        """Log frames that a master wrote, then show their effects to readers.

        Where it raises, what `position` tells is done and the rest is not; frames of one reign are
        appended together or not at all.

        Args:
            frames: In order, the first one following `position`.

        Raises:
            StaleEpoch: they belong to a reign that does not write here in this node's lineage.
            OffsetGap: they do not follow.
            DiskFull, MemoryLimit: there is no room.
            WalFailed: the log is of no more use.
        """
        for epoch, reigned in groupby(frames, key=lambda frame: frame.epoch):
            self._append_reigned(self._reign_of(epoch), list(reigned))

    def adopt(self, lineage: Lineage) -> None:
        """Take the lineage of the master that this node's log follows, or will follow."""
        self.node.adopt(lineage)

    def close(self, *, clean: bool) -> None:
        """Close everything.

        Args:
            clean: Sync the live store first, so that the next start may use it even after the
                machine restarted.
        """
        self.wal.close()
        self.store.close(clean=clean)
        os.close(self._lock)

    def _reign_of(self, epoch: int) -> Reign:
        """Return the reign that writes at the log's end; refuse any other epoch's frames."""
        next_offset = self.position.offset + 1
        reigns = [reign for reign in self.lineage if reign.first_offset <= next_offset]
        if not reigns or reigns[-1].epoch != epoch:
            raise StaleEpoch(
                f"a frame of epoch {epoch} at offset {next_offset}, where the lineage says "
                f"{reigns[-1] if reigns else 'nothing'}"
            )
        return reigns[-1]

    def _append_reigned(self, reign: Reign, frames: Sequence[Frame]) -> None:
        self.wal.begin_reign(reign)
        transaction = self.store.begin()
        try:
            for frame in frames:
                transaction.apply(frame.entries(), frame.first_offset)
        except BaseException:
            transaction.abort()
            raise
        self._append_and_commit(frames, transaction)

    def _append_and_commit(self, frames: Sequence[Frame], transaction: WriteTransaction) -> None:
        before = self.wal.position
        try:
            self.wal.append(frames)
            transaction.set_applied(_applied_at(self.wal, frames[-1].time_ms))
            transaction.commit()
        except (DiskFull, MemoryLimit):
            transaction.abort()
            # The live store refused what the log already holds: take it back, nobody saw it.
            if self.wal.position != before:
                self.wal.retract(before)
            raise
        except BaseException:
            transaction.abort()
            raise


def _wal_options(config: Config, paths: NodePaths) -> WalOptions:
    wal = config.persistence.wal
    return WalOptions(
        directory=paths.wal_dir,
        link_name=paths.wal_link.name,
        segment_bytes=wal.segment_bytes,
        fsync_mode=wal.fsync_mode,
        fsync_interval_ms=wal.fsync_interval_ms,
    )


def _open_wal_behind(
    store: Store, options: WalOptions, on_sync_failure: Callable[[BaseException], None]
) -> Wal:
    applied = store.applied
    resume = None
    if applied.position != START:
        resume = (applied.position, Mark(applied.segment, applied.byte_position))
    wal = Wal.open(options, resume=resume, on_sync_failure=on_sync_failure)
    if wal.position.offset < applied.position.offset:
        wal.close()
        raise StoreUnusable(
            f"the live store holds offset {applied.position.offset} but the log in "
            f"{options.directory} ends at {wal.position.offset}; segments are missing, "
            "put them back or restore from a backup"
        )
    return wal


def _new_generation(root: Path, wal: Wal) -> Store:
    if wal.position.offset and wal.first_offset != 1:
        first_offset = wal.first_offset
        wal.close()
        raise StoreUnusable(
            f"the live store can't be used and the log begins at offset {first_offset}; "
            "restore from a backup"
        )
    store = Store.create(root, _MAP_BYTES)
    for folder in root.iterdir():
        # What a generation held can be read again from the log, so the old one may go.
        if folder.is_dir() and folder.name.isdigit() and int(folder.name) != store.generation:
            shutil.rmtree(folder)
    return store


def _begin_reign(node: Node, wal: Wal) -> None:
    """Head the log by the reign that this node writes in; a replica's is begun by its frames."""
    if wal.position.offset and wal.history not in {reign.history for reign in node.lineage}:
        raise DataDirUnusable(
            f"the log is of history {wal.history.hex()}, which node.json does not know: "
            "files of two nodes are mixed; put the ones that belong together back"
        )
    if node.role != "replica" and node.reign is not None:
        wal.begin_reign(node.reign)


def _replay(wal: Wal, store: Store) -> int:
    """Apply what the log holds behind the live store; return the number of frames."""
    count = 0
    for frames in _batches(wal.frames_after(store.applied.position.offset)):
        transaction = store.begin()
        try:
            for frame in frames:
                transaction.apply(frame.entries(), frame.first_offset)
            last = frames[-1]
            # The mark is a hint for the next start; the one behind the last frame is exact.
            mark = wal.mark if last.last_offset == wal.position.offset else Mark(0, 0)
            transaction.set_applied(
                Applied(last.position, mark.segment, mark.byte_position, last.time_ms)
            )
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise
        count += len(frames)
    return count


def _batches(frames: Iterable[Frame]) -> Iterable[list[Frame]]:
    batch: list[Frame] = []
    batch_bytes = 0
    for frame in frames:
        batch.append(frame)
        batch_bytes += len(frame.encoded)
        if batch_bytes >= _REPLAY_BYTES:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


def _applied_at(wal: Wal, time_ms: int) -> Applied:
    mark = wal.mark
    return Applied(wal.position, mark.segment, mark.byte_position, time_ms)


def _tell(recovery: Recovery, wal: Wal) -> None:
    logger.info(
        "log open at %s, from %s, %d frames replayed, %d bytes cut, %.2f s",
        wal.position,
        recovery.source,
        recovery.replayed_frames,
        recovery.cut_bytes,
        recovery.seconds,
        extra={"action": "recovery", "reason": recovery.reason, "offset": wal.position.offset},
    )
