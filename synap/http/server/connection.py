"""One client's connection: requests in order to the application, answers in order to the client.

`request_parser` turns bytes into requests and `exchange` frames an answer. This class puts them in
order (pipelining), bounds what waits on either side (flow control), times the client, and ends the
connection so that nothing is lost. `server` holds what connections share and calls `check`.

A request that can be answered without a wait is answered inside `data_received`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from synap.http.server import framing
from synap.http.server.deferred_answer import DeferredAnswer
from synap.http.server.eager_tasks import Starter
from synap.http.server.exchange import COMPLETE, JOINED_BODY_BYTES, STREAMING, Exchange
from synap.http.server.framing import ErrorResponse
from synap.http.server.head_cache import HeadCache
from synap.http.server.limits import HttpLimits, Ticks
from synap.http.server.request_parser import BETWEEN, IN_BODY, IN_HEAD, SLICE_BYTES, RequestParser

# Requests that may wait for the one before them; beyond it the socket is not read.
MAX_PIPELINED = 32

# A body of up to this is whole before the application starts; of a longer one it gets parts, and
# no more than about this waits for it.
BODY_BUFFER_BYTES = 64 * 1024


class FastPath(Protocol):
    """The application's short way; see `fast_path`."""

    @property
    def heads(self) -> HeadCache:
        """Return the heads that its connections know."""

    def take(self, data: bytes, client: Connection) -> bool:
        """Answer a read that is one whole request, or see to it; return False for any other."""


class Server(Protocol):
    """What a connection shares with the others of its process; `server` says what each is."""

    app: Any
    fast_path: FastPath | None
    head_cache: HeadCache
    state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    limits: HttpLimits
    ticks: Ticks
    tick: int
    date_line: bytes
    starter: Starter
    requests: int
    is_draining: bool

    def admit(self, connection: Connection) -> bool:
        """Count a new connection in; return False where there is no room for it."""

    def forget(self, connection: Connection) -> None:
        """Count a lost connection out."""


class Connection(asyncio.Protocol):
    """The protocol object of one accepted connection.

    Attributes:
        exchange: The request that the application works on.
        since: Tick of the last thing that the client is timed from.
        is_leaving: The connection closes behind the requests that are here.
        write_paused: The client reads too slowly; no further answer is begun.
    """

    transport: asyncio.Transport
    _reader: RequestParser

    def __init__(self, server: Server) -> None:
        self.server = server
        self.loop = server.loop
        self.exchange: Exchange | DeferredAnswer | None = None
        self.since = server.tick
        self.write_paused = False
        self._app = server.app
        self._fast_path = server.fast_path
        self._start = server.starter.start
        self._queue: deque[Exchange | ErrorResponse] = deque()
        self._unread = b""
        self._is_reading_paused = False
        self._is_deaf = False
        self._is_closed = False
        self._is_lingering = False
        self.is_leaving = server.is_draining
        self._drain_event: asyncio.Event | None = None
        self._unflushed_bytes = 0
        self._stalled_since: int | None = None
        self._slow_exchange: Exchange | None = None
        self._slow_since = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse at once where the process has no room."""
        self.transport = transport  # type: ignore[assignment]
        server = self.server
        self._reader = RequestParser(
            self,
            _base_scope(self.transport),
            server.state,
            server.limits.max_body_bytes,
            server.head_cache,
        )
        if not self.server.admit(self):
            self._refuse(framing.OVERLOADED)

    def data_received(self, data: bytes) -> None:
        """Parse, and answer what can be answered without a wait."""
        finished = self.exchange
        if finished is not None and finished.stage == COMPLETE and not self._queue:
            # The answer was quicker at the client than `advance` is here.
            self._leave(finished)
        if self._is_deaf:
            return
        if self._unread or self._is_reading_paused:
            self._unread += data
            self._feed_unread()
            return
        reader = self._reader
        if (
            self._fast_path is not None
            and self.exchange is None
            and reader.phase == BETWEEN
            and not (self._queue or self.write_paused or self.is_leaving)
            and self._fast_path.take(data, self)
        ):
            return
        if len(data) > SLICE_BYTES:
            self._unread = data
            self._feed_unread()
            return
        refusal = reader.feed(data)
        if reader.phase != BETWEEN or reader.is_over or refusal is not None:
            self._settle(refusal)

    def eof_received(self) -> bool:
        """Finish what was asked before the client's end; a half request is refused."""
        if self._is_lingering or self._is_closed:
            return False
        if self._reader.phase != BETWEEN and not self._is_deaf:
            self._refuse(framing.INCOMPLETE)
        self._is_deaf = self.is_leaving = True
        if self.exchange is not None:
            self.exchange.end_input()
        # TLS has no half-closed state: there the end of one side is the end of both.
        has_answers = self.exchange is not None or bool(self._queue) or self._is_lingering
        return has_answers and self.transport.can_write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the client is gone."""
        self._is_deaf = self._is_closed = True
        self.is_leaving = True
        self._unread = b""
        self._queue.clear()
        self.server.forget(self)
        if self.exchange is not None:
            self.exchange.lose_client()
        if self._drain_event is not None:
            self._drain_event.set()

    def pause_writing(self) -> None:
        """Hold answers back: the client reads too slowly."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Go on with what `pause_writing` held back."""
        self.write_paused = False
        self._stalled_since = None
        if self._drain_event is not None:
            self._drain_event.set()
        self.loop.call_soon(self.advance)

    # Input

    def _settle(self, refusal: ErrorResponse | None) -> None:
        """Deal with a slice that did not end between two requests."""
        if refusal is not None:
            self._refuse(refusal)
        elif self._reader.is_over:
            self._is_deaf = True
        elif self._reader.phase == IN_BODY:
            self._submit_unfinished()

    def _feed_unread(self) -> None:
        """Feed what is kept, slice by slice, until it is gone or enough waits."""
        data, position = self._unread, 0
        while position < len(data) and not (self._is_deaf or self._is_full()):
            end = position + self._reader.next_slice_bytes()
            self._settle(self._reader.feed(data[position:end]))
            position = end
        self._unread = b"" if self._is_deaf else data[position:]
        self._update_reading()

    def _is_full(self) -> bool:
        incoming = self._reader.incoming
        return (
            len(self._queue) >= MAX_PIPELINED
            or (self.write_paused and bool(self._queue))
            or (incoming is not None and incoming.buffered_bytes >= BODY_BUFFER_BYTES)
        )

    def _update_reading(self) -> None:
        """Read from the socket if, and only if, what comes has a place."""
        should_pause = not self._is_deaf and (bool(self._unread) or self._is_full())
        if should_pause == self._is_reading_paused or self._is_closed:
            return
        self._is_reading_paused = should_pause
        if should_pause:
            self.transport.pause_reading()
        else:
            self.stamp()
            self.transport.resume_reading()

    def _resume_input(self) -> None:
        if self._is_reading_paused and not self._is_closed:
            self._feed_unread()

    def body_taken(self) -> None:
        """Read on, in a turn of its own, where a full buffer had stopped it."""
        if self._is_reading_paused:
            self.loop.call_soon(self._resume_input)

    def stamp(self) -> None:
        """Note that the client made progress."""
        self.since = self.server.tick

    # Order

    def submit(self, exchange: Exchange) -> None:
        """Run a request, or let it wait for those before it.

        While leaving it waits for the end of this read too, so that it is known which is the last.
        """
        if self.exchange is None and not (self._queue or self.write_paused or self.is_leaving):
            self._run(exchange)
            return
        self._queue.append(exchange)
        if self._is_full():
            self._update_reading()
        if self.is_leaving:
            self.loop.call_soon(self.advance)

    def _submit_unfinished(self) -> None:
        """Start a request early whose body is long, or waits to be asked for."""
        exchange = self._reader.incoming
        if exchange is None:
            return
        if not exchange.is_submitted and (
            exchange.expects_continue or exchange.buffered_bytes >= BODY_BUFFER_BYTES
        ):
            exchange.is_submitted = True
            self.submit(exchange)
        if exchange.buffered_bytes >= BODY_BUFFER_BYTES:
            self._update_reading()

    def _run(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.server.requests += 1
        try:
            coroutine = self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            exchange.ended(error)
        else:
            exchange.task = self._start(coroutine, exchange.ended)
        if exchange.stage == COMPLETE:
            self._leave(exchange)

    def advance(self) -> None:
        """Go on behind a finished answer. Called by the loop, never inside a task."""
        finished = self.exchange
        if finished is not None and finished.stage == COMPLETE:
            self._leave(finished)
        while self._queue and self.exchange is None and not (self.write_paused or self._is_closed):
            following = self._queue.popleft()
            if isinstance(following, ErrorResponse):
                self._answer_refusal(following)
            else:
                self._run(following)
        self._resume_input()

    def _leave(self, exchange: Exchange | DeferredAnswer) -> None:
        """Take the connection back from a request that has its answer."""
        self.exchange = None
        self.since = self.server.tick
        if not exchange.keep_alive:
            self._finish(exchange)

    # The short way

    def answer(self, head: bytes, body: bytes) -> None:
        """Send a whole answer in the place of a request that has just come.

        Args:
            head: Status line and headers, each with its line end; without Date and Connection.
            body: As long as the head says.
        """
        server = self.server
        server.requests += 1
        self.since = server.tick
        self._reader.has_begun = True
        self.write_answer(head, server.date_line, body)

    def defer(self) -> DeferredAnswer:
        """Keep the place of an answer to a request that has just come."""
        self.server.requests += 1
        self.since = self.server.tick
        self._reader.has_begun = True
        self.exchange = deferred = DeferredAnswer(self)
        return deferred

    def write_answer(self, head: bytes, last_line: bytes, body: bytes) -> None:
        """Write a head, with the worker's own last line, and its body."""
        if len(body) <= JOINED_BODY_BYTES:
            self.transport.write(b"".join((head, last_line, b"\r\n\r\n", body)))
        else:
            self.transport.writelines((head, last_line, b"\r\n\r\n", body))

    def release(self, deferred: DeferredAnswer) -> None:
        """Go on behind the answer in a held place."""
        self._leave(deferred)
        if self._queue or self._is_reading_paused:
            self.loop.call_soon(self.advance)

    # What a cycle writes with

    def expects_more(self) -> bool:
        """Return whether a request that follows is here already, in whole or in part."""
        return bool(self._queue or self._unread) or self._reader.phase != BETWEEN

    async def drained(self) -> None:
        """Wait until the client has read enough, or is gone."""
        if self._drain_event is None:
            self._drain_event = asyncio.Event()
        while self.write_paused and not self._is_closed:
            self._drain_event.clear()
            await self._drain_event.wait()

    # Ends

    def _refuse(self, refusal: ErrorResponse) -> None:
        """Read no more; answer in the place of the request that is being read."""
        self._is_deaf = True
        self._unread = b""
        incoming, self._reader.incoming = self._reader.incoming, None
        self._reader.phase = BETWEEN
        if incoming is not None and incoming is self.exchange:
            incoming.cut_body()
            if incoming.stage < STREAMING:
                incoming.refuse(refusal)
            return
        if incoming is not None and incoming.is_submitted:
            self._queue.pop()
        if self.exchange is None and not self._queue:
            self._answer_refusal(refusal)
        else:
            self._queue.append(refusal)

    def _answer_refusal(self, refusal: ErrorResponse) -> None:
        if not self._is_closed:
            self.transport.write(refusal.encode(self.server.date_line))
            self._linger()

    def _finish(self, exchange: Exchange | DeferredAnswer) -> None:
        """Close behind the last answer; where the client may still be sending, not at once."""
        self._queue.clear()
        if exchange.has_more_body or exchange.is_disconnected or self.is_leaving:
            self._linger()
        else:
            self.close()

    def _linger(self) -> None:
        """End the answers, and read the rest of the input away for a while.

        Closing a socket with unread input resets it, and the reset may overtake the answer.
        """
        self._is_deaf = self._is_lingering = True
        self._unread = b""
        self._update_reading()
        self.stamp()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        """Close when everything written has left."""
        self._is_deaf = self._is_closed = True
        self.is_leaving = True
        self.transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._is_deaf = self._is_closed = True
        self.is_leaving = True
        self.transport.abort()

    # Time

    def awaits_client(self) -> bool:
        """Return whether the application has nothing to do here."""
        return self.exchange is None and not (self._queue or self._is_closed)

    def start_leaving(self) -> None:
        """Close behind the current request, or when the client has stayed silent."""
        self.is_leaving = True

    def check(self) -> None:
        """Hold the client to its time. Called once in each tick."""
        if self._is_stalled():
            self.abort()
            return
        server, ticks = self.server, self.server.ticks
        age = server.tick - self.since
        phase = self._reader.phase
        if self._is_lingering:
            if age > ticks.linger:
                self.abort()
        elif phase == IN_BODY and not self._is_reading_paused:
            if age > ticks.body or self._body_age() > ticks.request:
                self._refuse(framing.BODY_TIMEOUT)
        elif not self.awaits_client():
            return
        elif phase == IN_HEAD:
            if age > ticks.head:
                self._refuse(framing.HEAD_TIMEOUT)
        elif age > self._allowed_silence():
            self.close()

    def _body_age(self) -> int:
        """Return for how many ticks the body that is being read has been coming."""
        incoming = self._reader.incoming
        if incoming is not self._slow_exchange:
            self._slow_exchange, self._slow_since = incoming, self.server.tick
        return self.server.tick - self._slow_since

    def _allowed_silence(self) -> int:
        """Return for how many ticks the client may ask for nothing."""
        ticks = self.server.ticks
        if not self._reader.has_begun:
            return min(ticks.fresh_grace, ticks.head) if self.is_leaving else ticks.head
        return min(ticks.idle_grace, ticks.idle) if self.is_leaving else ticks.idle

    def _is_stalled(self) -> bool:
        """Return whether the client has read nothing for too long of what waits for it."""
        unflushed = self.transport.get_write_buffer_size()
        if not unflushed:
            self._stalled_since = None
        elif self._stalled_since is None or unflushed < self._unflushed_bytes:
            self._stalled_since = self.server.tick
        elif self.server.tick - self._stalled_since > self.server.ticks.write:
            return True
        self._unflushed_bytes = unflushed
        return False


def _base_scope(transport: asyncio.Transport) -> dict[str, Any]:
    """Return what is the same in the scope of every request of a connection."""
    client = transport.get_extra_info("peername")
    own = transport.get_extra_info("sockname")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        "client": tuple(client[:2]) if isinstance(client, tuple) else None,
        "server": tuple(own[:2]) if isinstance(own, tuple) else (own, None),
        "root_path": "",
        "extensions": {framing.WHOLE_ANSWER: {}},
    }
