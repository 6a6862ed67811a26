"""The master's clock as a replica measures it: by the heartbeats, which carry it.

A heartbeat is heard some time after it was sent, never before. So of several the one that puts the
master's clock furthest ahead was the quickest, and is the nearest to the truth; what is wrong of it
makes keys live longer by that, not shorter.
"""

from __future__ import annotations

from collections import deque

from synap.replication.rules.progress import NS_PER_MS

# A master's clock that is set back is followed after so many.
_HEARTBEATS = 8
# In the year 2200: beyond is no clock.
_MAX_CLOCK_MS = 7_258_118_400_000


class MasterClock:
    """What the heartbeats tell.

    Attributes:
        offset_ns: The master's wall clock less this machine's monotonic one; 0 for not known yet.
    """

    def __init__(self) -> None:
        self.offset_ns = 0
        self._heard: deque[int] = deque(maxlen=_HEARTBEATS)

    def begin_link(self) -> None:
        """Learn that another master may be heard from now on; what is known counts until then."""
        self._heard.clear()

    def hear(self, clock_ms: int, now_ns: int) -> None:
        """Take a heartbeat.

        Args:
            clock_ms: The master's wall clock when it was sent.
            now_ns: This machine's monotonic clock.
        """
        if 0 < clock_ms <= _MAX_CLOCK_MS:
            self._heard.append(clock_ms * NS_PER_MS - now_ns)
            self.offset_ns = max(self._heard)
