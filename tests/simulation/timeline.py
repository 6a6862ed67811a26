"""The clock of a simulation: what happens when, in one order that the seed alone decides."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

NS_PER_MS = 1_000_000


class Timeline:
    """Actions by time; those of one moment in the order in which they were asked for.

    Attributes:
        now_ns: Monotonic clock of every node.
        trace: What happened, a line each.
    """

    def __init__(self) -> None:
        # Beyond every timeout, so that no "never" looks recent.
        self.now_ns = 1_000_000 * NS_PER_MS
        self.trace: list[str] = []
        self._began_ns = self.now_ns
        self._actions: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def elapsed_ms(self) -> int:
        return (self.now_ns - self._began_ns) // NS_PER_MS

    @property
    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.elapsed_ms

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Do `action` in `delay_ms`."""
        self._count += 1
        heappush(self._actions, (self.now_ns + int(delay_ms * NS_PER_MS), self._count, action))

    def run_until(self, end_ms: int) -> None:
        """Do what is due up to `end_ms` since the start."""
        end_ns = self._began_ns + end_ms * NS_PER_MS
        actions = self._actions
        while actions and actions[0][0] <= end_ns:
            self.now_ns, _, action = heappop(actions)
            action()
        self.now_ns = end_ns

    def note(self, line: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.elapsed_ms} {line}")
