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
        "_body", "_body_since", "_clock", "_lingering_since", "_stalled_since", "_unread_bytes",
        "since",
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
        # None until the connection lingers. A close does not take it back.
        self._lingering_since: int | None = None

    def begin_lingering(self) -> None:
        """Note that from now on the rest of the client's input is only read away."""
        self.since = self._lingering_since = self._clock.tick

    def forgive_stall(self) -> None:
        """Note that the client has read enough of what waited for it."""
        self._stalled_since = None

    def is_stalled(self, unread_bytes: int) -> bool:
        """Return whether the client has read nothing for too long of what waits for it.

        Args:
            unread_bytes: What waits, in the transport's buffer.
        """
        tick = self._clock.tick
        if not unread_bytes:
            self._stalled_since = None
        elif self._stalled_since is None or unread_bytes < self._unread_bytes:
            self._stalled_since = tick
        elif tick - self._stalled_since > self._clock.ticks.write:
            return True
        self._unread_bytes = unread_bytes
        return False

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
