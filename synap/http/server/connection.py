"""One client's connection: requests in order to the application, answers in order to the client.

`request_parser` turns bytes into requests and `exchange` frames an answer. This class puts them in
order (pipelining) and ends the connection so that nothing is lost; how far that is tells
`connection_state`. What waits on either side is bounded by `flow_control`, the client is held to
its time by `client_timeouts`. `server` holds what connections share and calls `check`.

A request that can be answered without a wait is answered inside `data_received`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from synap.addresses import plain_address
from synap.http.server import framing
from synap.http.server.client_timeouts import ClientTimeouts
from synap.http.server.connection_state import (
    CLOSED,
    DEAF,
    DEAF_LEAVING,
    LEAVING,
    LINGERING,
    OPEN,
    State,
)
from synap.http.server.deferred_answer import DeferredAnswer
from synap.http.server.eager_tasks import Starter
from synap.http.server.exchange import COMPLETE, JOINED_BODY_BYTES, STREAMING, Exchange, Feed
from synap.http.server.flow_control import BODY_BUFFER_BYTES, FlowControl
from synap.http.server.framing import ErrorResponse
from synap.http.server.head_cache import HeadCache
from synap.http.server.held_memory import SMALL_BYTES, HeldMemory
from synap.http.server.limits import HttpLimits, Ticks
from synap.http.server.proxy_protocol import Client
from synap.http.server.request_parser import BETWEEN, IN_BODY, IN_HEAD, SLICE_BYTES, RequestParser

# What may be held for a connection that has requests waiting, before it is read on.
MOST_QUEUED_BYTES = 128 * 1024

# Requests of one connection that are begun in one turn of the loop: others have theirs between.
MAX_BEGUN_IN_TURN = 2


class FastPath(Protocol):
    """The application's short way; see `fast_path`."""

    def take(self, data: bytes, client: Connection) -> bool:
        """Answer a read that is one whole request, or see to it; return False for any other."""

    def pause(self, is_paused: bool) -> None:
        """Take nothing, or take again."""


class Server(Protocol):
    """What a connection shares with the others of its process; `server` says what each is."""

    app: Any
    is_guarded: bool
    fast_path: FastPath | None
    head_cache: HeadCache
    state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    limits: HttpLimits
    ticks: Ticks
    tick: int
    date_line: bytes
    refusal_headers: Callable[[framing.Headers], framing.Headers]
    starter: Starter
    requests: int
    is_draining: bool
    probes_app: Any
    memory: HeldMemory

    def next_number(self) -> int:
        """Return a new connection's number; later ones have higher ones."""

    def admit(self, connection: Connection, address: str) -> bool:
        """Count a new connection in; return False where it may only ask what probes do."""

    def exempt(self, connection: Connection) -> None:
        """Count and time a connection no more, which stays."""

    def time(self, connection: Connection) -> None:
        """Hold its client to its time again."""

    def forget(self, connection: Connection) -> None:
        """Count a lost connection out."""


class Connection(asyncio.Protocol):
    """The protocol object of one accepted connection.

    Attributes:
        peer: Address of the other end; empty where it has none.
        address: The same in the one form that addresses are compared in.
        held_bytes: What is held for the client, as far as that counts.
        number: Tells which of two came later.
        state: How far it is on its way to its end.
        exchange: The request that the application works on.
        flow: Which side waits for the other.
        timeouts: What the client is timed by.
    """

    # From `connection_made` on.
    transport: asyncio.Transport
    flow: FlowControl
    peer: str
    address: str
    _reader: RequestParser

    def __init__(self, server: Server, client: Client | None = None) -> None:
        """
        Args:
            client: Whose connection it is, where a balancer has said so.
        """
        self._told_client = client
        # What it shares with the others of its process.
        self.server = server
        self.loop = server.loop
        self._app = server.app
        self._is_guarded = server.is_guarded
        self._fast_path = server.fast_path
        self._start = server.starter.start
        self.number = server.next_number()

        # Where it stands. A state is never taken back, and only the transitions below set it. In
        # LINGERING no request is here; those that are here in CLOSED are not begun any more.
        self.state: State = LEAVING if server.is_draining else OPEN
        self.timeouts = ClientTimeouts(server)
        self._is_evicted = False
        self._memory = server.memory
        self.held_bytes = 0
        self._holds_no_more = False
        # Of long answers that the client has not read to their ends.
        self._unread_answers_bytes = self._last_answer_bytes = 0

        # What comes in: bytes that no request was read from yet. Empty where `state.is_deaf`;
        # outside of `_feed_unread` there are none unless the socket is not read.
        self._unread = b""

        # Order: `exchange` first, then the queue. Nothing waits where nothing runs, but for a
        # turn of the loop, or for a client that reads too slowly. A refusal is the last of all.
        self._begun_in_turn = 0
        self.exchange: Exchange | DeferredAnswer | None = None
        # What the answer comes from that has no end of its own; it is this connection's last one.
        self._feed: Feed | None = None
        self._queue: deque[Exchange | bytes] = deque()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; where the process has no room, with what load balancers ask for alone."""
        self.transport = transport  # type: ignore[assignment]
        self.flow = FlowControl(self.transport)
        server = self.server
        client = self._told_client or transport.get_extra_info("peername")
        self._reader = RequestParser(
            self,
            _base_scope(self.transport, client),
            server.state,
            server.limits.max_body_bytes,
            server.head_cache,
        )
        self.peer = client[0] if isinstance(client, tuple) else ""
        self.address = plain_address(self.peer) if self.peer else ""
        if not server.admit(self, self.address):
            self._app, self._fast_path = server.probes_app, None

    def data_received(self, data: bytes) -> None:
        """Parse, and answer what can be answered without a wait."""
        finished = self.exchange
        if finished is not None and finished.stage == COMPLETE and not self._queue:
            # The answer was quicker at the client than `advance` is here.
            self._leave(finished)
        reader, flow = self._reader, self.flow
        if (
            self.exchange is None
            and self._fast_path is not None
            and reader.phase == BETWEEN
            and self.state is OPEN
            and not (self._queue or flow.is_reading_paused or flow.is_writing_paused)
            and self._fast_path.take(data, self)
        ) or self.state.is_deaf:
            return
        if flow.is_reading_paused and reader.held is None:
            self._unread += data
            self._feed_unread()
            return
        if reader.held is not None:
            whole = reader.take_held(data)
            if whole is not None:
                self.data_received(whole)
            return
        self._begun_in_turn = 0
        if len(data) > SLICE_BYTES:
            self._unread = data
            self._feed_unread()
            return
        refusal = reader.feed(data)
        if reader.phase != BETWEEN or reader.is_over or refusal is not None:
            self._settle(refusal, is_end_of_read=True)
            if reader.phase == IN_BODY:
                self._update_reading()

    def eof_received(self) -> bool:
        """Finish what was asked before the client's end; a half request is refused.

        A feed has no end of its own: it ends with its client's.
        """
        if self.state is LINGERING or self.state is CLOSED:
            return False
        if self._reader.phase != BETWEEN and not self.state.is_deaf:
            self._refuse(framing.INCOMPLETE)
        self._become_deaf()
        self.start_leaving()
        if self.exchange is not None:
            self.exchange.end_input()
        # TLS has no half-closed state: there the end of one side is the end of both.
        has_answers = self.exchange is not None or bool(self._queue) or self.state is LINGERING
        return has_answers and self._feed is None and self.transport.can_write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that the client is gone."""
        self._become_closed()
        self._queue.clear()
        self._hold_no_more()
        self.server.forget(self)
        if self.exchange is not None:
            self.exchange.lose_client()
        self.flow.resume_writing()

    def pause_writing(self) -> None:
        """Hold answers back: the client reads too slowly."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """Go on with what `pause_writing` held back."""
        self.timeouts.forgive_stall()
        self.flow.resume_writing()
        if self._feed is not None:
            self._feed.resume()
        # Nearly all has left: of the last one the rest keeps the whole.
        self._unread_answers_bytes = min(self._unread_answers_bytes, self._last_answer_bytes)
        self.note_held()
        self.loop.call_soon(self.advance)

    # Input

    def _settle(self, refusal: ErrorResponse | None, *, is_end_of_read: bool) -> None:
        """Deal with a slice that did not end between two requests."""
        if refusal is not None:
            self._refuse(refusal)
        elif self._reader.is_over:
            self._become_deaf()
        elif self._reader.phase == IN_BODY:
            self._submit_unfinished(is_end_of_read)

    def _feed_unread(self) -> None:
        """Feed what is kept, slice by slice, until it is gone or enough waits."""
        data, position = self._unread, 0
        while position < len(data) and not (self.state.is_deaf or self._is_full()):
            end = position + self._reader.next_slice_bytes()
            refusal = self._reader.feed(data[position:end])
            position = end
            self._settle(refusal, is_end_of_read=position >= len(data))
        self._unread = b"" if self.state.is_deaf else data[position:]
        self.note_held()
        self._update_reading()

    def _is_full(self) -> bool:
        incoming = self._reader.incoming
        buffered_bytes, is_unwanted = 0, False
        if incoming is not None:
            buffered_bytes = incoming.buffered_bytes
            is_unwanted = incoming.is_submitted and not incoming.is_body_wanted
        is_full = self.flow.is_full(len(self._queue), buffered_bytes)
        has_much = bool(self._queue) and self.held_bytes > MOST_QUEUED_BYTES
        return is_full or is_unwanted or has_much or self._memory.is_tight

    def _update_reading(self) -> None:
        """Read from the socket if, and only if, what comes has a place."""
        if self.state is CLOSED:
            return
        if not self.state.is_deaf and (self._unread or self._is_full()):
            self.flow.pause_reading()
        elif self.flow.is_reading_paused:
            self.stamp()
            self.flow.resume_reading()

    def _resume_input(self) -> None:
        if self.flow.is_reading_paused and self.state is not CLOSED:
            self._feed_unread()

    def body_wanted(self) -> None:
        """Read on, in a turn of its own, where a body that had no place had stopped it."""
        if self.flow.is_reading_paused:
            self.loop.call_soon(self._resume_input)

    def stamp(self) -> None:
        """Note that the client made progress."""
        self.timeouts.since = self.server.tick

    # Order

    def submit(self, exchange: Exchange) -> None:
        """Run a request, or let it wait for those before it.

        While leaving it waits for the end of this read too, so that it is known which is the last.
        """
        is_leaving = self.state.is_leaving
        has_had_turn = self._begun_in_turn >= MAX_BEGUN_IN_TURN or self._memory.is_tight
        if self.exchange is None and not (
            self._queue or self.flow.is_writing_paused or is_leaving or has_had_turn
        ):
            self._run(exchange)
            return
        self._queue.append(exchange)
        if self._is_full():
            self._update_reading()
        if is_leaving or has_had_turn:
            self.loop.call_soon(self.advance)

    def _submit_unfinished(self, is_end_of_read: bool) -> None:
        """Start a request early whose body is long, or waits to be asked for.

        Where there is a guard, whatever has not come with its head waits for that.
        """
        exchange = self._reader.incoming
        if exchange is None:
            return
        waits = is_end_of_read and (self._is_guarded or exchange.expects_continue)
        if not exchange.is_submitted and (waits or exchange.buffered_bytes >= BODY_BUFFER_BYTES):
            exchange.is_submitted = True
            self.submit(exchange)
        if exchange.buffered_bytes >= BODY_BUFFER_BYTES:
            self.note_held()
            self._update_reading()

    def _run(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._begun_in_turn += 1
        server = self.server
        server.requests += 1
        self.timeouts.since = server.tick
        try:
            coroutine = self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            exchange.ended(error)
        else:
            exchange.task = self._start(coroutine, exchange.ended)
        if exchange.stage == COMPLETE:
            self._leave(exchange)

    def advance(self) -> None:
        """Go on after a finished answer. Called by the loop, never inside a task."""
        finished = self.exchange
        if finished is not None and finished.stage == COMPLETE:
            self._leave(finished)
        self._begun_in_turn = 0
        while (
            self._queue
            and self.exchange is None
            and self._begun_in_turn < MAX_BEGUN_IN_TURN
            and not self._memory.is_tight
            and not self.flow.is_writing_paused
            and self.state is not CLOSED
        ):
            following = self._queue.popleft()
            if isinstance(following, bytes):
                self._answer_refusal(following)
            else:
                self._run(following)
        can_go_on = not (self.flow.is_writing_paused or self._memory.is_tight)
        if self._queue and self.exchange is None and can_go_on:
            self.loop.call_soon(self.advance)
        self._resume_input()

    def _leave(self, exchange: Exchange | DeferredAnswer) -> None:
        """Take the connection back from a request that has its answer."""
        self.exchange = None
        self.timeouts.since = self.server.tick
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
        self.timeouts.since = server.tick
        self._reader.has_begun = True
        if len(body) <= JOINED_BODY_BYTES:
            self.transport.write(b"".join((head, server.date_line, b"\r\n\r\n", body)))
        else:
            self._write_long(head, server.date_line, body)

    def defer(self) -> DeferredAnswer:
        """Keep the place of an answer to a request that has just come."""
        self.server.requests += 1
        self.timeouts.since = self.server.tick
        self._reader.has_begun = True
        self.exchange = deferred = DeferredAnswer(self)
        return deferred

    def hold(self, data: bytes, missing_bytes: int) -> None:
        """Keep a request that has just come until the rest of its body is there."""
        self._reader.hold(data, missing_bytes)
        self.note_held()

    def _write_long(self, head: bytes, last_line: bytes, body: bytes) -> None:
        self.transport.writelines((head, last_line, b"\r\n\r\n", body))
        self.note_answer(len(body))

    def end_deferred(
        self, deferred: DeferredAnswer, head: bytes, last_line: bytes, body: bytes
    ) -> None:
        """Write the answer in a held place, and go on after it."""
        if len(body) <= JOINED_BODY_BYTES:
            self.transport.write(b"".join((head, last_line, b"\r\n\r\n", body)))
        else:
            self._write_long(head, last_line, body)
        # As `_leave` has it, which would be one more call for each write.
        self.exchange = None
        self.timeouts.since = self.server.tick
        if not deferred.keep_alive:
            self._finish(deferred)
        if self._queue or self.flow.is_reading_paused:
            self.loop.call_soon(self.advance)

    # What a cycle writes with

    def begin_feed(self, feed: Feed) -> None:
        """Let others have the place; what follows is bounded by the application."""
        self._feed = feed
        self.server.exempt(self)

    def end_feed(self) -> None:
        """Go on to the connection's end, in a turn of its own."""
        self._feed = None
        self.server.time(self)
        self.loop.call_soon(self.advance)

    def expects_more(self) -> bool:
        """Return whether a request that follows is here already, in whole or in part."""
        return bool(self._queue or self._unread) or self._reader.phase != BETWEEN

    # Ends

    def _refuse(self, refusal: ErrorResponse) -> None:
        """Read no more; answer in the place of the request that is being read."""
        self._become_deaf()
        seen = self._reader.seen_headers()
        incoming, self._reader.incoming = self._reader.incoming, None
        self._reader.phase, self._reader.held = BETWEEN, None
        if incoming is not None and incoming is self.exchange:
            incoming.cut_body()
            if incoming.stage < STREAMING:
                incoming.refuse(refusal)
            return
        if incoming is not None and incoming.is_submitted:
            self._queue.pop()
        answer = refusal.encode(self.server.date_line, self.server.refusal_headers(seen))
        if self.exchange is None and not self._queue:
            self._answer_refusal(answer)
        else:
            self._queue.append(answer)

    def _answer_refusal(self, answer: bytes) -> None:
        if self.state is not CLOSED:
            self.transport.write(answer)
            self._linger()

    def _finish(self, exchange: Exchange | DeferredAnswer) -> None:
        """Close after the last answer; where the client may still be sending, not at once."""
        self._queue.clear()
        if self.state is CLOSED:
            return
        if exchange.has_more_body or exchange.is_disconnected or self.state.is_leaving:
            self._linger()
        else:
            self.close()

    def _linger(self) -> None:
        """End the answers, and read the rest of the input away for a while.

        Closing a socket with unread input resets it, and the reset may overtake the answer.
        """
        self._become_lingering()
        self._update_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        """Close when everything written has left."""
        self._become_closed()
        self.transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._become_closed()
        self.transport.abort()

    # Transitions: each forgets what its state must not keep.

    def start_leaving(self) -> None:
        """Close after the current request, or when the client has stayed silent."""
        if self.state is OPEN:
            self.state = LEAVING
        elif self.state is DEAF:
            self.state = DEAF_LEAVING

    def _become_deaf(self) -> None:
        """Read no further request."""
        self._unread = b""
        if self.state is OPEN:
            self.state = DEAF
        elif self.state is LEAVING:
            self.state = DEAF_LEAVING

    def _become_lingering(self) -> None:
        self._unread = b""
        self.state = LINGERING
        self.timeouts.begin_lingering()

    def _become_closed(self) -> None:
        self._unread = b""
        self.state = CLOSED

    # What it holds, and its place

    def has_input(self) -> bool:
        """Return whether something waits here to be begun or read."""
        return bool(self._queue) or self.flow.is_reading_paused

    def note_answer(self, body_bytes: int) -> None:
        """Note that a long answer was written: it is held as a whole until all of it was read."""
        self._last_answer_bytes = body_bytes
        self._unread_answers_bytes += body_bytes
        self.note_held()

    def note_held(self) -> None:
        """Tell what is held for the client; cut it off where all have far too much."""
        if self._holds_no_more or self._is_evicted:
            return
        unread_bytes = self.transport.get_write_buffer_size()
        if not unread_bytes:
            self._unread_answers_bytes = 0
        held = len(self._unread) + max(unread_bytes, self._unread_answers_bytes)
        incoming, exchange = self._reader.incoming, self.exchange
        if incoming is not None:
            held += incoming.fed_bytes
        if self._reader.held is not None:
            held += self._reader.held.kept_bytes
        if isinstance(exchange, Exchange) and exchange is not incoming:
            held += exchange.fed_bytes
        for each in self._queue:
            if isinstance(each, Exchange) and each is not incoming:
                held += each.fed_bytes + _head_bytes(each)
        if held < SMALL_BYTES:
            held = 0
        grown, self.held_bytes = held - self.held_bytes, held
        if grown:
            self._memory.change(grown)
            if grown > 0 and self._memory.is_over and self.state is not CLOSED:
                self.abort()

    def _hold_no_more(self) -> None:
        self._holds_no_more = True
        self._memory.change(-self.held_bytes)
        self.held_bytes = 0

    def holds_since(self) -> int | None:
        """Return since which tick something is held that the client could do without."""
        if self._is_evicted:
            return None
        if self.transport.get_write_buffer_size():
            return self.timeouts.unread_since()
        owes = self._reader.phase == IN_BODY or bool(self._queue) or bool(self._unread)
        return self.timeouts.since if owes else None

    def waits_since(self) -> int | None:
        """Return since which tick the place is kept for nothing; None where it is not.

        The client is silent, owes the rest of a body, or does not read what is there for it.
        """
        exchange, reader = self.exchange, self._reader
        if exchange is None and not self._queue:
            return self.timeouts.since
        if self.flow.is_writing_paused:
            return self.timeouts.unread_since()
        owes_body = reader.phase == IN_BODY and not self.flow.is_reading_paused
        is_first = exchange is None or exchange is reader.incoming
        return self.timeouts.since if owes_body and is_first else None

    def works_since(self) -> int | None:
        """Return since which tick a request is under way; None where that is not long.

        A client that sent more of them at once need not have all answered first.
        """
        if self._queue or self._unread:
            return self.timeouts.since
        return self.timeouts.works_since()

    def evict(self) -> None:
        """Give the place to another client, with a word where one can be said."""
        self._is_evicted = True
        exchange = self.exchange
        if self.transport.get_write_buffer_size():
            self.abort()
        else:
            if exchange is not None and exchange.stage < STREAMING:
                is_owed = exchange.has_more_body
                refusal = framing.OVERLOADED if is_owed else framing.EVICTED
                headers = exchange.scope["headers"] if isinstance(exchange, Exchange) else []
                more = self.server.refusal_headers(headers)
                self.transport.write(refusal.encode(self.server.date_line, more))
            self.close()
        if exchange is not None:
            exchange.lose_client()
        if isinstance(exchange, Exchange) and exchange.task is not None:
            exchange.task.cancel()

    # Time

    def awaits_client(self) -> bool:
        """Return whether the application has nothing to do here."""
        return self.exchange is None and not self._queue and self.state is not CLOSED

    def check(self) -> None:
        """Hold the client to its time. Called once in each tick."""
        timeouts, reader = self.timeouts, self._reader
        self.note_held()
        unread_bytes = self.transport.get_write_buffer_size()
        is_over = self._is_evicted or timeouts.has_lingered()
        if is_over or timeouts.is_stalled(unread_bytes):
            self.abort()
        elif self.state is LINGERING or self.state is CLOSED:
            return
        elif reader.phase == IN_BODY and not self.flow.is_reading_paused:
            if timeouts.is_body_late(reader.incoming or reader.held):
                self._refuse(framing.BODY_TIMEOUT)
        elif not self.awaits_client():
            return
        elif reader.phase == IN_HEAD:
            if timeouts.is_head_late():
                self._refuse(framing.HEAD_TIMEOUT)
        elif timeouts.is_silent(reader.has_begun, self.state.is_leaving):
            self.close()


def _head_bytes(exchange: Exchange) -> int:
    """Return about what a request's head takes up."""
    fields = exchange.scope["headers"]
    return 1024 + sum(len(name) + len(value) + 64 for name, value in fields)


def _base_scope(transport: asyncio.Transport, client: object) -> dict[str, Any]:
    """Return what is the same in the scope of every request of a connection."""
    own = transport.get_extra_info("sockname")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        "client": tuple(client[:2]) if isinstance(client, tuple) else None,
        "server": tuple(own[:2]) if isinstance(own, tuple) else (own, None),
        "root_path": "",
        "extensions": {framing.WHOLE_ANSWER: {}, framing.FEED: {}},
    }
