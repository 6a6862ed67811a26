"""A node's log and the state that it leads to: WAL, live store and identity as one.

The writer of a master and the subscriber of a replica both own a `DataDir` and differ in where
their frames come from. Whichever it is, a frame is in the WAL before the live store shows its
effects, so a reader never sees what the WAL does not hold. Opening is recovery:
`synap.node.recovery`.

One process at a time may own it; a lock in the WAL's folder sees to that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from synap.disk import DISK, NO_ROOM, Files
from synap.errors import DiskFull, LogError, MemoryLimit, StaleEpoch, StoreUnusable
from synap.frame import Frame, Pair, encode_frame
from synap.node import resync_switch
from synap.node.identity import Node, lock_file
from synap.node.paths import NodePaths
from synap.node.recovery import MAP_BYTES, Recovery, recover, wal_options
from synap.node.replay import Replay
from synap.place import Reigns
from synap.position import Lineage, Position, Reign
from synap.replication.rules.record_copies import Looked, Summed
from synap.shared.accounts_version import AccountsVersion
from synap.snapshot.apart import walk_apart
from synap.snapshot.folder import Manifest
from synap.snapshot.image import unpack_image
from synap.store import Applied, Bulk, Store, WriteTransaction
from synap.store.scrubbing import is_sound
from synap.wal.wal import Wal

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

# How long a new owner waits for one that was killed to be gone.
_HANDOVER_SECONDS = 5.0
# From so many entries on, sorting them first costs less than going to and fro in the store.
_BULK_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class Prepared:
    """A received snapshot, ready to take the place of log and live store."""

    manifest: Manifest
    store: Store


# Shorter payloads gain little.
_COMPRESSED_OVER_BYTES = 4096


class DataDir:
    """The node's log, open for its owner.

    Attributes:
        node: The node's identity.
        wal: The frames on disk.
        store: The live store.
        recovery: What opening did.
        files: The file calls.
    """

    def __init__(
        self,
        lock: int,
        node: Node,
        opened: tuple[Wal, Store, Recovery],
        config: Config,
        paths: NodePaths,
        on_sync_failure: Callable[[BaseException], None],
        files: Files,
        on_logged: Callable[[Sequence[Frame]], None] | None,
    ) -> None:
        wal, store, recovery = opened
        self._lock = lock
        self._config = config
        self._paths = paths
        self._on_sync_failure = on_sync_failure
        self.files = files
        self._on_logged = on_logged
        self.node = node
        self.wal = wal
        self.store = store
        self.recovery = recovery
        self._is_behind = recovery.is_behind
        self._reigns = Reigns(node.lineage)
        compression = config.persistence.wal.compression
        self._compress_over = _COMPRESSED_OVER_BYTES if compression == "zstd" else None
        # Whatever opening, or an owner before that died in the middle, has done to them.
        self._accounts = AccountsVersion(paths.accounts_file)
        self._accounts.change()

    @classmethod
    def open(
        cls,
        config: Config,
        paths: NodePaths,
        node: Node,
        on_sync_failure: Callable[[BaseException], None],
        files: Files = DISK,
        on_logged: Callable[[Sequence[Frame]], None] | None = None,
        *,
        has_peers: bool = False,
    ) -> DataDir:
        """Open and recover the node's log.

        Args:
            has_peers: Others may hold what this log has lost: where it may have, no reign begins
                before `begin_reign`.
            on_sync_failure: Called, from another thread, when a sync in the background failed: the
                process must end.
            files: The file calls; tests give their own.
            on_logged: Called with frames that were logged and whose effects are shown; None where
                nobody counts them.

        Raises:
            DataDirInUse: another process owns it.
            WalCorrupt: the log is damaged before its end.
            WalFailed: the disk can't be read or written.
            StoreUnusable: the live store is lost, and no snapshot and no log makes up for it.
        """
        lock = lock_file(paths.wal_dir / "owner.lock", wait_seconds=_HANDOVER_SECONDS)
        try:
            opened = recover(config, paths, node, on_sync_failure, files, has_peers=has_peers)
        except BaseException:
            os.close(lock)
            raise
        return cls(lock, node, opened, config, paths, on_sync_failure, files, on_logged)

    @property
    def position(self) -> Position:
        """Where the log stands; the live store shows the same, but for `replay_rest`."""
        return self.wal.position

    @property
    def applied(self) -> Applied:
        return self.store.applied

    @property
    def lineage(self) -> Lineage:
        return self.node.lineage

    @property
    def reigns(self) -> Reigns:
        """The lineage, made ready to be asked whose an entry is."""
        lineage = self.node.lineage
        if self._reigns.lineage is not lineage:
            self._reigns = Reigns(lineage)
        return self._reigns

    def has_room(self, count: int) -> bool:
        """Say whether the disk has `count` bytes for the log, and as many for the live store."""
        return self.wal.has_room(count) and self.store.has_room(count)

    def replay_rest(self) -> None:
        """Show readers what the live store had no room for when it was opened.

        To be called before a transaction is begun; costs nothing once it has succeeded.

        Raises:
            DiskFull, MemoryLimit: there is still no room.
        """
        if self._is_behind:
            Replay(self.store).finish(self.wal)
            self._is_behind = False
            self._accounts.change()

    def commit(self, transaction: WriteTransaction, time_ms: int) -> Frame:
        """Log the effects that `transaction` collected, then show them to readers.

        Args:
            transaction: Begun on this log's store, with at least one effect; ended in any case.
            time_ms: Wall clock. The frame's stamp is at least that of the one before it: a clock
                that was set back does not make what comes later look older.

        Raises:
            DiskFull, MemoryLimit: nothing was logged and nothing changed.
            WalFailed: the log is of no more use; what became of the entries is unknown.
        """
        reign = self.node.reign
        assert reign is not None, "a node without a reign has no writer"
        frame = encode_frame(
            transaction.effects,
            previous=self.wal.position,
            epoch=reign.epoch,
            time_ms=max(time_ms, self.store.applied.time_ms),
            compress_over=self._compress_over,
        )
        self._append_and_commit([frame], transaction, is_own=True)
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
            reign = reign_at_end(self.lineage, self.position, epoch)
            self._append_reigned(reign, list(reigned))

    def look(self, space: int, key: bytes) -> Looked:
        """Return what the live store has of a key, sound or not."""
        raw, offset = self.store.reader().raw(space, key)
        return Looked(raw, offset, raw is None or is_sound(key, raw))

    def summed(self, space: int, after: bytes, until: bytes, limit: int) -> Summed:
        """Return the sum over the first records of a range; all where `until` is empty."""
        digest = self.store.reader().digest_range(space, after, until or None, limit)
        return Summed(digest.offset, digest.records, digest.sum, digest.last)

    def restore(self, records: Sequence[tuple[int, bytes, bytes | None]]) -> None:
        """Put sound records in place of damaged ones in the live store; the log stays as it is.

        Args:
            records: Space, key, and the record as it was stored, or None for none.

        Raises:
            DiskFull, MemoryLimit: there is no room; nothing changed.
        """
        with self._mending() as transaction:
            for record in records:
                transaction.restore(*record)

    def restore_deadlines(self, entries: Sequence[bytes]) -> None:
        """Put entries of the index of deadlines right by their records; errors as `restore`."""
        with self._mending() as transaction:
            for entry in entries:
                transaction.restore_deadline(entry)

    @contextmanager
    def _mending(self) -> Iterator[WriteTransaction]:
        transaction = self.store.begin()
        try:
            yield transaction
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise

    def frames_behind(self, position: Position, limit_bytes: int) -> bytes:
        """Return the bytes of whole frames that follow `position`, at least one; b"" for none.

        None also where the log did not go through `position`, or can't be read from there.
        """
        try:
            if self.wal.position_at(position.offset) != position:
                return b""
            with self.wal.cursor(position.offset) as cursor:
                return cursor.next(limit_bytes)
        except LogError as error:
            logger.warning("nothing can be lent after %s: %s", position, error)
            return b""

    @property
    def is_recovering(self) -> bool:
        """Whether the end of the log may be lost, and no reign has begun since."""
        return self.node.identity.is_recovering

    def begin_reign(self) -> Reign:
        """Begin a reign after the log's end, durably, which ends `is_recovering`.

        Raises:
            DiskFull, OSError: there is no room; it may be tried again.
            WalFailed: the log is of no more use.
        """
        node = self.node
        reign = node.reign
        if node.identity.is_recovering or reign is None:
            self.wal.sync()
            reign = node.begin_reign(self.position.offset)
        self.wal.begin_reign(reign)
        return reign

    def promote(self, addresses: tuple[str, str] | None, epoch: int = 0) -> Reign:
        """Become a master in a new reign after the log's end, durably.

        The log is synced first: replicas that this node does not know hold what came before.

        Args:
            addresses: PUB and ROUTER socket of the master until now; None where there was none.
            epoch: The reign's number, which was sealed before; 0 for the next one.
        """
        self.wal.sync()
        return self.node.promote(self.position.offset, addresses, epoch)

    @property
    def sealed_epoch(self) -> int:
        """Nothing of a reign below this one is acknowledged any more; 0 for none."""
        return self.node.identity.sealed_epoch

    @property
    def sealed_for(self) -> str:
        """`server.node_id` of the candidate that this epoch was promised to."""
        return self.node.identity.sealed_for

    def mark_reign(self, time_ms: int) -> Frame | None:
        """Log the entry that a reign begins with, where it has logged nothing and others had.

        Returns:
            The frame; None where there is nothing to do.

        Raises:
            DiskFull, MemoryLimit: nothing was logged.
            WalFailed: the log is of no more use.
        """
        reign = self.node.reign
        if reign is None or not 0 < self.position.offset < reign.first_offset:
            return None
        self.replay_rest()
        transaction = self.store.begin()
        transaction.mark()
        return self.commit(transaction, time_ms)

    @property
    def has_synced(self) -> bool:
        """Whether the data was ever a whole state of the log's master, or of this node's own."""
        return self.node.identity.has_synced

    def note_synced(self) -> None:
        """Make `has_synced` true for good."""
        self.node.note_synced()

    def adopt(self, lineage: Lineage) -> None:
        """Take the lineage of the master that this node's log follows, or will follow."""
        self.node.adopt(lineage)

    def prepare(self, image: Path, manifest: Manifest) -> Prepared:
        """Verify a received snapshot and unpack it beside the live store; in any thread.

        Raises:
            SnapshotInvalid: it is not what the manifest says.
            DiskFull, StoreUnusable: it can't be unpacked.
        """

        def fill(folder: Path) -> None:
            try:
                unpack_image(image, manifest, folder, self.files, look=walk_apart)
            except OSError as error:
                kind = DiskFull if error.errno in NO_ROOM else StoreUnusable
                raise kind(f"{image} can't be unpacked to {folder}: {error}") from error

        self.store.remove_others()
        writemap = self._config.kv_store.writemap
        store = Store.prepare(self._paths.store_dir, MAP_BYTES, fill, self.files, writemap)
        return Prepared(manifest, store)

    def begin_switch(
        self, prepared: Prepared, lineage: Lineage, kept_after: int | None, keeps_store: bool
    ) -> resync_switch.ResyncSwitch:
        """Decide durably that a prepared snapshot takes the place of log and live store.

        Args:
            lineage: The reigns of the master's log.
            kept_after: Own entries behind this offset are put aside; None for none.
            keeps_store: The live store is put aside too.

        Raises:
            OSError, StoreError: the disk refuses; nothing has changed.
        """
        prepared.store.sync()
        begun = resync_switch.ResyncSwitch(
            generation=prepared.store.generation,
            position=prepared.manifest.position,
            lineage=lineage,
            kept_after=kept_after,
            old_generation=self.store.generation if keeps_store else 0,
        )
        resync_switch.begin(self._paths, begun, self.files)
        return begun

    def finish_switch(self, begun: resync_switch.ResyncSwitch) -> Wal:
        """Do the disk's part of it, and return the new log for `enter`; in any thread.

        Nothing may be appended meanwhile. Where it raises, the process must end; the next start
        goes on from there.
        """
        self.wal.close()
        resync_switch.finish(self._paths, self.node, begun, self.files)
        return Wal.open(
            wal_options(self._config, self._paths),
            base=begun.position,
            on_sync_failure=self._on_sync_failure,
            files=self.files,
        )

    def enter(self, wal: Wal, prepared: Prepared) -> None:
        """Go on with the new log and live store."""
        old, self.store, self.wal = self.store, prepared.store, wal
        self._is_behind = False
        self._accounts.change()
        old.close(clean=False)

    def misplaced(self) -> str:
        """Return which file is no longer where it was opened; empty where all are."""
        if self.wal.is_closed:
            # Another log and store take their places just now.
            return ""
        lost = self.wal.misplaced()
        if not lost and not self.store.is_in_place():
            lost = f"the live store in {self._paths.store_dir} is gone, or was replaced"
        return lost

    def close(self, *, clean: bool) -> None:
        """Close everything.

        Args:
            clean: Sync the live store first, so that the next start may use it even after the
                machine restarted.
        """
        self.wal.close()
        self.store.close(clean=clean)
        self._accounts.close()
        os.close(self._lock)

    def _append_reigned(self, reign: Reign, frames: Sequence[Frame]) -> None:
        self.replay_rest()
        self.wal.begin_reign(reign)
        transaction = self.store.begin()
        try:
            if sum(frame.count for frame in frames) < _BULK_ENTRIES:
                _apply(frames, transaction)
            else:
                transaction.apply_many(Bulk(frames))
        except BaseException:
            transaction.abort()
            raise
        self._append_and_commit(frames, transaction)

    def _append_and_commit(
        self, frames: Sequence[Frame], transaction: WriteTransaction, *, is_own: bool = False
    ) -> None:
        before = self.wal.position
        try:
            self.wal.append(frames, is_own=is_own)
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
        if transaction.changes_accounts:
            self._accounts.change()
        if self._on_logged is not None:
            self._on_logged(frames)


def _apply(frames: Sequence[Frame], transaction: WriteTransaction) -> None:
    """Carry out frames that follow each other; those that only set keys for good, together."""
    run: list[Pair] = []
    run_offset = 0
    for frame in frames:
        pairs = frame.plain_pairs()
        if pairs is not None:
            run_offset = run_offset or frame.first_offset
            run += pairs
            continue
        if run:
            transaction.apply_sets(run, run_offset)
            run, run_offset = [], 0
        transaction.apply(frame.entries(), frame.first_offset)
    if run:
        transaction.apply_sets(run, run_offset)


def reign_at_end(lineage: Lineage, end: Position, epoch: int) -> Reign:
    """Return the reign that writes after `end`.

    Raises:
        StaleEpoch: it is another one than that of `epoch`.
    """
    next_offset = end.offset + 1
    reigns = [reign for reign in lineage if reign.first_offset <= next_offset]
    if not reigns or reigns[-1].epoch != epoch:
        raise StaleEpoch(
            f"a frame of epoch {epoch} at offset {next_offset}, where the lineage says "
            f"{reigns[-1] if reigns else 'nothing'}"
        )
    return reigns[-1]


def _applied_at(wal: Wal, time_ms: int) -> Applied:
    mark = wal.mark
    return Applied(wal.position, mark.segment, mark.byte_position, time_ms, wal.history)
