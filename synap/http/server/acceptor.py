"""Accepting: few connections in each turn of the loop, so that the workers share them.

The workers of a node wait on one accept queue. A worker that empties it as soon as it wakes takes
every connection of a client that opens many at once, and that client gets one processor of all.
Here a worker takes one, and goes round its loop before the next: the others wake meanwhile. One
that has clearly more than another (`connection_counts`) leaves the next one to that for a moment.
The more connections it has, the longer is its turn, so it takes a part more of what it has: of 256
that come at once the last one would else wait for a hundred turns.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable
from socket import socket

from synap.addresses import plain_address
from synap.http.server.places import Addresses
from synap.http.server.proxy_protocol import Client, told_client
from synap.shared.connection_counts import WorkerSlot

logger = logging.getLogger(__name__)

# The process or the machine is out of descriptors or memory: connections wait in the queue.
_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS = 1.0
# How long a worker that is ahead of another leaves a connection to that one: time for it to wake,
# also where the clients have all processors. What still waits then is taken by whoever can.
_YIELD_SECONDS = 0.001
# One more is taken in a turn for so many that are open.
_OPEN_PER_TAKEN = 8
# Connections that are taken at once by a worker that is about to leave.
_MANY = 256


class Acceptor:
    """Accepts on one listening socket, which it owns from now on. Belongs to the running loop."""

    def __init__(
        self,
        listening: socket,
        make_protocol: Callable[[Client | None], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
        worker_slot: WorkerSlot,
        max_handshakes: int,
        proxies: Addresses = (),
    ) -> None:
        """
        Args:
            listening: Bound, and listening already.
            make_protocol: Makes the protocol object of each connection; of one that a balancer
                passes on, for the client that it names.
            tls: What connections are encrypted with; None for plain ones.
            handshake_seconds: How long a TLS handshake may take.
            worker_slot: Tells how many connections this worker has, and whether another has
                clearly fewer.
            max_handshakes: TLS handshakes, and connections of `proxies` that have said nothing yet;
                the oldest make room for new ones.
            proxies: Addresses whose connections may begin with the PROXY protocol's header.
        """
        self._listening = listening
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._proxies = proxies
        self._slot = worker_slot
        self._has_yielded = False
        self._loop = asyncio.get_running_loop()
        self._max_handshakes = max_handshakes
        # In the order in which they began.
        self._opening: dict[asyncio.Task[None], None] = {}
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more; twice does no harm."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()

    def accept(self) -> bool:
        """Take one connection that waits; return whether there was one."""
        try:
            accepted, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another worker was faster, or the client went away.
            return False
        except OSError as error:
            if error.errno not in _NOTHING_LEFT:
                raise
            self._wait(error)
            return False
        task = self._loop.create_task(self._open(accepted))
        self._opening[task] = None
        task.add_done_callback(self._forget)
        if (self._tls is not None or self._proxies) and len(self._opening) > self._max_handshakes:
            oldest = next(iter(self._opening))
            del self._opening[oldest]
            oldest.cancel()
        return True

    def accept_share(self) -> None:
        """Take what one turn may of those that wait, or let a worker that has fewer do so."""
        if not self._has_yielded and self._slot.is_ahead():
            self._has_yielded = True
            self._pause_for(_YIELD_SECONDS)
            return
        self._has_yielded = False
        self._accept_up_to(1 + self._slot.connections // _OPEN_PER_TAKEN)

    def accept_waiting(self) -> None:
        """Take what waits, up to a bound."""
        self._accept_up_to(_MANY)

    def _accept_up_to(self, count: int) -> None:
        for _ in range(count):
            if not self.accept():
                break

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)

    async def _open(self, accepted: socket) -> None:
        try:
            client = await self._client_of(accepted) if self._proxies else None
            await self._loop.connect_accepted_socket(
                lambda: self._make_protocol(client),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._handshake_seconds,
            )
        except OSError as error:
            # A handshake that failed, or a client that is gone again.
            logger.debug("a connection failed: %s", error)
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    async def _client_of(self, accepted: socket) -> Client | None:
        """Return whom a balancer names; None where the other end is the client itself."""
        accepted.setblocking(False)
        peer = accepted.getpeername()
        if not isinstance(peer, tuple) or plain_address(peer[0]) not in self._proxies:
            return None
        return await told_client(accepted, self._handshake_seconds)

    def _wait(self, error: OSError) -> None:
        logger.error(
            "no connection can be accepted for %g s: %s", _PAUSE_SECONDS, error,
            extra={"action": "accept"},
        )  # fmt: skip
        self._pause_for(_PAUSE_SECONDS)

    def _pause_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._pause = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening.fileno(), self.accept_share)
