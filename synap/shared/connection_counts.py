"""How many connections each worker has, so that none takes what another one would serve sooner.

A page of memory that the workers of one arbiter share, because it is made before they are forked.
Each has a slot: its process id and its number of connections. Nobody waits for anybody; a number
that is a moment old makes a share a little less even.
"""

from __future__ import annotations

import os

from synap.shared.node_file import own_memory

# More workers than this share slots, and then their connections a little less evenly.
_SLOTS = 64
_SLOT_CELLS = 2
# A worker is ahead of another by more than one connection and this part of its own.
_PART = 16


class ConnectionCounts:
    """The slots of one arbiter's workers; made before the first of them is forked."""

    def __init__(self) -> None:
        self._cells = memoryview(own_memory(8 * _SLOT_CELLS * _SLOTS)).cast("Q")

    def worker_slot(self, number: int) -> WorkerSlot:
        """Take a slot, in the worker's process.

        Args:
            number: What tells the worker from others, such as Gunicorn's `age`.
        """
        return WorkerSlot(self._cells, number % _SLOTS * _SLOT_CELLS)


class WorkerSlot:
    """One worker's place."""

    def __init__(self, cells: memoryview[int], at: int) -> None:
        self._cells = cells
        self._at = at
        cells[at + 1] = 0
        cells[at] = os.getpid()

    @property
    def connections(self) -> int:
        """How many this worker has; the others see what is set."""
        return self._cells[self._at + 1]

    @connections.setter
    def connections(self, count: int) -> None:
        self._cells[self._at + 1] = count

    def is_ahead(self) -> bool:
        """Say whether another worker that is alive has clearly fewer connections."""
        cells = self._cells
        mine = self.connections
        few = mine - 1 - mine // _PART
        for at in range(0, len(cells), _SLOT_CELLS):
            if at != self._at and cells[at] and cells[at + 1] < few:
                if os.path.exists(f"/proc/{cells[at]}"):
                    return True
                cells[at] = 0
        return False

    def leave(self) -> None:
        """Take no share any more."""
        self._cells[self._at] = 0
