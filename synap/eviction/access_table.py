"""When and how often keys are used, in memory that all processes of a node share.

A table of 32-bit cells; a key's cell is the one that its CRC-32 chooses. Every HTTP worker and the
log's owner mark a use by one plain store, without a lock: of two at once one may be lost, which
costs a tick of precision. Keys can share a cell, and then count as one: a cold key that shares with
a hot one stays longer than it should. With many more cells than hot keys those are few of the cold
ones, and nothing else can go wrong.

    order       a cell
    recency     clock of the last use, in hundredths of a second
    frequency   minute of the last use (24 bits), logarithmic counter of uses (8 bits)

The cell after the last one is the clock, which the log's owner alone moves on, so that a use needs
no look at a clock. It is monotonic and goes on from where it was when the node is started again.
Policies that need no access times have no table.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Literal
from zlib import crc32

from synap.eviction.rules import COUNT_CHANCES, FIRST_COUNT, MAX_COUNT, Policy, decayed_count
from synap.shared.node_file import map_node_file, own_memory

logger = logging.getLogger(__name__)

AccessOrder = Literal["recency", "frequency"]
Touch = Callable[[bytes], None]
Coldness = Callable[[bytes], int]

_CELL_BYTES = 4
_CELL_MASK = 0xFFFF_FFFF
# A cell for each so many bytes of the store: a small key with its value and its share of the page.
_STORE_BYTES_PER_CELL = 256
_FEWEST_CELL_BITS = 16
_MOST_CELL_BITS = 26
# The clock's page.
_CLOCK_BYTES = 4096
# What one step of the clock is, in ns, and by what it is shifted in the cell.
_UNITS: dict[AccessOrder, tuple[int, int]] = {
    "recency": (10_000_000, 0),
    "frequency": (60_000_000_000, 8),
}


class AccessTable:
    """The table, mapped by this process.

    Attributes:
        touch: Marks a use of a key. On the path of every read, hence a closure and no method.
        wrote: Marks a write, with which a key may begin its life; for the log's owner.
        coldness: Tells how cold a key is, comparable with others': the higher, the colder.
    """

    def __init__(self, memory: mmap.mmap, order: AccessOrder) -> None:
        """
        Args:
            memory: A power of two of cells, and the clock's page.
        """
        self._memory = memory
        self._cells = memoryview(memory).cast("I")
        self._clock_at = (len(memory) - _CLOCK_BYTES) // _CELL_BYTES
        self._unit_ns, self._shift = _UNITS[order]
        self._base: int | None = None
        make = _recency if order == "recency" else _frequency
        self.touch, self.wrote, self.coldness = make(self._cells, self._clock_at)

    @classmethod
    def of(cls, policy: Policy, folder: Path, limit_bytes: int) -> AccessTable | None:
        """As `open`, for what the policy goes by; None where it needs no times of access."""
        if not limit_bytes or policy.order not in ("recency", "frequency"):
            return None
        return cls.open(folder, policy.order, limit_bytes)

    @classmethod
    def open(cls, folder: Path, order: AccessOrder, limit_bytes: int) -> AccessTable:
        """Map the node's table.

        Where the disk has no room for it, this process gets one of its own: a node must start.

        Args:
            folder: The run directory.
            limit_bytes: The memory limit, by which the table is sized.
        """
        bits = cell_bits(limit_bytes)
        size = (_CELL_BYTES << bits) + _CLOCK_BYTES
        # By order and size: one that a change of the configuration left behind is never misread.
        path = folder / f"access-{order}-{bits}"
        try:
            return cls(map_node_file(path, size), order)
        except OSError as error:
            logger.warning(
                "%s can't be shared (%s); reads do not count for eviction", path, error.strerror,
                extra={"action": "access_table"},
            )  # fmt: skip
            return cls(own_memory(size), order)

    def tick(self, now_ns: int) -> None:
        """Move the clock on; for the log's owner alone.

        Args:
            now_ns: A monotonic clock.
        """
        step = now_ns // self._unit_ns
        if self._base is None:
            # From where it stood, and never 0: that is a cell that was never used.
            self._base = (self._cells[self._clock_at] >> self._shift) + 1 - step
        self._cells[self._clock_at] = (step + self._base) << self._shift & _CELL_MASK

    def close(self) -> None:
        """Unmap it; `touch` must not be called any more."""
        self._cells.release()
        self._memory.close()


def cell_bits(limit_bytes: int) -> int:
    """Return the binary logarithm of the number of cells for a store of that limit."""
    bits = (limit_bytes // _STORE_BYTES_PER_CELL).bit_length() - 1
    return min(max(bits, _FEWEST_CELL_BITS), _MOST_CELL_BITS)


def _recency(cells: memoryview, clock_at: int) -> tuple[Touch, Touch, Coldness]:
    mask = clock_at - 1

    def touch(key: bytes) -> None:
        cells[crc32(key) & mask] = cells[clock_at]

    def coldness(key: bytes) -> int:
        return (cells[clock_at] - cells[crc32(key) & mask]) & _CELL_MASK

    return touch, touch, coldness


def _frequency(cells: memoryview, clock_at: int) -> tuple[Touch, Touch, Coldness]:
    mask = clock_at - 1
    chances = COUNT_CHANCES

    def touch(key: bytes) -> None:
        at = crc32(key) & mask
        cell = cells[at]
        clock = cells[clock_at]
        if cell ^ clock <= MAX_COUNT:
            if random() < chances[cell & MAX_COUNT]:
                cells[at] = cell + 1
            return
        count = decayed_count(cell, clock)
        cells[at] = clock | (count + (random() < chances[count]))

    def wrote(key: bytes) -> None:
        at = crc32(key) & mask
        clock = cells[clock_at]
        if decayed_count(cells[at], clock) < FIRST_COUNT:
            cells[at] = clock | FIRST_COUNT
        else:
            touch(key)

    def coldness(key: bytes) -> int:
        return MAX_COUNT - decayed_count(cells[crc32(key) & mask], cells[clock_at])

    return touch, wrote, coldness
