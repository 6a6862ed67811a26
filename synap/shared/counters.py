"""How often HTTP workers did what: a row of numbers for each, summed by whoever wants to know.

A row is so small that all of them are read once a second. GET adds to its own in place, which
costs it one addition in memory. See `claimed_file` for what becomes of a row when its worker ends:
no sum ever falls.

    at    size  field of a row
    0      8×5  the numbers, by `Counter`
"""

from __future__ import annotations

import enum
from pathlib import Path

from synap.shared.claimed_file import ClaimedFile, claimed_contents

_FILE = "counters"
_ROW_BYTES = 128


class Counter(enum.IntEnum):
    """A column; its number is its place in the row.

    Nothing adds to GETS on the way of a read: in the sums it is what HITS and MISSES come to.
    """

    GETS = 0
    SETS = 1
    DELS = 2
    HITS = 3
    MISSES = 4


class Counters:
    """One process's row.

    Attributes:
        row: Its numbers, by `Counter`. Add to them in place.
    """

    def __init__(self, folder: Path) -> None:
        """Claim a row in `folder`, the run directory."""
        self._file = ClaimedFile(folder, _FILE, _ROW_BYTES)
        self.row = memoryview(self._file.memory).cast("Q")

    def close(self) -> None:
        """Give the row back; its numbers stay in the sums."""
        self.row.release()
        self._file.close()


def read_counters(folder: Path) -> list[int]:
    """Return the sums over all rows by `Counter`, those of ended workers included."""
    rows = (memoryview(c).cast("Q") for _, c in claimed_contents(folder, _FILE, _ROW_BYTES))
    sums = [0] * len(Counter)
    for row in rows:
        for counter in Counter:
            sums[counter] += row[counter]
    sums[Counter.GETS] += sums[Counter.HITS] + sums[Counter.MISSES]
    return sums
