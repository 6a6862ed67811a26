"""The clocks that an agent goes by, and its rests."""

from __future__ import annotations

import threading
import time


class Pace:
    """Those of this machine; `stop` ends a rest, from any thread or signal handler."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether the agent is to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Have the agent end."""
        self._stopping.set()

    def rest(self, seconds: float) -> bool:
        """Wait, at most until `stop`; say whether that came."""
        return self._stopping.wait(max(seconds, 0))

    def sleep(self, seconds: float) -> None:
        """Wait, whoever stops."""
        time.sleep(seconds)

    def monotonic(self) -> float:
        """Return seconds of CLOCK_MONOTONIC, for what needs no other node's agreement."""
        return time.monotonic()

    def boottime_ns(self) -> int:
        """Return CLOCK_BOOTTIME, which leases go by: it goes on while the machine is suspended."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_ms(self) -> int:
        """Return the wall clock, for people."""
        return time.time_ns() // 1_000_000
