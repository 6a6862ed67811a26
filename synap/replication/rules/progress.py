"""Where a replication link stands: its state, its silence, what is missing of the stream.

Plain values and arithmetic: times come in as nanoseconds of a monotonic clock, the random number of
a back-off comes in as an argument. `follower` and `roster` use these; the tests drive them through
any loss, reordering and duplication. How far a replica is behind is in `lag`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from enum import StrEnum

import msgspec

from synap.frame import Frame

NS_PER_MS = 1_000_000

# Silence for so many heartbeats means that the link is down.
SILENT_HEARTBEATS = 3
# The delay before a retry doubles up to this multiple of replication.reconnect_delay_ms.
MAX_BACK_OFF = 8


class LinkState(StrEnum):
    """A replica's link, in the words of the HTTP contract."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    SYNCING = "syncing"
    IN_SYNC = "in_sync"
    LAGGING = "lagging"
    DISCONNECTED = "disconnected"
    DIVERGED = "diverged"


def is_silent(now_ns: int, last_contact_ns: int, heartbeat_ns: int) -> bool:
    """Say whether the link counts as down."""
    return now_ns - last_contact_ns > SILENT_HEARTBEATS * heartbeat_ns


def retry_delay_ms(attempt: int, base_ms: int, random: float) -> float:
    """Return how long to wait before a retry.

    Args:
        attempt: 0 for the first retry, which comes at once.
        base_ms: `replication.reconnect_delay_ms`.
        random: From [0, 1): spreads the replicas of one master over half of the delay.
    """
    if attempt == 0:
        return 0.0
    # The exponent is bounded because attempts are not.
    multiple = min(1 << min(attempt - 1, 16), MAX_BACK_OFF)
    return base_ms * multiple * (0.75 + random / 2)


class Missing(msgspec.Struct, frozen=True):
    """Entries that must be fetched: those after `after_offset`, up to `until_offset`."""

    after_offset: int
    until_offset: int


class StreamBuffer:
    """Keeps the frames of the stream until what comes before them is applied.

    PUB drops, a reconnect repeats, and a catch-up overtakes: frames may come in any order, twice or
    not at all. What is kept is bounded in bytes. Where it is full the newest frame is dropped: what
    it lacks later is fetched from behind what it holds.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept_bytes = 0
        # First offsets in order, and the frame of each.
        self._starts: list[int] = []
        self._frames: dict[int, Frame] = {}

    def keep(self, frame: Frame) -> bool:
        """Keep `frame`; return False where there is no room for it."""
        start = frame.first_offset
        size = len(frame.encoded)
        known = self._frames.get(start)
        if known is not None:
            # At one offset the frame of the newer reign is the valid one.
            if known.epoch >= frame.epoch:
                return True
            self._drop(start)
        if self._starts and self._kept_bytes + size > self._limit_bytes:
            return False
        insort(self._starts, start)
        self._frames[start] = frame
        self._kept_bytes += size
        return True

    def take(self, offset: int, limit_bytes: int) -> list[Frame]:
        """Return the frames that follow `offset` without a gap, and forget all up to their end.

        Args:
            offset: Last offset that is applied.
            limit_bytes: Bound on the frames' bytes; at least one is returned where there is one.
        """
        taken: list[Frame] = []
        taken_bytes = 0
        used = 0
        for start in self._starts:
            frame = self._frames[start]
            if start == offset + 1:
                if taken and taken_bytes + len(frame.encoded) > limit_bytes:
                    break
                taken.append(frame)
                taken_bytes += len(frame.encoded)
                offset = frame.last_offset
            elif start > offset:
                break
            used += 1
        for start in self._starts[:used]:
            self._kept_bytes -= len(self._frames.pop(start).encoded)
        del self._starts[:used]
        return taken

    def missing(self, offset: int, heard_offset: int) -> Missing | None:
        """Return what to fetch next; None where the next frame is here or nothing is missing.

        Args:
            offset: Last offset that is applied.
            heard_offset: Last offset that the master is known to have.
        """
        following = bisect_right(self._starts, offset)
        if following < len(self._starts):
            until = self._starts[following] - 1
            return Missing(offset, until) if until > offset else None
        return Missing(offset, heard_offset) if heard_offset > offset else None

    def clear(self) -> None:
        """Forget everything."""
        self._starts.clear()
        self._frames.clear()
        self._kept_bytes = 0

    def _drop(self, start: int) -> None:
        self._starts.remove(start)
        self._kept_bytes -= len(self._frames.pop(start).encoded)
