"""Putting a received snapshot in the place of a node's log and live store, whatever happens.

    1  the snapshot lies in its folder, its image in a generation of its own, both durable
    2  resync.json says so: from here on the new state counts
    3  what the master's log does not hold is put aside; the rest of the old log goes
    4  node.json names the master's lineage, CURRENT the new generation
    5  resync.json goes

A crash before the second step leaves the old state, and files that the next start clears. After it,
`finish` does what is left, at the next start if need be; each step may be repeated.

`synap.node.data_dir` begins a switch, `synap.node.recovery` finishes one that a crash cut off.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from synap.disk import DISK, Files, remove_if_there, write_file
from synap.errors import DataDirUnusable
from synap.node.aside import Quarantine
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.position import Lineage, Position
from synap.sealed import sealed, unsealed
from synap.snapshot.folder import snapshots
from synap.store import generations
from synap.wal.segment import segment_paths

logger = logging.getLogger(__name__)


class ResyncSwitch(msgspec.Struct, frozen=True):
    """What `resync.json` holds.

    Attributes:
        generation: The live store's generation that the snapshot was unpacked to.
        position: Where the snapshot stands; the log begins after it.
        lineage: The reigns of the master's log.
        kept_after: Entries of the old log after this offset are put aside; None for none.
        old_generation: The live store to put aside with them; 0 for none.
    """

    generation: int
    position: Position
    lineage: Lineage
    kept_after: int | None
    old_generation: int


def begin(paths: NodePaths, switch: ResyncSwitch, files: Files = DISK) -> None:
    """Decide for the new state, durably.

    Raises:
        OSError: the disk refuses; the old state counts.
        DataDirUnusable: it refuses also to say so: only a start can tell which state counts.
    """
    try:
        write_file(paths.resync_file, sealed(switch), files=files)
    except OSError:
        _take_back(paths, files)
        raise


def _take_back(paths: NodePaths, files: Files) -> None:
    """See that a decision of which it is not known whether it is durable is none.

    The node goes on with the old state, and takes what would be gone if the next start switched.
    """
    try:
        remove_if_there(paths.resync_file, files)
        files.sync_directory(paths.data_dir)
    except OSError as error:
        raise DataDirUnusable(
            f"{paths.resync_file} can't be written, nor removed: {error}; mend the disk, and start "
            "the node again, which goes on with one state or the other"
        ) from error


def pending(paths: NodePaths) -> ResyncSwitch | None:
    """Return the switch that was begun and not finished.

    Raises:
        ValueError, msgspec.DecodeError: `resync.json` is damaged.
        OSError: it can't be read.
    """
    try:
        return unsealed(paths.resync_file.read_bytes(), ResyncSwitch)
    except FileNotFoundError:
        return None


def finish(paths: NodePaths, node: Node, switch: ResyncSwitch, files: Files = DISK) -> None:
    """Do what is left of a switch; log and live store are closed, or will be dropped unseen.

    Raises:
        DataDirUnusable: something can't be put aside.
        OSError: the disk refuses.
    """
    aside = Quarantine(paths.diverged_dir, files)
    stem = paths.wal_link.stem
    segments = segment_paths(files, paths.wal_dir, stem)
    if switch.kept_after is not None:
        _put_tail_aside(aside, paths, segments, switch)
    for path in [paths.wal_link, *(path for _, path in segments)]:
        remove_if_there(path, files)
    files.sync_directory(paths.wal_dir)
    node.adopt(switch.lineage)
    if generations.is_there(paths.store_dir, switch.generation):
        generations.make_current(paths.store_dir, switch.generation, files)
    else:
        # Then the snapshot must do.
        generations.set_aside(paths.store_dir, files)
    old = generations.folder_of(paths.store_dir, switch.old_generation)
    if switch.old_generation and old.exists():
        aside.take([old], "it is the live store of another lineage than the master's")
    remove_if_there(paths.resync_file, files)
    files.sync_directory(paths.data_dir)


def _put_tail_aside(
    aside: Quarantine, paths: NodePaths, segments: list[tuple[int, Path]], switch: ResyncSwitch
) -> None:
    after = switch.kept_after
    assert after is not None
    # The log goes further than what both hold, and so does its last segment.
    ends = [first - 1 for first, _ in segments[1:]] + [after + 1]
    tail = [path for (_, path), end in zip(segments, ends, strict=bool(segments)) if end > after]
    if tail:
        aside.take(tail, f"the master's log does not hold their entries behind offset {after}")
    reigns = set(switch.lineage)
    for path, manifest in snapshots(paths.snapshots_dir):
        is_own = manifest.position == switch.position
        if not is_own and (manifest.position.offset > after or not set(manifest.lineage) <= reigns):
            why = f"it stands at {manifest.position}, where the master's log does not"
            aside.take([path, path.with_suffix(".json")], why)
