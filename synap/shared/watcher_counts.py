"""How many watchers each HTTP worker has, and how far they are behind.

A file for each process (see `claimed_file`), which it empties when it claims it. What a process
that ended left there counts for nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from synap.shared.claimed_file import ClaimedFile, claimed_contents

_FILE = "watchers"
_CELLS = 4
_FILE_BYTES = 8 * _CELLS
_PID, _WATCHERS, _LAG = range(3)


class WatcherFacts(msgspec.Struct, frozen=True):
    """The watchers of a node.

    Attributes:
        watchers: How many there are.
        lag_entries: How many entries the one furthest behind has not been told of.
    """

    watchers: int = 0
    lag_entries: int = 0


class WatcherCounts:
    """One process's part."""

    def __init__(self, folder: Path) -> None:
        """Claim a file in `folder`, the run directory."""
        self._folder = folder
        self._file = ClaimedFile(folder, _FILE, _FILE_BYTES)
        self._memory = memoryview(self._file.memory)
        self._cells = self._memory.cast("Q")
        self.show(WatcherFacts())
        self._cells[_PID] = os.getpid()

    def show(self, facts: WatcherFacts) -> None:
        """Have others see these."""
        self._cells[_WATCHERS], self._cells[_LAG] = facts.watchers, facts.lag_entries

    def close(self) -> None:
        """Give the file back, emptied."""
        self._cells[_PID] = 0
        self._cells.release()
        self._memory.release()
        self._file.close()


def read_watchers(folder: Path) -> WatcherFacts:
    """Return the facts of all processes of a node."""
    watchers = lag = 0
    for _, content in claimed_contents(folder, _FILE, _FILE_BYTES):
        cells = memoryview(content).cast("Q")
        if cells[_PID] and os.path.exists(f"/proc/{cells[_PID]}"):
            watchers += cells[_WATCHERS]
            lag = max(lag, cells[_LAG])
    return WatcherFacts(watchers, lag)
