"""Who may have one of a process's connections: so many in all, so many for one address.

Where there is no room, the client that has kept its place longest for nothing loses it: one that is
silent, owes the rest of a body, or does not read its answer; where there is none such, one whose
request has been under way for long. Where all are busy with young requests, a new connection gets
one of a few further places, in which load balancers' questions alone are answered. So whoever
takes all places is in the way of a client for a moment at most.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from synap.addresses import client_group
from synap.http.server.connection import Connection
from synap.http.server.framing import OVERLOADED, Headers

# The part of the connections that is closed at once where a new one finds no room, so that the
# search for them is not paid for each.
EVICTED_PART = 32
# Further places for load balancers: a part of the others, within these bounds.
_PROBED_PART = 16
_LEAST_PROBED, _MOST_PROBED = 8, 64


class Addresses(Protocol):
    """Some addresses."""

    def __contains__(self, address: str, /) -> bool:
        """Say whether an address, as `plain_address` gives it, is among them."""


class Places:
    """The connections of one process.

    Attributes:
        connections: All that are open, those in the further places too.
        timed: Those of them whose clients are held to their time: all but feeds.
    """

    def __init__(self, max_connections: int, max_of_address: int, proxies: Addresses = ()) -> None:
        """
        Args:
            max_connections: Open connections in all.
            max_of_address: Those of one IPv4 address or IPv6 network of 64 bits; 0 for any number.
            proxies: Addresses that many clients come from, to which that bound does not apply.
        """
        self.connections: set[Connection] = set()
        self.timed: set[Connection] = set()
        self._max_connections = max_connections
        self._max_of_address = max_of_address
        self._proxies = proxies
        self._of_group: Counter[str] = Counter()
        self._groups: dict[Connection, str] = {}
        # Told to go, and there for some turns of the loop yet.
        self._evicted: set[Connection] = set()
        # Those that hold no place: the application bounds them itself.
        self._exempt: set[Connection] = set()
        # In the order in which they came.
        self._probed: dict[Connection, None] = {}
        self._max_probed = min(_MOST_PROBED, max(_LEAST_PROBED, max_connections // _PROBED_PART))

    def admit(self, connection: Connection, address: str) -> bool:
        """Give a new connection a place.

        Args:
            address: Of its client; "" where it has none.

        Returns:
            False where it may ask for no more than load balancers do.
        """
        open_count = (
            len(self.connections) - len(self._probed) - len(self._evicted) - len(self._exempt)
        )
        has_room = self._has_room_for(address) and (
            open_count < self._max_connections or self._make_room(self.connections)
        )
        self.connections.add(connection)
        self.timed.add(connection)
        if self._max_of_address and address:
            group = client_group(address)
            self._groups[connection] = group
            self._of_group[group] += 1
        if not has_room:
            self._probed[connection] = None
            if len(self._probed) > self._max_probed:
                self._evict_probed()
        return has_room

    def exempt(self, connection: Connection) -> None:
        """Let a connection stay without a place, neither counted, evicted nor timed."""
        if connection in self.connections and connection not in self._evicted:
            self._exempt.add(connection)
            self._probed.pop(connection, None)
            self._leave_group(connection)
            self.timed.discard(connection)

    def time(self, connection: Connection) -> None:
        """Hold the client of a feed that is over to its time again."""
        if connection in self.connections:
            self.timed.add(connection)

    def forget(self, connection: Connection) -> None:
        """Give a lost connection's place back."""
        self.connections.discard(connection)
        self.timed.discard(connection)
        self._exempt.discard(connection)
        self._evicted.discard(connection)
        self._probed.pop(connection, None)
        self._leave_group(connection)

    def _leave_group(self, connection: Connection) -> None:
        group = self._groups.pop(connection, None)
        if group is not None:
            self._of_group[group] -= 1
            if not self._of_group[group]:
                del self._of_group[group]

    def _has_room_for(self, address: str) -> bool:
        """Say whether an address may have one more, having made room among its own."""
        bound = self._max_of_address
        if not (bound and address):
            return True
        group = client_group(address)
        if self._of_group[group] < bound or address in self._proxies:
            return True
        own = [each for each, of_group in self._groups.items() if of_group == group]
        return self._make_room(own)

    def _make_room(self, connections: Iterable[Connection]) -> bool:
        """Evict those that have kept their places longest for nothing."""
        working: list[tuple[int, int, Connection]] = []
        waiting: list[tuple[int, int, Connection]] = []
        for each in connections:
            if each in self._probed or each in self._evicted or each in self._exempt:
                continue
            since = each.waits_since()
            if since is not None:
                waiting.append((since, each.number, each))
                continue
            since = each.works_since()
            if since is not None:
                working.append((since, each.number, each))
        count = 1 + self._max_connections // EVICTED_PART
        longest = heapq.nsmallest(count, waiting) or heapq.nsmallest(1, working)
        for _, _, each in longest:
            self.evict(each)
        return bool(longest)

    def _evict_probed(self) -> None:
        oldest = next(iter(self._probed))
        del self._probed[oldest]
        self.evict(oldest)

    def evict(self, connection: Connection) -> None:
        """Have a connection give its place up."""
        self._evicted.add(connection)
        self._leave_group(connection)
        connection.evict()


class ProbesOnly:
    """The application as the further places have it: what load balancers ask for, and no more."""

    def __init__(self, app: Any) -> None:
        """
        Args:
            app: The whole one; its `probe_paths` are what is let through, where it has some.
        """
        self._app = app
        self._paths: frozenset[str] = getattr(app, "probe_paths", frozenset())
        self._more: Callable[[Headers], Headers] = getattr(
            app, "refusal_headers", lambda headers: []
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["path"] in self._paths:
            await self._app(scope, receive, send)
            return
        body = OVERLOADED.body()
        length = (b"content-length", b"%d" % len(body))
        more = self._more(scope["headers"])
        headers = [*OVERLOADED.headers(more), length, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": OVERLOADED.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
