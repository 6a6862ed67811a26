"""What is looked at, and made anew, by a process beside the log's owner: what it is told and tells.

`synap.owner.scrubber` and `synap.owner.mender` start it, `workers/verify.py`, which calls
`carry_out`. It tells a line of JSON now and then, and the last one when it is done; a fault in a
page of the store may end it by a signal, which ends nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from synap.errors import SynapError
from synap.node.salvage import Salvaged, salvage
from synap.store import StoreReader
from synap.store.scrubbing import SlicePlace, Suspect

# What one read transaction looks at, at most.
_SLICE_RECORDS = 2000
_SLICE_BYTES = 2 * 1024 * 1024
# Suspects of which one scrub tells; the next one finds the others.
MAX_SUSPECTS = 10_000
_TELL_SECONDS = 1.0


class Scrub(msgspec.Struct, frozen=True, tag="scrub"):
    """Look at every record of the live store once.

    Attributes:
        store_dir: Root of the live store.
        share: Of one processor's time, at most; the rest of the time it sleeps.
    """

    store_dir: str
    share: float


class Salvage(msgspec.Struct, frozen=True, tag="salvage"):
    """Make records anew from snapshot and log; see `synap.node.salvage`."""

    snapshots_dir: str
    wal_dir: str
    wanted: list[Suspect]


Job = Scrub | Salvage


class Told(msgspec.Struct, frozen=True):
    """A line of the process.

    Attributes:
        records: Records that were looked at so far.
        count: Their bytes.
        suspects: Damaged ones since the line before.
        is_done: It is the last line.
        fault: Why there is nothing better to tell; empty for no reason.
        is_structural: The fault is one of the store's pages.
        salvaged: What a salvage came to.
    """

    records: int = 0
    count: int = 0
    suspects: list[Suspect] = []
    is_done: bool = False
    fault: str = ""
    is_structural: bool = False
    salvaged: Salvaged | None = None


def carry_out(
    job: bytes, tell: Callable[[bytes], None], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Do a job and tell of it, a line of JSON at a time.

    Args:
        job: An encoded Job.
        tell: Takes a line.
        sleep: Waits for seconds.
    """
    encode = msgspec.json.encode
    decoded = msgspec.json.decode(job, type=Job)
    try:
        if isinstance(decoded, Salvage):
            found = salvage(Path(decoded.snapshots_dir), Path(decoded.wal_dir), decoded.wanted)
            tell(encode(Told(is_done=True, salvaged=found)))
            return
        for told in _scrub(decoded, sleep):
            tell(encode(told))
    except SynapError as error:
        is_structural = isinstance(decoded, Scrub)
        tell(encode(Told(is_done=True, fault=error.message, is_structural=is_structural)))
    except OSError as error:
        tell(encode(Told(is_done=True, fault=str(error))))


def _scrub(job: Scrub, sleep: Callable[[float], None]) -> Iterator[Told]:
    reader = StoreReader.open(Path(job.store_dir))
    try:
        records = count = found = 0
        suspects: list[Suspect] = []
        told_at = time.monotonic()
        place: SlicePlace | None = SlicePlace()
        while place is not None and found < MAX_SUSPECTS:
            began = time.monotonic()
            checked = reader.check_slice(place, max_records=_SLICE_RECORDS, max_bytes=_SLICE_BYTES)
            records += checked.records
            count += checked.count
            found += len(checked.suspects)
            suspects += checked.suspects
            place = checked.next
            now = time.monotonic()
            if suspects or now - told_at >= _TELL_SECONDS:
                yield Told(records, count, suspects)
                suspects, told_at = [], now
            sleep((now - began) * (1 / job.share - 1))
        yield Told(records, count, is_done=True)
    finally:
        reader.close()
