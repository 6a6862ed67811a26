"""What the log's owner adds to the node's metrics.

Syncs and frames are counted as they happen. What the owner tells on the board as totals since its
own start (keys that expired, gaps of the stream) is added up here, so that the sums go on over its
restarts. `workers/owner.py` runs it, on the owner's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from synap.disk import Files
from synap.frame import Frame
from synap.shared.board import Board, NodeDetails
from synap.shared.series import COUNT_BOUNDS, DURATION_BOUNDS_NS, Name, Series

# Names of the series.
FSYNC: Name = ("wal_fsync",)
BATCH: Name = ("wal_batch",)
EXPIRED: Name = ("expired",)
EVICTED: Name = ("evicted",)
GAPS: Name = ("replication_gaps",)
FULL_RESYNCS: Name = ("replication_resyncs", "full")
CATCH_UPS: Name = ("replication_resyncs", "catch_up")
FAILED_HANDSHAKES: Name = ("replication_handshakes_failed",)
VIOLATIONS: Name = ("replication_violations",)

# The board's totals, and where they are added up.
_TOTALS = {
    "expired_total": EXPIRED,
    "evicted_total": EVICTED,
    "gaps_total": GAPS,
    "full_resyncs_total": FULL_RESYNCS,
    "catch_ups_total": CATCH_UPS,
    "handshakes_failed_total": FAILED_HANDSHAKES,
    "violations_total": VIOLATIONS,
}
_INTERVAL_SECONDS = 0.5


class TimedFiles(Files):
    """The log's file calls, with the time that each sync takes."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def sync(self, file: int) -> None:
        began_ns = time.perf_counter_ns()
        super().sync(file)
        self._series.observe(FSYNC, time.perf_counter_ns() - began_ns, DURATION_BOUNDS_NS)


class FrameCounter:
    """Counts frames, and their entries."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def note(self, frames: Sequence[Frame]) -> None:
        """Count frames that were logged."""
        for frame in frames:
            self._series.observe(BATCH, frame.count, COUNT_BOUNDS)


class OwnerSeries:
    """Adds up what the owner tells."""

    def __init__(self, series: Series, board: Board) -> None:
        """
        Args:
            series: This process's own.
            board: The node's, on which this process publishes.
        """
        self._series = series
        self._board = board
        # What stands there was left by the owner before this one.
        self._added = NodeDetails()
        self._left = board.details()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_INTERVAL_SECONDS, self.start)
        self.add_up()

    def stop(self) -> None:
        """Add up the last time, and end; twice does no harm."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.add_up()

    def add_up(self) -> None:
        """Add what the totals on the board have gained since the last time."""
        details = self._board.details()
        if details is self._left:
            return
        before, self._added = self._added, details
        for field, name in _TOTALS.items():
            self._series.count(name, getattr(details, field) - getattr(before, field))
