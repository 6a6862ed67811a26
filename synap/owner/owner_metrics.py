"""What the log's owner measures of its log for the node's metrics: syncs, and frames.

What else it counts, it counts where it happens (see `synap.shared.series`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from synap.disk import Files
from synap.frame import Frame
from synap.shared.series import BATCH, COUNT_BOUNDS, DURATION_BOUNDS_NS, FSYNC, Series


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
