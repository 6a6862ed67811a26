"""One snapshot, as the work of a process of its own: what it is told, does and tells.

`synap.owner.snapshotter` starts the process, `workers/snapshot.py`, which calls `carry_out`.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec

from synap.errors import DiskFull, SnapshotInvalid, SynapError
from synap.position import Lineage
from synap.snapshot.folder import prune
from synap.snapshot.image import write_snapshot
from synap.store import StoreReader


class SnapshotJob(msgspec.Struct, frozen=True):
    """What the process is to do.

    Attributes:
        store_dir: Root of the live store.
        directory: Where the snapshot goes.
        lineage: That of the log.
        compress: Whether the image is compressed.
        keep: How many snapshots stay.
        now_ms: Wall clock.
    """

    store_dir: str
    directory: str
    lineage: Lineage
    compress: bool
    keep: int
    now_ms: int


class SnapshotOutcome(msgspec.Struct, frozen=True):
    """What became of a job.

    Attributes:
        error: The error's class name; empty where it is done.
        message: What the error says.
        seconds: What the snapshot took to write and verify, or to fail. The start of the process
            is no part of it: that depends on the machine's load, not on the store's size.
    """

    error: str = ""
    message: str = ""
    seconds: float = 0.0


def carry_out(job: bytes) -> bytes:
    """Write the snapshot and prune the older ones; for a process of its own.

    Args:
        job: An encoded SnapshotJob.

    Returns:
        The encoded SnapshotOutcome.
    """
    began = time.monotonic()
    error, message = _carry_out(msgspec.json.decode(job, type=SnapshotJob))
    return msgspec.json.encode(SnapshotOutcome(error, message, time.monotonic() - began))


def _carry_out(job: SnapshotJob) -> tuple[str, str]:
    """Return an error's class name and message, both empty where it is done."""
    directory = Path(job.directory)
    try:
        reader = StoreReader.open(Path(job.store_dir))
        try:
            _check_room(directory, reader.used_bytes())
            write_snapshot(reader, directory, job.lineage, compress=job.compress, now_ms=job.now_ms)
        finally:
            reader.close()
        prune(directory, job.keep)
    except SynapError as error:
        # What was just written and is not sound when it is read back tells of the store.
        told = error.__cause__ if isinstance(error.__cause__, SnapshotInvalid) else error
        return type(told).__name__, error.message
    except OSError as error:
        return "SnapshotError", str(error)
    return "", ""


def _check_room(directory: Path, used_bytes: int) -> None:
    """Refuse what would fill the disk, and take from the log the room that it needs.

    An image has the store's used pages; a compressed one is unpacked beside itself for the proof,
    and takes some of that again.
    """
    free = shutil.disk_usage(directory).free
    if free <= used_bytes:
        raise DiskFull(
            f"no room for a snapshot: it needs {used_bytes} bytes, and the disk of "
            f"{directory} has {free} left; make room, and the next one is taken by itself"
        )
