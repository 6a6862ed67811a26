"""A load of SETs whose head and body are sent in one write, or the body a moment after the head.

wrk sends a request in one write, and some clients don't: their node reads it in two.
"""

from __future__ import annotations

import asyncio
import socket
import time
from urllib.parse import urlsplit

from ops.bench.errors import MeasurementFailed

_BODY = b'{"key":"key:000001","value":"' + b"v" * 64 + b'"}'
_HEAD = (
    b"POST /kv/set HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(_BODY)
)
# Longer than a node takes to read what is there.
_BETWEEN_SECONDS = 0.001
_OK = b"HTTP/1.1 200"
_GRACE_SECONDS = 30


class _Client(asyncio.Protocol):
    """One connection with one request under way."""

    def __init__(self, until: float, *, splits: bool) -> None:
        self.requests = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until = until
        self._splits = splits
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not blank or not body.endswith(b"}"):
            return
        self._answer = b""
        if not head.startswith(_OK):
            self._end(MeasurementFailed(f"a SET was answered {head[:80]!r}"))
            return
        self.requests += 1
        if time.monotonic() < self._until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(MeasurementFailed(f"a connection ended: {error}"))

    def _ask(self) -> None:
        if self._splits:
            self._transport.write(_HEAD)
            asyncio.get_running_loop().call_later(_BETWEEN_SECONDS, self._transport.write, _BODY)
        else:
            self._transport.write(_HEAD + _BODY)

    def _end(self, error: MeasurementFailed | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
        self._transport.close()


def drive(url: str, connections: int, seconds: int, *, splits: bool) -> int:
    """Send SETs of one key for some seconds; return how many were answered.

    Args:
        splits: The body comes a millisecond after the head.

    Raises:
        MeasurementFailed: an answer is missing, or is none of status 200.
    """
    return asyncio.run(_drive(url, connections, seconds, splits=splits))


async def _drive(url: str, connections: int, seconds: int, *, splits: bool) -> int:
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    until = time.monotonic() + seconds
    clients = [_Client(until, splits=splits) for _ in range(connections)]
    try:
        async with asyncio.timeout(seconds + _GRACE_SECONDS):
            for client in clients:
                await loop.create_connection(lambda c=client: c, address.hostname, address.port)
            await asyncio.gather(*(client.ended for client in clients))
    except (OSError, TimeoutError) as error:
        raise MeasurementFailed(f"SETs were not answered: {error}") from error
    return sum(client.requests for client in clients)
