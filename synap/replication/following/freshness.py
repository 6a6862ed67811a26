"""How old a replica's data is, kept over its restarts.

A replica that has just started has heard nobody, which says nothing of its data: that is as old as
it was when its process ended, and older by the time since. `fresh_ms` in the data directory has the
wall clock at which it last had all that its master had. It is written every few seconds, so that a
process that is killed makes the data a little older than it is, never younger.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from synap.replication.rules.follower_io import FollowerStatus
from synap.replication.rules.lag import UNKNOWN_LAG_MS, fresh_since_ns, lag_ms
from synap.replication.rules.progress import NS_PER_MS

logger = logging.getLogger(__name__)

_WRITE_EVERY_NS = 2_000_000_000


class Freshness:
    """The file, on a replica. One process at a time writes it: the owner of the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written_ns = 0
        self._status: FollowerStatus | None = None

    def began_ns(self, applied_time_ms: int, *, has_synced: bool) -> int:
        """Return `fresh_ns` at a start; 0 where nobody knows.

        Args:
            applied_time_ms: The master's wall clock at the log's last frame, for want of a file.
            has_synced: Whether there is data whose age matters.
        """
        now_ns, now_ms = time.monotonic_ns(), time.time_ns() // NS_PER_MS
        if not has_synced:
            return now_ns
        fresh_ms = self._read() or applied_time_ms
        return fresh_since_ns(now_ns, now_ms - fresh_ms) if fresh_ms else 0

    def note(self, status: FollowerStatus, now_ns: int) -> None:
        """Learn how the replica stands; writes it down every now and then."""
        self._status = status
        if now_ns - self._written_ns >= _WRITE_EVERY_NS:
            self._written_ns = now_ns
            self.save()

    def save(self) -> None:
        """Write the file. Without a sync: where a power cut takes it, the data counts as older."""
        status = self._status
        if status is None or not status.has_synced:
            return
        now_ns = time.monotonic_ns()
        lag = lag_ms(now_ns, status.lag_since_ns, status.fresh_ns, status.heartbeat_ns)
        if lag == UNKNOWN_LAG_MS:
            return
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        try:
            temporary.write_text(f"{time.time_ns() // NS_PER_MS - lag}\n")
            os.replace(temporary, self._path)
        except OSError as error:
            logger.debug("%s can't be written: %s", self._path, error)

    def _read(self) -> int:
        try:
            return max(0, int(self._path.read_text()))
        except (OSError, ValueError):
            return 0
