"""How long a client may take for what it does: its stamps, and whether one is too old.

Counts in the server's ticks and knows no clock and no transport. `connection` stamps what the
client does, asks once in each tick, and acts; the times are `limits.Ticks`.
"""

from __future__ import annotations

from typing import Protocol

from synap.http.server.limits import Ticks


class Clock(Protocol):
    """What counts the time of all connections of a process."""

    ticks: Ticks
    tick: int


class ClientTimeouts:
    """The stamps of one client.

    Attributes:
        since: Tick of the last thing that the client is timed from: its connection, a sign of
            progress in what it sends, or the answer that it has had since. Who has waited longest
            for a client is told by it.
    """

    __slots__ = (
        "_body", "_body_since", "_clock", "_lingering_since", "_read_by", "_stalled_since",
        "_unread_bytes", "since",
    )  # fmt: skip

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.since = clock.tick
        # The body that was being read at the last look, and the tick of the first look at it.
        self._body: object = None
        self._body_since = 0
        # What waited for the client at the last look, and since when it has read nothing of it;
        # None exactly where nothing waited, or where it was told to have read enough.
        self._unread_bytes = 0
        self._stalled_since: int | None = None
        # Tick by which it must have read enough; None where nothing waits.
        self._read_by: int | None = None
        # None until the connection lingers. A close does not take it back.
        self._lingering_since: int | None = None

    def begin_lingering(self) -> None:
        """Note that from now on the rest of the client's input is only read away."""
        self.since = self._lingering_since = self._clock.tick

    def forgive_stall(self) -> None:
        """Note that the client has read enough of what waited for it."""
        self._stalled_since = self._read_by = None

    def unread_since(self) -> int:
        """Return since which tick the client has read nothing of what waits for it."""
        return self.since if self._stalled_since is None else self._stalled_since

    def works_since(self) -> int | None:
        """Return since which tick a request is under way; None where that is not long."""
        is_long = self._clock.tick - self.since > self._clock.ticks.work_grace
        return self.since if is_long else None

    def is_stalled(self, unread_bytes: int) -> bool:
        """Return whether the client reads too slowly, or nothing, of what waits for it.

        Args:
            unread_bytes: What waits, in the transport's buffer.
        """
        tick, ticks = self._clock.tick, self._clock.ticks
        if not unread_bytes:
            self._stalled_since = self._read_by = None
            return False
        if self._stalled_since is None or unread_bytes < self._unread_bytes:
            self._stalled_since = tick
        if self._read_by is None:
            self._read_by = tick + ticks.request + unread_bytes // ticks.read_bytes
        elif unread_bytes > self._unread_bytes:
            self._read_by += (unread_bytes - self._unread_bytes) // ticks.read_bytes
        self._unread_bytes = unread_bytes
        return tick - self._stalled_since > ticks.write or tick > self._read_by

    def has_lingered(self) -> bool:
        """Return whether a connection that lingers did so for long enough."""
        since = self._lingering_since
        return since is not None and self._clock.tick - since > self._clock.ticks.linger

    def is_body_late(self, body: object) -> bool:
        """Return whether a body grows too slowly, or takes too long altogether.

        Args:
            body: Tells the body that is being read from another one.
        """
        clock = self._clock
        if body is not self._body:
            self._body, self._body_since = body, clock.tick
        ticks = clock.ticks
        return clock.tick - self.since > ticks.body or clock.tick - self._body_since > ticks.request

    def is_head_late(self) -> bool:
        """Return whether a head that was begun takes too long."""
        return self._clock.tick - self.since > self._clock.ticks.head

    def is_silent(self, has_begun: bool, is_leaving: bool) -> bool:
        """Return whether the client has asked for nothing for too long.

        Args:
            has_begun: It has asked for something before.
            is_leaving: The connection only waits for what may be on its way.
        """
        ticks = self._clock.ticks
        allowed, grace = (
            (ticks.idle, ticks.idle_grace) if has_begun else (ticks.head, ticks.fresh_grace)
        )
        return self._clock.tick - self.since > (min(grace, allowed) if is_leaving else allowed)
