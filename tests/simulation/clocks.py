"""The clocks of a node: a wall clock that differs from the others' and jumps, and what it goes by.

The monotonic clock is the timeline's. The word on the board outlives processes, not the machine.
"""

from __future__ import annotations

from array import array
from random import Random

from synap.owner.own_clock import OwnClock
from synap.shared.node_clock import NS_PER_MS, ClockWord
from tests.simulation.timeline import Timeline

# How far apart the clocks of machines are that are set right, to either side of the true time.
SKEW_MS = 500
# A clock that jumps is at least so far from that: more than is followed at once.
_LEAST_JUMP_MS = 5000
_LONGEST_JUMP_MS = 3_600_000


class Clocks:
    """Those of one machine.

    Attributes:
        word: What the node's processes go by, as the owner tells it.
    """

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self._timeline = timeline
        self._random = random
        self._skew_ms = 0.0
        self.word = _new_word()
        self.set_right()

    def set_right(self) -> None:
        """Have the wall clock be nearly right."""
        self._skew_ms = SKEW_MS * (2 * self._random.random() - 1)

    def jump(self) -> float:
        """Have the wall clock be wrong by a lot; return by how many ms."""
        ahead_ms = _LEAST_JUMP_MS + _LONGEST_JUMP_MS * self._random.random() ** 4
        self._skew_ms = ahead_ms * self._random.choice((-1, 1))
        return self._skew_ms

    def restart(self) -> None:
        """Learn that the machine was restarted: memory is gone, and time was asked for."""
        self.word = _new_word()
        self.set_right()

    def measured_ns(self) -> int:
        """Return what the wall clock is ahead of the monotonic one."""
        timeline = self._timeline
        return timeline.wall_ms * NS_PER_MS + int(self._skew_ms * NS_PER_MS) - timeline.now_ns

    def now_ms(self) -> int:
        """Return the time that decides what has expired, as `NodeClock` does."""
        return (self._timeline.now_ns + (self.word.offset or self.measured_ns())) // NS_PER_MS

    def own(self) -> OwnClock:
        """Return the shipped clock of a master's owner that begins now."""
        return OwnClock(self.word, lambda _: None, self.measured_ns, lambda: self._timeline.now_ns)

    def follow(self, offset_ns: int) -> None:
        """Go by the master's clock where it is known, as `ReplicaStatus` does."""
        self.word.offset = offset_ns or self.word.offset or self.measured_ns()


def _new_word() -> ClockWord:
    return ClockWord(memoryview(array("q", [0])))
