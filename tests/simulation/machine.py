"""A machine's clocks beside the wall clock: they run a little wrong, and one stops in a suspend."""

from __future__ import annotations

from random import Random

from tests.simulation.timeline import NS_PER_MS, Timeline

# How much faster or slower than the true time a clock may run.
DRIFT = 0.05


class Machine:
    """Those clocks, and whether all of it sleeps.

    Attributes:
        name: The node's.
    """

    def __init__(self, timeline: Timeline, random: Random, name: str) -> None:
        self._timeline = timeline
        self.name = name
        self._rate = 1 + DRIFT * random.choice((-1, -1, 0, 1, 1))
        self._slept_ns = 0
        self._awake_at_ns = 0
        # The log's owner waits for its disk until then; the other processes go on.
        self._synced_at_ns = 0

    def sleep(self, ms: float) -> None:
        """Do nothing for a while, as a machine that is suspended, or all of whose processes are."""
        self._awake_at_ns = self._timeline.now_ns + int(ms * NS_PER_MS)
        self._slept_ns += int(ms * NS_PER_MS)

    def stall(self, ms: float) -> None:
        """Have the log's owner wait for its disk."""
        self._synced_at_ns = max(self._synced_at_ns, self._timeline.now_ns + int(ms * NS_PER_MS))

    def sleeps_ms(self) -> float:
        """Return for how long it does nothing yet."""
        return max(0, self._awake_at_ns - self._timeline.now_ns) / NS_PER_MS

    def owner_sleeps_ms(self) -> float:
        """Return for how long its log's owner does nothing yet."""
        until_ns = max(self._awake_at_ns, self._synced_at_ns)
        return max(0, until_ns - self._timeline.now_ns) / NS_PER_MS

    def boottime_ns(self) -> int:
        """Return CLOCK_BOOTTIME."""
        return int(self._timeline.now_ns * self._rate)

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC, which a suspended machine's stands still of."""
        return int((self._timeline.now_ns - self._slept_ns) * self._rate)
