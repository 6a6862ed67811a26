"""Until when this master may take writes, where an engine of elections says so.

The clock is CLOCK_BOOTTIME, which goes on while a machine is suspended: one that wakes up sees that
its time is over. Without an engine the lease never ends, and looking costs one comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FOR_EVER_NS = 2**62
"""Ends after any machine; what a node without an engine has."""


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME in ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Lease:
    """A lease of one writer.

    Attributes:
        until_ns: CLOCK_BOOTTIME at which it ends.
    """

    __slots__ = ("_now_ns", "until_ns")

    def __init__(
        self, until_ns: int = FOR_EVER_NS, now_ns: Callable[[], int] = boottime_ns
    ) -> None:
        """
        Args:
            until_ns: As the attribute; 0 for none yet.
            now_ns: The clock.
        """
        self.until_ns = until_ns
        self._now_ns = now_ns

    def is_over(self) -> bool:
        """Say whether nothing may be acknowledged any more."""
        until_ns = self.until_ns
        return until_ns != FOR_EVER_NS and self._now_ns() >= until_ns
