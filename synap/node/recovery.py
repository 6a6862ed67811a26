"""Opening a node's log after whatever happened to it: which files count, and how far they lead.

    the live store is trusted           it, and the frames after it
    it is not, or is damaged            the newest snapshot that verifies, and the frames after it
    there is no snapshot                the log from its first frame
    files of another history            put aside, before anything else
    a full resync was being switched in it is finished first

What is rebuilt is a new generation of the store, which is put in use when it is whole. A master
that may have lost the end of its log, or was copied, begins a new epoch, so that nobody takes what
it writes for what it, or its original, wrote there before. Where it knows replicas they are asked
first, and the epoch begins behind what they give back.

`synap.node.data_dir` calls it. `docs/architecture.md`, "After a crash", tells the cases.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from synap.disk import DISK, NO_ROOM, Files, remove_if_there
from synap.errors import (
    DataDirUnusable,
    DiskFull,
    OffsetNotRetained,
    SnapshotInvalid,
    StoreDamaged,
    StoreUnusable,
    WalCorrupt,
)
from synap.node import resync_switch
from synap.node.aside import Quarantine
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.node.replay import Replay
from synap.node.suspicion import clear_suspicion, suspicion
from synap.position import START, Position
from synap.snapshot.folder import Manifest, clear_leftovers, damaged_manifests, snapshots
from synap.snapshot.image import unpack_image
from synap.store import MACHINE_RESTARTED, MOUNTED_ANEW, NO_STORE, Store, generations, is_trusted
from synap.store.generations import DATA_FILE, folder_in_use, folder_of
from synap.wal.segment import (
    SEGMENT_HEADER_BYTES,
    opened,
    read_header,
    segment_path,
    segment_paths,
)
from synap.wal.wal import Mark, Wal, WalOptions

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

# The map is address space, not memory: the file grows as it is written. It is never resized while
# readers have it, so it must hold whatever the limits below allow.
MAP_BYTES = 1 << 40


@dataclass(slots=True)
class Recovery:
    """What opening the log found and did.

    Attributes:
        source: `store` where the live store was used, `snapshot` or `log` where it was rebuilt
            from one, `nothing` on a new node.
        reason: Why the live store was not used; empty where it was.
        snapshot_offset: Offset of the snapshot that was used; 0 for none.
        replayed_frames: Frames of the log that the store, or the snapshot, lacked.
        cut_bytes: Bytes of a torn tail that were cut off the log.
        begun_epoch: Number of the epoch that was begun; 0 where the last one goes on.
        put_aside: Files of another history, as they were named before.
        faults: Why newer snapshots than the one used could not be.
        is_behind: Whether the store still lacks frames, for want of room on the disk.
        seconds: How long it took.
    """

    source: str = "nothing"
    reason: str = ""
    snapshot_offset: int = 0
    replayed_frames: int = 0
    cut_bytes: int = 0
    begun_epoch: int = 0
    put_aside: tuple[Path, ...] = ()
    faults: list[str] = field(default_factory=list)
    is_behind: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """A segment or a snapshot, and whose it is."""

    history: bytes
    paths: list[Path]
    holds_entries: bool


def recover(
    config: Config,
    paths: NodePaths,
    node: Node,
    on_sync_failure: Callable[[BaseException], None],
    files: Files = DISK,
    *,
    has_peers: bool = False,
) -> tuple[Wal, Store, Recovery]:
    """Open the log and the live store so that both stand at the log's end.

    On a full disk a trusted store may stay behind; what it lacks was never acknowledged.

    Args:
        files: The file calls; tests give their own.
        has_peers: A master that may have lost the end of its log begins no reign here.

    Raises:
        WalCorrupt: the log is damaged before its end.
        WalFailed: the disk can't be read or written.
        StoreUnusable: the live store is lost, and no snapshot and no log makes up for it.
        DataDirUnusable: something can't be put aside.
    """
    recoverer = _Recoverer(config, paths, node, on_sync_failure, files, has_peers)
    wal, store = recoverer.run()
    _tell(recoverer.recovery, wal)
    return wal, store, recoverer.recovery


class _Recoverer:
    """One opening."""

    def __init__(
        self,
        config: Config,
        paths: NodePaths,
        node: Node,
        on_sync_failure: Callable[[BaseException], None],
        files: Files,
        has_peers: bool,
    ) -> None:
        self._has_peers = has_peers
        self._paths = paths
        self._node = node
        self._on_sync_failure = on_sync_failure
        self._options = wal_options(config, paths)
        self._writemap = config.kv_store.writemap
        self._foreign = Quarantine(paths.foreign_dir, files)
        self._files = files
        self._wal: Wal | None = None
        self._store: Store | None = None
        # Of a store that is not in use yet.
        self._rebuilding: Replay | None = None
        # Whether there is a segment or a snapshot of a history that node.json names.
        self._has_own = False
        # Generations that are kept in `foreign/` once another one is in use, and why.
        self._doomed: tuple[list[Path], str] = ([], "")
        self.recovery = Recovery()

    def run(self) -> tuple[Wal, Store]:
        began = time.monotonic()
        paths, recovery = self._paths, self.recovery
        for path in (paths.node_file, paths.resync_file, paths.replicas_file):
            # Half of one that a crash cut off.
            remove_if_there(path.with_name(f"{path.name}.tmp"), self._files)
        self._finish_switch()
        if paths.snapshots_dir.exists():
            clear_leftovers(paths.snapshots_dir, self._files)
        try:
            self._put_foreign_aside()
            trusted, recovery.reason = is_trusted(paths.store_dir)
            doubt = suspicion(paths)
            if doubt:
                recovery.reason = self._doom(doubt)
            elif trusted:
                recovery.reason = self._open_in_place()
            elif generations.is_pointer_damaged(paths.store_dir):
                self._doom(recovery.reason)
            if self._store is None:
                self._rebuild_or_refuse()
            wal, store = self._replay_all()
            # Behind what may fail for want of room: a node that tries again begins no more of them.
            self._begin_reign(wal)
            if recovery.source == "nothing" and self._node.role == "replica":
                self._node.forget_synced()
            if recovery.source != "store":
                self._rebuilding = None
                store.make_current()
                self._foreign.take(*self._doomed)
                clear_suspicion(paths)
            # Also what a full resync prepared and a crash left unused.
            store.remove_others()
        except BaseException:
            self._close()
            generations.clear_unused(paths.store_dir, self._files)
            raise
        recovery.cut_bytes += wal.report.cut_bytes
        recovery.put_aside = tuple(self._foreign.moved)
        recovery.seconds = time.monotonic() - began
        return wal, store

    def _finish_switch(self) -> None:
        path = self._paths.resync_file
        try:
            begun = resync_switch.pending(self._paths)
        except (ValueError, msgspec.DecodeError) as error:
            # The old state counts, as far as it is there; what it lacks is fetched again.
            self._foreign.take([path], f"it is damaged ({error}), and the full resync begins anew")
            return
        except OSError as error:
            raise DataDirUnusable(f"{path} can't be read: {error}") from error
        if begun is None:
            return
        try:
            resync_switch.finish(self._paths, self._node, begun, self._files)
        except OSError as error:
            raise DataDirUnusable(
                f"the full resync to {begun.position} can't be finished: {error}"
            ) from error

    def _put_foreign_aside(self) -> None:
        known = {reign.history for reign in self._node.lineage}
        found = [*self._segment_histories(), *self._snapshot_histories()]
        foreign = [each for each in found if each.history not in known]
        self._has_own = len(foreign) < len(found)
        if not self._has_own and any(each.holds_entries for each in foreign):
            raise self._all_foreign(foreign[0].history)
        for each in foreign:
            why = f"it is of history {each.history.hex()}, which node.json does not know"
            self._foreign.take(each.paths, why)
        for path, fault in damaged_manifests(self._paths.snapshots_dir):
            self._note_fault(f"{path} is of no use: {fault}")
            self._foreign.take([path, path.with_suffix(".json")], fault)

    def _segment_histories(self) -> Iterator[_Found]:
        for _, path in segment_paths(self._files, self._paths.wal_dir, self._options.stem):
            with opened(self._files, path) as file:
                header = read_header(self._files, file, path)
                # Without an entry it is of a reign that a later one may have dropped.
                holds_entries = self._files.size(file) > SEGMENT_HEADER_BYTES
            if header is not None:
                yield _Found(header.history, [path], holds_entries)

    def _snapshot_histories(self) -> Iterator[_Found]:
        for path, manifest in snapshots(self._paths.snapshots_dir):
            history = _history_of(manifest)
            if history is not None:
                yield _Found(history, [path, path.with_suffix(".json")], True)

    def _all_foreign(self, history: bytes) -> DataDirUnusable:
        known = ", ".join(reign.history.hex() for reign in self._node.lineage) or "none"
        return DataDirUnusable(
            f"all that is in {self._paths.data_dir} is of another history ({history.hex()}) than "
            f"{self._paths.node_file} names ({known}). Nothing was changed. Put the node.json back "
            "that belongs to these files, or restore from a backup; to begin with nothing, choose "
            "an empty data_dir"
        )

    def _open_in_place(self) -> str:
        """Open the trusted live store and the log; return why it is of no use, or nothing."""
        root = self._paths.store_dir
        try:
            self._store = store = Store.open(
                root, MAP_BYTES, files=self._files, writemap=self._writemap
            )
        except StoreDamaged as error:
            return self._doom(error.message)
        applied = store.applied
        known = {reign.history for reign in self._node.lineage}
        if applied.position != START and applied.history not in known:
            if not self._has_own:
                raise self._all_foreign(applied.history)
            return self._put_store_aside(
                f"the store is of history {applied.history.hex()}, which node.json does not know"
            )
        resume = None
        if applied.position != START:
            resume = (applied.position, Mark(applied.segment, applied.byte_position))
        wal = self._open_wal(applied.position, resume)
        if wal.position.offset < applied.position.offset:
            if self._node.role == "replica":
                # Its master has it.
                self._close()
                return self._doom(
                    f"it holds offset {applied.position.offset}, where the log ends at "
                    f"{wal.position.offset}"
                )
            raise StoreUnusable(
                f"the live store holds offset {applied.position.offset} but the log in "
                f"{self._options.directory} ends at {wal.position.offset}; segments are missing, "
                "put them back or restore from a backup"
            )
        if not _is_on(wal, applied.position):
            return self._put_store_aside(
                f"the store stands at {applied.position}, where the log does not"
            )
        self.recovery.source = "store"
        return ""

    def _doom(self, why: str) -> str:
        """See that the store is kept aside when another one is in its place; not before.

        Where that can't be had, the next start must find all as it was.
        """
        self._doomed = (generations.held(self._paths.store_dir), why)
        return why

    def _put_store_aside(self, why: str) -> str:
        self._close()
        self._foreign.take([folder_in_use(self._paths.store_dir)], why)
        return why

    def _rebuild_or_refuse(self) -> None:
        try:
            self._rebuild()
        except DiskFull as error:
            if self._store is None:
                raise
            raise self._without_room_for_log(self._store) from error

    def _rebuild(self) -> None:
        # The room that one before this took, which was killed.
        generations.clear_unused(self._paths.store_dir, self._files)
        for path, manifest in snapshots(self._paths.snapshots_dir):
            try:
                self._begin_rebuilding(self._unpack(path, manifest))
            except SnapshotInvalid as error:
                self._note_fault(error.message)
                continue
            fault = self._open_wal_behind(manifest.position)
            if not fault:
                self.recovery.source = "snapshot"
                self.recovery.snapshot_offset = manifest.position.offset
                return
            self._note_fault(f"{path} is of no use: {fault}")
            self._close_store()
        root = self._paths.store_dir
        self._begin_rebuilding(
            Store.prepare(root, MAP_BYTES, files=self._files, writemap=self._writemap)
        )
        wal = self._wal or self._open_wal(START)
        if wal.position.offset and wal.first_offset != 1 and self._node.role == "replica":
            wal = self._begin_anew(wal.first_offset)
        if wal.position.offset and wal.first_offset != 1:
            raise StoreUnusable(
                f"the live store can't be used ({self.recovery.reason}), the log begins at offset "
                f"{wal.first_offset}, and {_words_for(self.recovery.faults)}; "
                "restore from a backup"
            )
        self.recovery.source = "log" if wal.position.offset else "nothing"
        if not wal.segment_count and self._node.role != "replica":
            self._keep_store_without_log()

    def _begin_anew(self, first_offset: int) -> Wal:
        """Put the log of a replica aside that leads to no whole state: its master has one."""
        self._close()
        found = segment_paths(self._files, self._options.directory, self._options.stem)
        why = (
            f"the live store can't be used ({self.recovery.reason}), the log begins at offset "
            f"{first_offset}, and {_words_for(self.recovery.faults)}: this replica begins anew"
        )
        self._foreign.take([path for _, path in found], why)
        self._doom(self.recovery.reason)
        self._begin_rebuilding(Store.prepare(self._paths.store_dir, MAP_BYTES, files=self._files))
        return self._open_wal(START)

    def _begin_rebuilding(self, store: Store) -> None:
        self._store, self._rebuilding = store, Replay(store)

    def _keep_store_without_log(self) -> None:
        """See that a store does not go that neither a log nor a snapshot makes up for."""
        recovery, paths = self.recovery, self._paths
        held = generations.held(paths.store_dir)
        if not held:
            return
        why = f"the live store can't be used ({recovery.reason})"
        if not self._foreign.moved:
            # A master that wrote anything has a segment: it is not where it should be.
            raise StoreUnusable(
                f"{why}, there is no log in {paths.wal_dir}, and {_words_for(recovery.faults)}; "
                "put them back or restore from a backup. To begin with nothing, move "
                f"{paths.store_dir} away"
            )
        self._foreign.take(held, f"{why}, and there is no log of this node's history")

    def _unpack(self, path: Path, manifest: Manifest) -> Store:
        def fill(folder: Path) -> None:
            try:
                unpack_image(path, manifest, folder, self._files)
            except OSError as error:
                if error.errno in NO_ROOM:
                    image_bytes = manifest.plain_bytes or manifest.bytes
                    needed = f"the image in {path} has {image_bytes} bytes"
                    raise self._without_room(folder, needed) from error
                raise StoreUnusable(f"{path} can't be unpacked to {folder}: {error}") from error

        return Store.prepare(self._paths.store_dir, MAP_BYTES, fill, self._files, self._writemap)

    def _note_fault(self, fault: str) -> None:
        self.recovery.faults.append(fault)
        logger.error("%s", fault, extra={"action": "snapshot_invalid"})

    def _open_wal_behind(self, image: Position) -> str:
        """Open the log for a snapshot that stands at `image`; return why it does not fit."""
        reigns = [each for each in self._node.lineage if each.first_offset <= image.offset]
        if reigns and reigns[-1].epoch != image.epoch:
            # Left over from a branch that the log has left.
            return f"it stands at {image}, where by node.json reign {reigns[-1]} wrote"
        if self._wal is None:
            self._open_needed(image)
        wal = self._wal
        assert wal is not None
        if wal.position.offset < image.offset:
            # The snapshot was durable and what the log had up to there was not, or not copied.
            wal.close()
            self.recovery.cut_bytes += wal.report.cut_bytes
            self._put_segments_aside(image.offset + 1, f"they end before {image}, the snapshot")
            wal = self._open_wal(image)
        if wal.first_offset > image.offset + 1:
            return f"the log begins at {wal.first_offset}, after offset {image.offset}"
        if not _is_on(wal, image):
            return f"it stands at {image}, where the log does not"
        return ""

    def _open_needed(self, image: Position) -> None:
        """Open the log; put aside what lies before `image` where that is damaged or has holes."""
        try:
            self._open_wal(image)
        except WalCorrupt as error:
            segments = segment_paths(self._files, self._options.directory, self._options.stem)
            needed = max((o for o, _ in segments if o <= image.offset + 1), default=0)
            first_needed = segment_path(self._options.directory, self._options.stem, needed)
            is_before = Path(error.path) < first_needed
            is_hole = Path(error.path) == first_needed and error.byte_position == 0
            if not needed or not (is_before or is_hole):
                raise
            self._put_segments_aside(
                needed, f"they are not needed after the snapshot at {image}, and {error.detail}"
            )
            self._open_wal(image)

    def _put_segments_aside(self, before: int, why: str) -> None:
        found = segment_paths(self._files, self._options.directory, self._options.stem)
        paths = [path for first_offset, path in found if first_offset < before]
        if paths:
            self._foreign.take(paths, why)

    def _open_wal(self, base: Position, resume: tuple[Position, Mark] | None = None) -> Wal:
        self._wal = Wal.open(
            self._options, resume=resume, base=base,
            on_sync_failure=self._on_sync_failure, files=self._files,
            on_frame=self._rebuilding.see if self._rebuilding is not None else None,
        )  # fmt: skip
        return self._wal

    def _begin_reign(self, wal: Wal) -> None:
        """Head the log by the reign that this node writes in; frames begin a replica's."""
        node, position = self._node, wal.position
        if node.role == "replica" or node.reign is None:
            return
        reign = node.reign
        may_have_lost = self._may_have_lost(position) or node.identity.is_recovering
        if may_have_lost and self._has_peers:
            # Whoever holds what is missing is asked first: `synap.replication.rules.restart`.
            node.note_recovering()
            return
        is_active = (reign.epoch, reign.history) == (wal.epoch, wal.history)
        is_next = reign.first_offset == position.offset + 1
        is_inside = not wal.segment_count and reign.first_offset <= position.offset
        if may_have_lost or not (is_active or is_next or is_inside):
            reign = node.begin_reign(position.offset)
            self.recovery.begun_epoch = reign.epoch
        wal.begin_reign(reign)

    def _replay_all(self) -> tuple[Wal, Store]:
        """Have the store show what the log holds; return both."""
        while True:
            wal, store = self._wal, self._store
            assert wal is not None
            assert store is not None
            try:
                self._replay(wal, store)
            except StoreDamaged as error:
                if self.recovery.source != "store":
                    raise
                self._close()
                self.recovery.reason = self._doom(error.message)
                self._rebuild_or_refuse()
            else:
                return wal, store

    def _replay(self, wal: Wal, store: Store) -> None:
        replay = self._rebuilding or Replay(store)
        try:
            replay.finish(wal)
            self.recovery.replayed_frames = replay.frames
        except DiskFull as error:
            # A node must start on a full disk, for reading.
            if self.recovery.source != "store":
                raise self._without_room_for_log(store) from error
            self.recovery.is_behind = True

    def _without_room_for_log(self, store: Store) -> StoreUnusable:
        folder = folder_of(self._paths.store_dir, store.generation)
        taken_bytes = (folder / DATA_FILE).stat().st_blocks * 512
        applied = store.applied.position.offset
        needed = f"the log up to offset {applied} took {taken_bytes} bytes, and it goes on"
        return self._without_room(folder, needed)

    def _without_room(self, folder: Path, needed: str) -> StoreUnusable:
        """Return the refusal of a rebuild that began in `folder`, which goes with it."""
        taken_bytes = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        free_bytes = shutil.disk_usage(folder).free + taken_bytes
        return StoreUnusable(
            f"there is no room to rebuild the live store ({self.recovery.reason}) in "
            f"{self._paths.store_dir}: {needed}, and the disk has {free_bytes}. Nothing was "
            "changed: make room there, and start the node again"
        )

    def _may_have_lost(self, position: Position) -> bool:
        """Whether entries that others saw may be missing, or this is a copy."""
        source, reason = self.recovery.source, self.recovery.reason
        # An empty log may have been a long one, but not where there never was a store.
        if source == "store" or (not position.offset and reason == NO_STORE):
            return False
        is_in_place = reason in (MACHINE_RESTARTED, MOUNTED_ANEW)
        return not (self._options.fsync_mode == "always" and is_in_place)

    def _close(self) -> None:
        if self._wal is not None:
            self._wal.close()
            self._wal = None
        self._close_store()

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        if self._rebuilding is None:
            store.close(clean=False)
        else:
            self._rebuilding = None
            store.discard()


def wal_options(config: Config, paths: NodePaths) -> WalOptions:
    """Return where the node's log is and how it is written."""
    wal = config.persistence.wal
    return WalOptions(
        directory=paths.wal_dir,
        link_name=paths.wal_link.name,
        segment_bytes=wal.segment_bytes,
        fsync_mode=wal.fsync_mode,
        fsync_interval_ms=wal.fsync_interval_ms,
    )


def _is_on(wal: Wal, position: Position) -> bool:
    """Whether the log stands at `position` at that offset."""
    try:
        return wal.position_at(position.offset) == position
    except OffsetNotRetained:
        return False


def _history_of(manifest: Manifest) -> bytes | None:
    """Return the history of the snapshot's last entry; None where it holds none."""
    histories = [r.history for r in manifest.lineage if r.epoch == manifest.position.epoch]
    return histories[0] if manifest.position.offset and histories else None


def _words_for(faults: list[str]) -> str:
    return "; ".join(faults) if faults else "there is no snapshot"


def _tell(recovery: Recovery, wal: Wal) -> None:
    origin = recovery.source
    if recovery.snapshot_offset:
        origin += f" of offset {recovery.snapshot_offset}"
    if recovery.reason and recovery.source != "nothing":
        origin += f" ({recovery.reason})"
    begun = f", epoch {recovery.begun_epoch} begins" if recovery.begun_epoch else ""
    if recovery.is_behind:
        begun += ", no room on the disk to replay all of it"
    is_plain = recovery.source in ("store", "nothing") and not recovery.cut_bytes and not begun
    logger.log(
        logging.INFO if is_plain else logging.WARNING,
        "log open at %s, from %s, %d frames replayed, %d bytes cut, %d files put aside, %.2f s%s",
        wal.position, origin, recovery.replayed_frames, recovery.cut_bytes,
        len(recovery.put_aside), recovery.seconds, begun,
        extra={
            "action": "recovery", "source": recovery.source, "offset": wal.position.offset,
            "frames": recovery.replayed_frames,
        },
    )  # fmt: skip
