"""What the connections of one process share: the application, the limits, the clock, the listeners.

`HttpServer` accepts, bounds and times connections, and ends them without losing a request. It knows
asyncio and nothing of Gunicorn: `worker` drives it, and tests run it inside their own process.

Timers are coarse on purpose. One tick sweeps all connections instead of every request arming and
cancelling a timer of its own; a timeout is therefore late by up to one tick, never early.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import select
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from socket import socket
from typing import Any

from synap.http.server.acceptor import Acceptor
from synap.http.server.connection import Connection, FastPath
from synap.http.server.eager_tasks import make_starter
from synap.http.server.framing import Headers
from synap.http.server.head_cache import HeadCache
from synap.http.server.held_memory import HeldMemory
from synap.http.server.limits import IDLE_GRACE_SECONDS, HttpLimits, Ticks
from synap.http.server.places import Addresses, Places, ProbesOnly
from synap.shared.connection_counts import ConnectionCounts, WorkerSlot

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25

# Connections that are checked in one turn of the loop: some 0.2 ms, and many thousands in a tick.
CHECKED_AT_ONCE = 256

# How long the accept queue is emptied for before the listeners close.
BACKLOG_SECONDS = 0.1


# TLS handshakes at once, as a part of the connections.
HANDSHAKES_PART = 4
_LEAST_HANDSHAKES = 16


class HttpServer:
    """Serves an ASGI application on listening sockets, inside a running loop.

    Attributes:
        is_guarded: The application looks at who asks before it wants a body.
        refusal_headers: See `exchange.Common`.
        tick: Number of the current tick; connections stamp what they wait for with it.
        date_line: The Date header's line of this second, without its line end.
        requests: Requests begun since the start.
        is_draining: No connection outlives its current request.
    """

    def __init__(
        self,
        app: Any,
        limits: HttpLimits,
        *,
        state: dict[str, Any] | None = None,
        worker_slot: WorkerSlot | None = None,
    ) -> None:
        """
        Args:
            state: What the lifespan left for the requests. worker_slot: This worker's among those
            that accept from the same sockets; None where it is
                alone.
        """
        self.app = app
        self.fast_path: FastPath | None = getattr(app, "fast_path", None)
        self.refusal_headers: Callable[[Headers], Headers] = getattr(
            app, "refusal_headers", lambda headers: []
        )
        self.is_guarded: bool = getattr(app, "is_guarded", False)
        self.head_cache = HeadCache()
        self.limits = limits
        self.state = state or {}
        self.loop = asyncio.get_running_loop()
        self.ticks = Ticks.of(limits, TICK_SECONDS)
        self.starter = make_starter(self.loop)
        self.tick = 0
        self.requests = 0
        self.is_draining = False
        self._is_closed = False
        # Those that this tick has not come to yet.
        self._unchecked: list[Connection] = []
        self.date_line = b""
        self._proxies: Addresses = getattr(app, "trusted_proxies", ())
        self._places = Places(
            limits.max_connections, limits.max_connections_of_address, self._proxies
        )
        self.connections = self._places.connections
        self.memory = HeldMemory(limits.held_bytes, self._on_memory)
        self.probes_app = ProbesOnly(app)
        self._connected = 0
        self._slot = worker_slot or ConnectionCounts().worker_slot(0)
        self._date_second = 0
        self._acceptors: list[Acceptor] = []
        self._sockets: list[socket] = []
        self._emptied: asyncio.Future[None] | None = None
        self._has_tls = False
        self._refresh_date()
        self._timer = self.loop.call_later(TICK_SECONDS, self._on_timer)

    async def listen(self, listening: socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a bound socket that listens already."""
        acceptor = Acceptor(
            listening,
            lambda client: Connection(self, client),
            tls,
            self.limits.head_seconds,
            self._slot,
            max(_LEAST_HANDSHAKES, self.limits.max_connections // HANDSHAKES_PART),
            self._proxies if getattr(self.app, "takes_proxy_protocol", False) else (),
        )
        self._has_tls = self._has_tls or tls is not None
        self._acceptors.append(acceptor)
        self._sockets.append(listening)

    def next_number(self) -> int:
        """Return a new connection's number; later ones have higher ones."""
        self._connected += 1
        return self._connected

    def admit(self, connection: Connection, address: str) -> bool:
        """Count a new connection in; see `Places.admit`."""
        has_room = self._places.admit(connection, address)
        self._slot.connections = len(self.connections)
        return has_room

    def exempt(self, connection: Connection) -> None:
        """Count a connection no more; see `Places.exempt`."""
        self._places.exempt(connection)

    def time(self, connection: Connection) -> None:
        """Hold a client to its time again; see `Places.time`."""
        self._places.time(connection)

    def forget(self, connection: Connection) -> None:
        """Count a lost connection out."""
        self._places.forget(connection)
        self._slot.connections = len(self.connections)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _on_memory(self, is_tight: bool) -> None:
        """Begin nothing while too much is held; go on with everything when it is not."""
        if self.fast_path is not None:
            self.fast_path.pause(is_tight)
        if is_tight:
            return
        # The newest first: under such a load the others have most likely asked for too much.
        waiting = [each for each in self.connections if each.has_input()]
        for connection in sorted(waiting, key=lambda each: each.number, reverse=True):
            self.loop.call_soon(connection.advance)

    def _relieve_memory(self) -> None:
        """Evict those that have held something longest for nothing, where too much is held."""
        if not self.memory.is_tight:
            return
        holding = [
            (since, each.number, each)
            for each in self.connections
            if each.held_bytes and (since := each.holds_since()) is not None
        ]
        heapq.heapify(holding)
        # What they hold is free when they are gone; so much at once that it lasts for a while.
        excess = self.memory.held_bytes - self.limits.held_bytes // 2
        while holding and excess > 0:
            oldest = heapq.heappop(holding)[2]
            excess -= oldest.held_bytes
            self._places.evict(oldest)

    def _on_timer(self) -> None:
        self._timer = self.loop.call_later(TICK_SECONDS, self._on_timer)
        self.on_tick()

    def on_tick(self) -> None:
        """Let `TICK_SECONDS` pass for everything that is timed."""
        self.tick += 1
        self._refresh_date()
        if not self._unchecked:
            self._unchecked = list(self._places.timed)
            self._check_some()

    def _check_some(self) -> None:
        """Check a slice of the connections, and the rest in later turns of the loop."""
        unchecked = self._unchecked
        for connection in unchecked[-CHECKED_AT_ONCE:]:
            if connection in self._places.timed:
                connection.check()
        del unchecked[-CHECKED_AT_ONCE:]
        if unchecked and not self._is_closed:
            self.loop.call_soon(self._check_some)
        else:
            self._relieve_memory()

    def _refresh_date(self) -> None:
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self.date_line = f"date: {formatdate(second, usegmt=True)}".encode()

    async def drain(self, timeout_seconds: float) -> int:
        """Stop accepting, let every request end, and close the connections.

        A connection closes after its current answer, which says so. Silent ones close after a
        short grace (`IDLE_GRACE_SECONDS`), so that a request that is on its way is not cut.

        Returns:
            The number of connections that were cut because the time was over.
        """
        deadline = self.loop.time() + timeout_seconds
        self._slot.leave()
        await self._accept_backlog()
        for acceptor in self._acceptors:
            acceptor.close()
        self.is_draining = True
        on_drain = getattr(self.app, "on_drain", None)
        if on_drain is not None:
            on_drain()
        for connection in tuple(self.connections):
            connection.start_leaving()
        # What is accepted but not yet announced appears within a turn of the loop; with TLS, when
        # its handshake is over.
        await asyncio.sleep(IDLE_GRACE_SECONDS if self._has_tls else TICK_SECONDS)
        if self.connections and not self._is_closed:
            self._emptied = self.loop.create_future()
            left_seconds = max(0.0, deadline - self.loop.time())
            await asyncio.wait((self._emptied,), timeout=left_seconds)
        cut = len(self.connections)
        self.close()
        return cut

    async def _accept_backlog(self) -> None:
        """Take what already waits to be accepted: closing the last listener would reset it."""
        deadline = self.loop.time() + BACKLOG_SECONDS
        while self.loop.time() < deadline and self._has_backlog():
            for acceptor in self._acceptors:
                acceptor.accept_waiting()
            await asyncio.sleep(0)

    def _has_backlog(self) -> bool:
        poller = select.poll()
        for listening in self._sockets:
            if listening.fileno() >= 0:
                poller.register(listening, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Stop at once: close the listeners and cut every connection."""
        self._is_closed = True
        self._timer.cancel()
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in tuple(self.connections):
            connection.abort()
