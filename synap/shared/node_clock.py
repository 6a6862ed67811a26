"""The wall clock that deadlines go by, the same in all processes of a node.

It is CLOCK_MONOTONIC, which nobody sets, and what the log's owner adds to it, a word on the board.
So a machine's clock that is set wrong hides and removes nothing before somebody has looked: a
master's owner follows its wall clock but for jumps (`synap.owner.own_clock`), a replica's the clock
of its master (`synap.replication.rules.master_clock`). Until an owner has said something it is the
machine's own wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

NS_PER_MS = 1_000_000
_UNSET: Sequence[int] = (0,)


def measured_offset() -> int:
    """Return what the machine's wall clock is ahead of CLOCK_MONOTONIC, in ns."""
    return time.time_ns() - time.monotonic_ns()


class NodeClock:
    """A process's view of its node's clock."""

    __slots__ = ("_word",)

    def __init__(self) -> None:
        self._word = _UNSET

    def follow(self, word: Sequence[int]) -> None:
        """Go by the owner's word on the board from now on."""
        self._word = word

    def forget(self, word: Sequence[int]) -> None:
        """Go by the machine's clock again, where `word` is what was gone by."""
        if self._word is word:
            self._word = _UNSET

    def now_ns(self) -> int:
        """Return the time in ns since 1970."""
        offset = self._word[0]
        return time.monotonic_ns() + offset if offset else time.time_ns()

    def now_ms(self) -> int:
        """Return the time in ms since 1970, by which it is decided what has expired."""
        return self.now_ns() // NS_PER_MS

    def begun_ms(self) -> int:
        """Return the same rounded up: deadlines that count from it are never early."""
        return -(-self.now_ns() // NS_PER_MS)


CLOCK = NodeClock()
"""Like the machine's clock, one for the whole process."""

now_ms = CLOCK.now_ms
begun_ms = CLOCK.begun_ms


class ClockWord:
    """The word of the node's owner; nobody else writes it."""

    def __init__(self, word: memoryview[int]) -> None:
        self._word = word

    @property
    def offset(self) -> int:
        """What is added to CLOCK_MONOTONIC, in ns; 0 for nothing said yet."""
        return self._word[0]

    @offset.setter
    def offset(self, offset: int) -> None:
        self._word[0] = offset
