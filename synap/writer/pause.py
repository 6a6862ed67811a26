"""Writes that pause: for how long they wait, and from when on they are refused instead.

Plain values; times are seconds of one monotonic clock. A pause ends by itself, whatever becomes of
whoever asked for it. Within it a write waits, but never so long that its client could no longer
be told that nothing was changed. The gate keeps to it.

Source: docs/protocol.md, "Switchover".
"""

from __future__ import annotations


class Pause:
    """Whether writes go on, wait or are refused."""

    def __init__(self, hold_seconds: float) -> None:
        """
        Args:
            hold_seconds: How long writes wait at most.
        """
        self._hold_seconds = hold_seconds
        self.ends_at = 0.0
        self.holds_until = 0.0

    def begin(self, now: float, seconds: float) -> None:
        """Pause from `now` on; another pause before the end moves the end and nothing else."""
        if not self.is_on(now):
            self.holds_until = now + self._hold_seconds
        self.ends_at = now + seconds

    def end(self) -> None:
        """Go on."""
        self.ends_at = 0.0

    def end_hold(self) -> None:
        """Refuse from now on."""
        self.holds_until = 0.0

    def is_on(self, now: float) -> bool:
        """Say whether nothing may be logged."""
        return now < self.ends_at

    def is_holding(self, now: float) -> bool:
        """Say whether writes wait; where they don't and the pause is on, they are refused."""
        return now < self.ends_at and now < self.holds_until
