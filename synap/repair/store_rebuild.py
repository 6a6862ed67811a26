"""Having a node rebuild its live store at its next start, and saying from what it will."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import msgspec

from synap.disk import DISK, Files
from synap.errors import RepairRefused, SnapshotInvalid
from synap.node.identity import lock_file
from synap.position import START, Position
from synap.snapshot.folder import snapshots
from synap.snapshot.image import verify_snapshot
from synap.store.generations import set_aside
from synap.wal.walk import LogReport, check_log


class Rebuild(msgspec.Struct, frozen=True):
    """What the next start will do.

    Attributes:
        snapshot: The snapshot that it begins with; None for the log's beginning.
        base: Where that stands.
        log: What the log holds.
        faults: Newer snapshots that are of no use, and why.
        had_store: There was a live store that is out of use now.
    """

    snapshot: Path | None
    base: Position
    log: LogReport
    faults: tuple[str, ...]
    had_store: bool


def rebuild_store(data_dir: Path, files: Files = DISK) -> Rebuild:
    """Put the live store of a node that does not run out of use.

    Args:
        data_dir: The node's data directory, with the log and the snapshots in their usual places.

    Raises:
        DataDirInUse: the node runs.
        RepairRefused: it is no data directory, or log and snapshots don't lead to a whole state.
    """
    if not (data_dir / "node.json").exists():
        raise RepairRefused(f"{data_dir} is no data directory: it has no node.json")
    wal_dir = data_dir / "wal"
    with ExitStack() as locks:
        locks.callback(os.close, lock_file(data_dir / "node.lock"))
        if not wal_dir.is_dir():
            raise RepairRefused(f"there is no log in {wal_dir}")
        locks.callback(os.close, lock_file(wal_dir / "owner.lock"))
        log = check_log(wal_dir)
        snapshot, base, faults = _newest_sound(data_dir / "snapshots")
        why = _why_not(log, base)
        if why:
            raise RepairRefused(f"the store in {data_dir} can't be rebuilt: {why}")
        had_store = set_aside(data_dir / "store", files)
        return Rebuild(snapshot, base, log, faults, had_store)


def _newest_sound(directory: Path) -> tuple[Path | None, Position, tuple[str, ...]]:
    faults: list[str] = []
    for path, _ in snapshots(directory):
        try:
            return path, verify_snapshot(path).position, tuple(faults)
        except SnapshotInvalid as error:
            faults.append(error.message)
    return None, START, tuple(faults)


def _why_not(log: LogReport, base: Position) -> str:
    """Return why log and snapshot don't lead to a whole state; nothing where they do."""
    bad = log.bad
    if bad is not None and not bad.is_torn and log.position.offset >= base.offset:
        return f"{bad.path} is damaged at byte {bad.byte_position}; see `synap wal repair`"
    if log.segments and log.first_offset > base.offset + 1:
        return (
            f"the log begins at offset {log.first_offset} and no snapshot reaches so far; "
            "restore from a backup"
        )
    return ""
