"""How many watchers each HTTP worker has, whose they are, and how far they are behind.

A file for each process (see `claimed_file`), which it empties when it claims it. What a process
that ended left there counts for nothing.

    at     size  field
     0      8    process id; 0 for none
     8      8    watchers
    16      8    entries that the one furthest behind has not been told of
    24      4 each, for watchers of the holders whose names come to the same number
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from synap.shared.claimed_file import ClaimedFile, claimed_contents
from synap.shares import Holder, Shares

_FILE = "watchers"
_PID, _WATCHERS, _LAG = range(3)
_HOLDERS_AT = 24
# Two of many who have one number have one share between them, which does no harm: it is seldom.
_HOLDERS = 1024
_FILE_BYTES = _HOLDERS_AT + 4 * _HOLDERS


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
        self._memory[:] = bytes(_FILE_BYTES)
        self._cells = self._memory[:_HOLDERS_AT].cast("Q")
        self._holders = self._memory[_HOLDERS_AT:].cast("I")
        self._cells[_PID] = os.getpid()

    def add(self, holder: Holder, count: int) -> None:
        """Count watchers of somebody's in, or out where `count` is below 0."""
        self._holders[_number(holder)] += count
        self._cells[_WATCHERS] += count

    def show_lag(self, entries: int) -> None:
        """Have others see how far the last watcher is behind."""
        self._cells[_LAG] = entries

    def shares(self, holder: Holder, total: int) -> Shares:
        """Return how many of `total` watchers somebody and all others have on this node."""
        shares, number = Shares(total), _number(holder)
        for cells, holders in _all(self._folder):
            mine = holders[number]
            if mine:
                shares.count(holder, mine)
            # Another process may be just between the two.
            if (others := cells[_WATCHERS] - mine) > 0:
                shares.count("", others)
        return shares

    def close(self) -> None:
        """Give the file back, emptied."""
        self._cells[_PID] = 0
        self._cells.release()
        self._holders.release()
        self._memory.release()
        self._file.close()


def read_watchers(folder: Path) -> WatcherFacts:
    """Return the facts of all processes of a node."""
    watchers = lag = 0
    for cells, _ in _all(folder):
        watchers += cells[_WATCHERS]
        lag = max(lag, cells[_LAG])
    return WatcherFacts(watchers, lag)


def _all(folder: Path) -> Iterator[tuple[memoryview, memoryview]]:
    """Yield the numbers of each process that runs, and those of the holders."""
    for _, content in claimed_contents(folder, _FILE, _FILE_BYTES):
        memory = memoryview(content)
        cells = memory[:_HOLDERS_AT].cast("Q")
        if cells[_PID] and os.path.exists(f"/proc/{cells[_PID]}"):
            yield cells, memory[_HOLDERS_AT:].cast("I")


def _number(holder: Holder) -> int:
    return crc32(holder.encode()) % _HOLDERS
