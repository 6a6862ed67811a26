"""Repairing a log that a node refuses: what would go, and moving it aside.

    the bad place lies before a snapshot        the segments before the one that goes on from the
                                                snapshot are moved aside; nothing is lost
    the live store is ahead of the bad place    the same, with a snapshot of the store taken first
    a snapshot is, and no log goes on from it   all segments are moved aside; the node goes on from
                                                the snapshot
    neither                                     the log is cut at the bad place; what is after it
                                                is moved aside

Nothing is deleted: what is removed lies in `removed-<time>` beside the segments, where a node
leaves it alone. Where the log no longer leads to what the live store holds, that is put out of use
too: the next start rebuilds it and begins a new epoch.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from synap.disk import DISK, Files, remove_if_there
from synap.errors import RepairRefused, SnapshotInvalid, StoreError, SynapError
from synap.node.aside import copy_file
from synap.node.identity import lock_file, read_identity
from synap.position import Position
from synap.snapshot.folder import snapshots
from synap.snapshot.image import verify_snapshot, write_snapshot
from synap.store import StoreReader, is_trusted
from synap.store.generations import set_aside
from synap.wal.scan import BadPlace
from synap.wal.segment import SEGMENT_HEADER_BYTES, segment_paths
from synap.wal.walk import LogReport, LogWalk, check_log


class RepairPlan(msgspec.Struct, frozen=True):
    """What a repair would do.

    Attributes:
        directory: The log's folder.
        bad: The first bad place.
        sound_offset: Last offset before it.
        moved: Segments that are moved aside whole, oldest first.
        cut: Segment that is cut, None for none.
        keep_bytes: How much of it stays.
        cover: Where the state stands that makes up for what goes; None where there is none.
        takes_snapshot: That state is the live store's, of which a snapshot is taken first.
        lost_after: Entries after this offset are lost as far as there were any; None where
            nothing is.
        rebuilds: The live store is put out of use.
    """

    directory: Path
    bad: BadPlace
    sound_offset: int
    moved: tuple[Path, ...]
    cut: Path | None
    keep_bytes: int
    cover: Position | None
    takes_snapshot: bool
    lost_after: int | None
    rebuilds: bool


class Repair:
    """A repair of the log in a folder, which nobody else may use meanwhile.

    Attributes:
        report: What the files hold.
        plan: What would be done; None where all is sound.
    """

    def __init__(self, directory: Path, files: Files = DISK) -> None:
        """Lock the log and look.

        Raises:
            DataDirInUse: a node runs on it.
            RepairRefused: there is no log.
        """
        if not directory.is_dir():
            raise RepairRefused(f"there is no folder {directory}")
        self._directory = directory
        self._files = files
        data_dir = directory.absolute().parent
        self._data_dir = data_dir if (data_dir / "node.json").exists() else None
        with ExitStack() as locks:
            if self._data_dir is not None:
                locks.callback(os.close, lock_file(data_dir / "node.lock"))
            locks.callback(os.close, lock_file(directory / "owner.lock"))
            self.report = check_log(directory)
            self.plan = self._make_plan()
            self._locks = locks.pop_all()

    def __enter__(self) -> Repair:
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()

    def carry_out(self, folder_name: str, now_ms: int) -> Path:
        """Do what the plan says; return the folder with what was moved aside.

        A crash on the way leaves a log that is bad at the same place, and can be repaired again.

        Args:
            folder_name: Of the new folder, below the log's.
            now_ms: Wall clock.

        Raises:
            RepairRefused: the folder is there already, or the disk refuses.
        """
        plan = self.plan
        assert plan is not None, "a sound log needs no repair"
        folder = plan.directory / folder_name
        try:
            self._clear_half_copies()
            self._files.make_new_directory(folder)
        except OSError as error:
            raise RepairRefused(f"{error.filename or folder}: {error.strerror}") from error
        try:
            self._do(plan, folder, now_ms)
        except (OSError, RepairRefused) as error:
            with suppress(OSError):
                # Only where it is empty.
                self._files.remove_directory(folder)
            if isinstance(error, RepairRefused):
                raise
            raise RepairRefused(f"{error.filename or folder}: {error.strerror}") from error
        return folder

    def _do(self, plan: RepairPlan, folder: Path, now_ms: int) -> None:
        self._files.sync_directory(plan.directory)
        if plan.takes_snapshot:
            self._take_snapshot(now_ms)
        if plan.rebuilds and self._data_dir is not None:
            set_aside(self._data_dir / "store", self._files)
        if plan.cut is not None:
            self._keep_tail(plan.cut, plan.keep_bytes, folder)
        moved = plan.moved if plan.cut is None and not plan.rebuilds else plan.moved[::-1]
        # Newest first, the log stays a beginning of itself; oldest first, an end.
        for path in moved:
            self._files.rename(path, folder / path.name)
            self._files.sync_directory(folder)
            self._files.sync_directory(plan.directory)
        if plan.cut is not None:
            self._truncate(plan.cut, plan.keep_bytes)

    def _clear_half_copies(self) -> None:
        """Remove the unfinished copies of a repair that was cut off."""
        for path in self._directory.glob("removed-*/*.from-byte-*.tmp"):
            remove_if_there(path, self._files)

    def _make_plan(self) -> RepairPlan | None:
        report = self.report
        if report.bad is None:
            return None
        sound = report.position.offset
        cover, is_store = self._cover(sound)
        if report.bad.is_torn or cover is None:
            return self._cut(report, report.bad)
        tail = _tail_behind(report, cover)
        moved = tuple(path for path in _paths(report) if path not in tail)
        return RepairPlan(
            directory=report.directory,
            bad=report.bad,
            sound_offset=sound,
            moved=moved,
            cut=None,
            keep_bytes=0,
            cover=cover,
            takes_snapshot=is_store,
            lost_after=None if tail or is_store else cover.offset,
            # An empty log is a state that only a snapshot leads to.
            rebuilds=not tail,
        )

    def _cut(self, report: LogReport, bad: BadPlace) -> RepairPlan:
        seen = report.segments[-1]
        is_whole = seen.sound_bytes < SEGMENT_HEADER_BYTES
        return RepairPlan(
            directory=report.directory,
            bad=bad,
            sound_offset=report.position.offset,
            moved=(*((seen.path,) if is_whole else ()), *report.unread),
            cut=None if is_whole else seen.path,
            keep_bytes=seen.sound_bytes,
            cover=None,
            takes_snapshot=False,
            lost_after=None if bad.is_torn else report.position.offset,
            rebuilds=not bad.is_torn,
        )

    def _cover(self, sound_offset: int) -> tuple[Position | None, bool]:
        """Return the furthest state after `sound_offset`, and whether it is the live store's."""
        if self._data_dir is None:
            return None, False
        best: Position | None = None
        for path, manifest in snapshots(self._data_dir / "snapshots"):
            if manifest.position.offset <= sound_offset:
                break
            try:
                best = verify_snapshot(path).position
                break
            except SnapshotInvalid:
                continue
        applied = self._store_position()
        if applied is None or applied.offset <= max(sound_offset, best.offset if best else 0):
            return best, False
        return applied, True

    def _store_position(self) -> Position | None:
        assert self._data_dir is not None
        root = self._data_dir / "store"
        if not root.is_dir() or not is_trusted(root)[0]:
            return None
        try:
            reader = StoreReader.open(root)
        except StoreError:
            return None
        try:
            return reader.applied().position
        finally:
            reader.close()

    def _take_snapshot(self, now_ms: int) -> None:
        assert self._data_dir is not None
        folder = self._data_dir / "snapshots"
        self._files.make_directory(folder)
        reader = StoreReader.open(self._data_dir / "store")
        try:
            lineage = read_identity(self._data_dir / "node.json").lineage
            write_snapshot(
                reader, folder, lineage, compress=False, now_ms=now_ms, files=self._files
            )
        except SynapError as error:
            raise RepairRefused(f"no snapshot of the live store: {error}") from error
        finally:
            reader.close()

    def _keep_tail(self, path: Path, at: int, folder: Path) -> None:
        """Copy what is cut off, named by where it was."""
        copy_file(path, at, folder / f"{path.name}.from-byte-{at}", self._files)
        self._files.sync_directory(folder)

    def _truncate(self, path: Path, size: int) -> None:
        file = self._files.open(path, os.O_WRONLY)
        try:
            self._files.truncate(file, size)
            self._files.sync_all(file)
        finally:
            self._files.close(file)


def _paths(report: LogReport) -> tuple[Path, ...]:
    return (*(segment.path for segment in report.segments), *report.unread)


def _tail_behind(report: LogReport, cover: Position) -> set[Path]:
    """Return the last segments, where they go on from `cover` and are sound; else none.

    They may end in a torn write, which a node cuts off by itself.
    """
    found = segment_paths(DISK, report.directory, report.stem)
    bad = report.segments[-1].path
    behind = [(offset, path) for offset, path in found if path > bad]
    starts = [offset for offset, _ in behind if offset <= cover.offset + 1]
    if not starts:
        return set()
    walk = LogWalk(report.directory)
    stands = None
    for each in walk.frames(max(starts) - 1):
        stands = cover if each.before == cover or each.frame.position == cover else stands
    if walk.end == cover:
        stands = cover
    fault = walk.bad_place()
    if stands is None or (fault is not None and not fault.is_torn):
        return set()
    return {segment.path for segment in walk.segments}
