"""A transport without a socket, and the small ASGI application that the HTTP tests run on it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

from synap.http.server.connection import Connection
from synap.http.server.server import TICK_SECONDS, HttpServer

HIGH_WATER_BYTES = 64 * 1024
_TURNS = 30
_DATE = re.compile(rb"\r\ndate: [^\r]+")


class MemoryTransport(asyncio.Transport):
    """Both ends of a TCP connection in memory, with a socket's rules.

    The peer reads everything at once, unless `is_peer_reading` is false: then what is written waits
    in `unread`, and the protocol is told to pause above the high-water mark. Data for a protocol
    that paused reading waits too. `connection_lost` comes in a turn of its own.

    Attributes:
        received: What the peer has read.
        has_ended: The peer has seen the end of what it reads.
        is_cut: The connection was aborted.
    """

    def __init__(self, protocol: asyncio.Protocol, *, is_peer_reading: bool = True) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 80)})
        self.received = b""
        self.unread = b""
        self.has_ended = False
        self.is_cut = False
        self.is_reading_paused = False
        self.writes = 0
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._inbox = b""
        self._is_peer_reading = is_peer_reading
        self._is_writing_paused = False
        self._is_closing = False
        self._is_lost = False
        self._has_written_eof = False
        protocol.connection_made(self)

    # What the peer does.

    def feed(self, data: bytes) -> None:
        """Let the protocol have data, now or when it reads again."""
        if self.is_reading_paused:
            self._inbox += data
        elif not self._is_closing:
            self._protocol.data_received(data)

    def feed_eof(self) -> None:
        """Close the peer's side for writing."""
        if not self._is_closing and not self._protocol.eof_received():
            self.close()

    def read(self, count: int) -> None:
        """Let the peer read what waits for it."""
        self.received += self.unread[:count]
        self.unread = self.unread[count:]
        if self._is_writing_paused and len(self.unread) <= HIGH_WATER_BYTES // 4:
            self._is_writing_paused = False
            self._protocol.resume_writing()
        self._end_if_flushed()

    def lose(self) -> None:
        """Break the connection."""
        self._lose()

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._has_written_eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._is_lost:
            return
        self.writes += 1
        self.unread += data
        if self._is_peer_reading:
            self.read(len(self.unread))
        elif len(self.unread) > HIGH_WATER_BYTES and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return len(self.unread)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._has_written_eof = True
        self._end_if_flushed()

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False
        inbox, self._inbox = self._inbox, b""
        if inbox:
            self._loop.call_soon(self.feed, inbox)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True
        self._end_if_flushed()

    def abort(self) -> None:
        self.is_cut = True
        self.unread = b""
        self._lose()

    def _end_if_flushed(self) -> None:
        if self.unread:
            return
        self.has_ended = self.has_ended or self._has_written_eof
        if self._is_closing:
            self._lose()

    def _lose(self) -> None:
        self._is_closing = True
        if not self._is_lost:
            self._is_lost = True
            self.has_ended = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    @property
    def state(self) -> str:
        """Return `open`, `ended` (the peer sees the end of the answers), or `cut`."""
        if self.is_cut:
            return "cut"
        return "ended" if self.has_ended else "open"


class Client:
    """A peer of one new connection. Everything it does reaches the protocol from the loop."""

    def __init__(self, server: HttpServer, *, is_reading: bool = True) -> None:
        self.connection = Connection(server)
        self.transport = MemoryTransport(self.connection, is_peer_reading=is_reading)
        self._loop = asyncio.get_running_loop()

    async def send(self, *reads: bytes, eof: bool = False) -> None:
        """Let the server read these, one after the other, and do what it can."""
        for read in filter(None, reads):
            self._loop.call_soon(self.transport.feed, read)
        if eof:
            self._loop.call_soon(self.transport.feed_eof)
        await settle()

    @property
    def received(self) -> bytes:
        """Return the answers, without their dates."""
        return _DATE.sub(b"", self.transport.received)


async def settle() -> None:
    """Let everything happen that waits for no timer and no client."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def run(scenario: Callable[[], Any]) -> Any:
    """Run an async scenario on a loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(scenario())


class App:
    """Answers by the path; keeps what it saw.

    `/echo` tells what came, `/wait` does so after a turn of the loop, `/hold` when `release` is
    called, `/stream`, `/sized` and `/short` answer in parts, `/raise`, `/late-raise`, `/silent` and
    `/inject` fail in their ways, `/unread` does not look at the body, `/watch` waits for the end.
    """

    is_guarded = False

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.scopes: list[dict[str, Any]] = []
        self.parts: list[bytes] = []
        self.ends: list[str] = []
        self.deferred = asyncio.Event()

    def release(self) -> None:
        """Let `/hold` answer."""
        self.deferred.set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        handler = getattr(self, "on_" + scope["path"].strip("/").replace("-", "_"), self.on_echo)
        try:
            await handler(scope, receive, send)
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("returned")

    async def body(self, receive: Any) -> bytes:
        body = b""
        while True:
            message = await receive()
            assert message["type"] == "http.request"
            self.parts.append(message["body"])
            body += message["body"]
            if not message["more_body"]:
                return body

    async def on_echo(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = await self.body(receive)
        self.requests.append((f"{scope['method']} {scope['path']}", body))
        text = f"{scope['method']} {scope['path']} {len(body)}".encode()
        await answer(send, text)

    async def on_wait(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await self.on_echo(scope, receive, send)

    async def on_hold(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.deferred.wait()
        await self.on_echo(scope, receive, send)

    async def on_stream(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async def on_sized(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})

    async def on_short(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"6")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def on_raise(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        raise ValueError("a secret of the application")

    async def on_late_raise(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("a secret of the application")

    async def on_silent(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.body(receive)

    async def on_inject(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"x", (b"x-name", b"a\r\nset-cookie: b"))

    async def on_empty(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def on_unread(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"unread")

    async def on_slow_reader(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.deferred.wait()
        await answer(send, str(len(await self.body(receive))).encode())

    async def on_watch(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.body(receive)
        self.ends.append((await receive())["type"])

    async def on_flood(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            self.parts.append(b"")
            await send({"type": "http.response.body", "body": b"x" * 16384, "more_body": True})
        await send({"type": "http.response.body"})

    async def on_timeout(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            await answer(send, b"timed out")


async def answer(send: Any, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(body))
    start = {"type": "http.response.start", "status": 200, "headers": [length, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def answers(*bodies: bytes, last: Sequence[bytes] = ()) -> bytes:
    """Return what the wire shows for these bodies; `last` are lines of the last head."""
    wire = b""
    for number, body in enumerate(bodies, 1):
        lines = b"".join(b"\r\n" + line for line in last) if number == len(bodies) else b""
        wire += b"HTTP/1.1 200 OK\r\ncontent-length: %d%b\r\n\r\n%b" % (len(body), lines, body)
    return wire


async def pass_seconds(server: HttpServer, seconds: float) -> None:
    """Let the server's clock go on."""
    for _ in range(round(seconds / TICK_SECONDS)):
        server.on_tick()
    await settle()
