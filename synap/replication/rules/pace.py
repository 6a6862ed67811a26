"""When a replica appends what it has heard: at once after a pause, gathered under a steady stream.

Each append costs a commit and an ack, whatever it carries. After one the replica gathers frames for
as long as several such appends would take, but never so long that it shows in the lag.

Pure: times are seconds of one monotonic clock.
"""

from __future__ import annotations

_GATHER_FACTOR = 4
LONGEST_GATHER_SECONDS = 0.002


class Pace:
    """The rhythm of one link."""

    def __init__(self) -> None:
        self._gathers_until = 0.0

    def wait_seconds(self, now: float) -> float:
        """Return for how long yet what comes is to be gathered; 0.0 for not at all."""
        return max(0.0, self._gathers_until - now)

    def appended(self, began: float, ended: float) -> None:
        """Learn how long an append took, with all that goes with it."""
        gather_seconds = min(_GATHER_FACTOR * (ended - began), LONGEST_GATHER_SECONDS)
        self._gathers_until = ended + gather_seconds
