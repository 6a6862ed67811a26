"""Counts and distributions of all processes of a node, kept where reading them costs nobody a wait.

Each process maps a file of its own (see `claimed_file`), in which a series gets a slot when it is
first counted. Counting is an addition in memory. Whoever reads sums the files, those of ended
processes too, so that a sum never falls while the run directory is there.

    at      size  field
    0          8  number of slots in use
    256      256  one slot after the other

    in a slot
    0        112  the series' name: its words, apart by 0x1F, UTF-8, padded with NUL
    112        8  sum of the values
    120     8×17  how many values were at most the bound of that number; the rest in the last
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from synap.shared.claimed_file import ClaimedFile, claimed_contents

# Durations are in ns, bounds from 100 µs to 10 s.
DURATION_BOUNDS_NS = tuple(
    int(seconds * 1e9)
    for seconds in (
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
        0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    )
)  # fmt: skip
# Entries of a batch: up to what one turn of the writer takes.
COUNT_BOUNDS = tuple(2**power for power in range(13))

# Words that make a series' name, the first of them its kind.
Name = tuple[str, ...]

# Gets what no slot is left for; in place from the beginning.
OVERFLOW: Name = ("overflow",)

# First word of the names of these series; method, route and status code follow.
REQUESTS = "http_request"

# Counted by HTTP workers.
REPLAYS: Name = ("idempotent_replays",)
FEED_EVENTS: Name = ("watch_events",)
# First word of the names of these series; the reason follows.
FEED_RESETS = "watch_resets"

# Counted by the log's owner.
FSYNC: Name = ("wal_fsync",)
BATCH: Name = ("wal_batch",)
EXPIRED: Name = ("expired",)
EVICTED: Name = ("evicted",)
GAPS: Name = ("replication_gaps",)
CLOCK_JUMPS: Name = ("clock_jumps",)
PUT_ASIDE: Name = ("replication_entries_put_aside",)
FULL_RESYNCS: Name = ("replication_resyncs", "full")
CATCH_UPS: Name = ("replication_resyncs", "catch_up")
FAILED_HANDSHAKES: Name = ("replication_handshakes_failed",)
VIOLATIONS: Name = ("replication_violations",)
RECORDS_VERIFIED: Name = ("records_verified",)
RECORDS_DAMAGED: Name = ("records_damaged",)
DIGEST_MISMATCHES: Name = ("replication_digest_mismatches",)
RECORDS_MENDED: Name = ("records_mended",)

_FILE = "series"
_SLOTS = 512
_SLOT_BYTES = 256
_NAME_BYTES = 112
_CELLS = (_SLOT_BYTES - _NAME_BYTES) // 8
_FILE_BYTES = _SLOT_BYTES * (1 + _SLOTS)
_SEPARATOR = "\x1f"


Sums = dict[Name, list[int]]


class Count(Protocol):
    """Counts what happens: `Series.count`."""

    def __call__(self, name: Name, count: int = 1, /) -> None:
        """Add to a series that is a mere sum."""


class Series:
    """One process's part.

    Attributes:
        cells: All numbers of the file. A slot's first cell, at the place that `slot` tells, is the
            sum, and those after it are the counts. Add to them in place.
    """

    def __init__(self, folder: Path) -> None:
        """Claim a file in `folder`, the run directory."""
        self._file = ClaimedFile(folder, _FILE, _FILE_BYTES)
        self._memory = memoryview(self._file.memory)
        self.cells = self._memory.cast("Q")
        self._slots = dict(_slots_of(self._memory))
        self._lock = threading.Lock()
        self.slot(OVERFLOW)

    def slot(self, name: Name) -> int:
        """Return the place of a series' first cell; that of `OVERFLOW` where all are in use."""
        at = self._slots.get(name)
        if at is None:
            with self._lock:
                at = self._slots[name] = self._add(name)
        return at

    def count(self, name: Name, count: int = 1, /) -> None:
        """Add to a series that is a mere sum."""
        self.cells[self.slot(name)] += count

    def observe(self, name: Name, value: int, bounds: Sequence[int]) -> None:
        """Add a value to a series that is a distribution; from any thread."""
        at = self.slot(name)
        with self._lock:
            self.cells[at] += value
            self.cells[at + 1 + bisect_left(bounds, value)] += 1

    def close(self) -> None:
        """Give the file back; its numbers stay in the sums."""
        self.cells.release()
        self._memory.release()
        self._file.close()

    def _add(self, name: Name) -> int:
        encoded = _SEPARATOR.join(name).encode()
        used = self.cells[0]
        if used == _SLOTS or len(encoded) > _NAME_BYTES:
            return self._slots[OVERFLOW]
        at = (1 + used) * _SLOT_BYTES
        self._memory[at : at + len(encoded)] = encoded
        # Last, so that a reader never sees a slot without its name.
        self.cells[0] = used + 1
        return (at + _NAME_BYTES) // 8


def read_series(folder: Path) -> Sums:
    """Return the cells of every series, summed over all processes: the sum, then the counts."""
    sums: Sums = {}
    for _, content in claimed_contents(folder, _FILE, _FILE_BYTES):
        memory = memoryview(content)
        cells = memory.cast("Q")
        for name, at in _slots_of(memory):
            mine = cells[at : at + _CELLS].tolist()
            known = sums.get(name)
            sums[name] = (
                mine if known is None else [a + b for a, b in zip(known, mine, strict=True)]
            )
    return sums


def sum_of(sums: Sums, name: Name) -> int:
    """Return the sum of a series' values; 0 where nothing was counted."""
    cells = sums.get(name)
    return cells[0] if cells else 0


def _slots_of(memory: memoryview) -> list[tuple[Name, int]]:
    """Return name and place of each slot in use."""
    used = int.from_bytes(memory[:8], "little")
    found = []
    for at in range(_SLOT_BYTES, (1 + min(used, _SLOTS)) * _SLOT_BYTES, _SLOT_BYTES):
        name = bytes(memory[at : at + _NAME_BYTES]).rstrip(b"\0").decode()
        found.append((tuple(name.split(_SEPARATOR)), (at + _NAME_BYTES) // 8))
    return found
