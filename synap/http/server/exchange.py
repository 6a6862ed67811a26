"""One request and its answer: the `receive` and `send` that an ASGI application is given.

A cycle buffers the body as the connection parses it, and frames the answer. Where the whole answer
comes in one message, head and body leave in one write. What surrounds a cycle (order, timeouts,
limits, closing) is the connection's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

from synap.http.server import framing
from synap.http.server.connection_state import State
from synap.http.server.flow_control import FlowControl
from synap.http.server.framing import ErrorResponse

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = dict[str, Any]

# Stages of an answer, in order.
UNANSWERED, HEAD_HELD, STREAMING, COMPLETE = range(4)

# Bodies up to this are copied after their head into one buffer; longer ones go beside it.
JOINED_BODY_BYTES = 16 * 1024
# Of all feeds of the process: what one is told, others are in the same turn.
_chunks = framing.Chunks()


class ClientDisconnected(ConnectionError):
    """The client went away.

    Raised by `send` where nobody reads the answer, and by `receive` where the rest of the body will
    never come: an application that took a cut body for a whole one would store half a value.
    """


class Common(Protocol):
    """What all answers of a process share.

    Attributes:
        date_line: The Date header's line, made once a second.
        refusal_headers: Returns what the application says with the server's own answers, by the
            headers of their requests as far as they have come.
    """

    date_line: bytes
    refusal_headers: Callable[[framing.Headers], framing.Headers]


class Feed(Protocol):
    """A body that comes as things happen; it writes by `Exchange.write`."""

    def begin(self, output: Exchange, /) -> None:
        """Write from now on."""

    def resume(self) -> None:
        """Write on: the client has read enough."""

    def lost(self) -> None:
        """Write nothing more: the client is gone."""


class Output(Protocol):
    """What a cycle needs of the connection that it answers on."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    state: State

    @property
    def server(self) -> Common:
        """Return what all share."""

    def expects_more(self) -> bool:
        """Return whether a request that follows is here already, in whole or in part."""

    def note_answer(self, body_bytes: int) -> None:
        """Learn that a long answer was written."""

    def begin_feed(self, feed: Feed) -> None:
        """Learn that the answer has no end of its own, and who is to be told of the client."""

    def end_feed(self) -> None:
        """Learn that it has come to one all the same."""

    def body_wanted(self) -> None:
        """Learn that the application has a place for more of the body."""

    def advance(self) -> None:
        """Go on with the next request."""


class Exchange:
    """The state of one request and its answer.

    Attributes:
        keep_alive: The connection stays open after the answer; settled when its head is written.
        stage: How far the answer is.
        has_more_body: The end of the request's body has not come.
        expects_continue: The client waits for `100 Continue` before it sends the body.
        is_plain: HTTP/1.1, kept alive, and not HEAD: most answers to such need no closer look.
        is_submitted: Handed to the connection before its body was whole.
        is_body_wanted: The application has asked for the body; nothing more of it is read before.
        buffered_bytes: Of the body, not yet taken by the application.
        fed_bytes: Of the body, as far as it has come.
        task: Goes on with the application where it waited.
    """

    __slots__ = (
        "_chunks",
        "_feed",
        "_headers",
        "_is_body_cut",
        "_is_body_taken",
        "_is_chunked",
        "_is_input_over",
        "_news",
        "_output",
        "_status",
        "_unsent_bytes",
        "buffered_bytes",
        "expects_continue",
        "fed_bytes",
        "has_more_body",
        "is_body_wanted",
        "is_disconnected",
        "is_plain",
        "is_submitted",
        "keep_alive",
        "scope",
        "stage",
        "task",
    )

    def __init__(self, output: Output, scope: Scope, keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.stage = UNANSWERED
        self.task: asyncio.Task[None] | None = None
        self.buffered_bytes = self.fed_bytes = 0
        self.has_more_body = False
        self.expects_continue = False
        self.is_plain = False
        self.is_submitted = False
        self.is_body_wanted = False
        self.is_disconnected = False
        self._output = output
        self._chunks: list[bytes] | None = None
        self._feed: Feed | None = None
        self._is_body_cut = False
        self._is_body_taken = False
        self._is_input_over = False
        self._news: asyncio.Event | None = None

    # The request's body, as the connection feeds it.

    def feed(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._chunks is None:
            self._chunks = [body]
        else:
            self._chunks.append(body)
        self.buffered_bytes += len(body)
        self.fed_bytes += len(body)
        self._tell()

    def end_body(self) -> None:
        """Learn that the body is whole."""
        self.has_more_body = False
        self._tell()

    def cut_body(self) -> None:
        """Learn that the rest of the body will never come."""
        self._is_body_cut = True
        self.keep_alive = False
        self._tell()

    def lose_client(self) -> None:
        """Learn that the connection is gone."""
        self.is_disconnected = True
        self._is_body_cut = self.has_more_body
        self._tell()
        if self._feed is not None:
            self._feed.lost()

    def end_input(self) -> None:
        """Learn that the client sends no more, though it may still read."""
        self._is_input_over = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    # The two callables of ASGI.

    async def receive(self) -> Message:
        """Return the next part of the body; after the last one, wait for the end of the exchange.

        Raises:
            ClientDisconnected: The body will never be whole.
        """
        self.is_body_wanted = True
        while not self._is_body_taken:
            if self._is_body_cut:
                raise ClientDisconnected("the request's body was cut off")
            if self._chunks is not None or not self.has_more_body:
                self._is_body_taken = not self.has_more_body
                body = b"" if self._chunks is None else self._take_chunks()
                return {"type": "http.request", "body": body, "more_body": self.has_more_body}
            self._send_continue()
            self._output.body_wanted()
            await self._wait_for_news()
        while not (self.is_disconnected or self._is_input_over or self.stage == COMPLETE):
            await self._wait_for_news()
        return {"type": "http.disconnect"}

    def _take_chunks(self) -> bytes:
        chunks, self._chunks = self._chunks or [], None
        self.buffered_bytes = 0
        self._output.body_wanted()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _send_continue(self) -> None:
        if self.expects_continue and self.stage < STREAMING:
            self.expects_continue = False
            self._output.transport.write(framing.CONTINUE)

    async def _wait_for_news(self) -> None:
        if self._news is None:
            self._news = asyncio.Event()
        self._news.clear()
        await self._news.wait()

    async def send(self, message: Message) -> None:
        """Take the answer's start, a part of its body, or all of it at once.

        The head waits for the first part of the body, so that both leave in one write.

        Raises:
            ClientDisconnected: The client is gone.
            RuntimeError: The message has no place here, or the answer can't be framed.
        """
        if self.is_disconnected:
            raise ClientDisconnected("the client closed the connection")
        kind = message["type"]
        stage = self.stage
        if kind == framing.WHOLE_ANSWER and stage == UNANSWERED:
            self._status = message["status"]
            self._headers = message["headers"]
            self._write_whole(message["body"])
        elif kind == "http.response.start" and stage == UNANSWERED:
            self._status = message["status"]
            self._headers = message.get("headers", ())
            self.stage = HEAD_HELD
        elif kind == framing.FEED and stage == UNANSWERED:
            self._status = message["status"]
            self._headers = message["headers"]
            self._begin_feed(message["feed"])
        elif kind == "http.response.body" and stage == HEAD_HELD and not message.get("more_body"):
            self._write_whole(message.get("body", b""))
        elif kind == "http.response.body" and stage in (HEAD_HELD, STREAMING):
            self._write_part(message.get("body", b""), bool(message.get("more_body")))
            if self._output.flow.is_writing_paused:
                await self._output.flow.drained()
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r} at this stage of the answer")

    # A feed, and what it writes with.

    def _begin_feed(self, feed: Feed) -> None:
        self.keep_alive = False
        head = self._streaming_head()
        self.stage = STREAMING
        self._output.transport.write(head)
        self._feed = feed
        # Ten thousand of these wait: nothing is kept that nobody looks at any more.
        self.scope = {name: self.scope[name] for name in ("method", "http_version")}
        self._headers = ()
        self._output.begin_feed(feed)
        feed.begin(self)

    def write(self, part: bytes) -> bool:
        """Write a part of a feed; return whether the client reads fast enough for more."""
        if self.is_disconnected:
            return False
        self._output.transport.write(_chunks.of(part) if self._is_chunked else part)
        return not self._output.flow.is_writing_paused

    def end(self) -> None:
        """End the answer of a feed."""
        if self.is_disconnected or self.stage == COMPLETE:
            return
        if self._is_chunked:
            self._output.transport.write(framing.LAST_CHUNK)
        self._complete()
        self._output.end_feed()

    def abort(self) -> None:
        """Cut the client of a feed off."""
        self._output.transport.abort()

    # The answer.

    def _is_bodiless(self) -> bool:
        return self.scope["method"] == "HEAD" or self._status in framing.BODILESS_STATUSES

    def _write_whole(self, body: bytes) -> None:
        output = self._output
        if self.is_plain and not (self.has_more_body or output.state.is_leaving):
            date_line = output.server.date_line
            answer = framing.plain_answer(self._status, self._headers, body, date_line)
            if answer is not None:
                output.transport.write(answer)
                self.stage = COMPLETE
                if len(body) > JOINED_BODY_BYTES:
                    output.note_answer(len(body))
                if self.task is not None or self._news is not None:
                    self._complete()
                return
        self._write_closely(body)

    def _write_closely(self, body: bytes) -> None:
        headers, length, wants_close = framing.split_headers(self._headers)
        if self._status in framing.BODILESS_STATUSES or self.scope["method"] == "HEAD":
            body = b""
        elif length is None:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        elif length != b"%d" % len(body):
            raise framing.AnswerInvalid(
                f"content-length is {length!r}, the body is {len(body)} bytes"
            )
        head = self._head(headers, wants_close)
        if len(body) <= JOINED_BODY_BYTES:
            self._output.transport.write(head + body)
        else:
            self._output.transport.writelines((head, body))
            self._output.note_answer(len(body))
        self._complete()

    def _write_part(self, body: bytes, has_more: bool) -> None:
        head = self._streaming_head() if self.stage == HEAD_HELD else b""
        if self._is_bodiless():
            body = b""
        elif self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = body if has_more else body + framing.LAST_CHUNK
        elif self._unsent_bytes is not None:
            self._count_down(len(body), has_more)
        self.stage = STREAMING
        if head or body:
            self._output.transport.write(head + body)
        if not has_more:
            self._complete()

    def _streaming_head(self) -> bytes:
        """Frame by Content-Length where it is given, else by chunks, for HTTP/1.0 by closing."""
        headers, length, wants_close = framing.split_headers(self._headers)
        self._is_chunked = False
        self._unsent_bytes = None if length is None else int(length)
        if length is None and not self._is_bodiless():
            self._is_chunked = self.scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._is_chunked
        lines = (framing.CHUNKED_LINE,) if self._is_chunked else ()
        return self._head(headers, wants_close, *lines)

    def _count_down(self, body_bytes: int, has_more: bool) -> None:
        assert self._unsent_bytes is not None
        self._unsent_bytes -= body_bytes
        if self._unsent_bytes < 0 or (self._unsent_bytes and not has_more):
            raise framing.AnswerInvalid("the answer's body does not fit its content-length")

    def _head(self, headers: framing.Headers, wants_close: bool, *lines: bytes) -> bytes:
        """Return the head; from here on it is settled whether the connection stays open."""
        output = self._output
        date_line = output.server.date_line
        is_last = output.state.is_leaving and not output.expects_more()
        if wants_close or self.has_more_body or is_last:
            self.keep_alive = False
        if not self.keep_alive:
            return framing.head(self._status, headers, *lines, date_line, framing.CLOSE_LINE)
        if self.scope["http_version"] == "1.0":
            return framing.head(self._status, headers, *lines, date_line, framing.KEEP_ALIVE_LINE)
        return framing.head(self._status, headers, *lines, date_line)

    def _complete(self) -> None:
        self.stage = COMPLETE
        self._tell()
        if self.task is not None:
            self._output.loop.call_soon(self._output.advance)

    def refuse(self, refusal: ErrorResponse) -> None:
        """Answer in the application's place, before it has begun to, and close after that."""
        self.keep_alive = False
        server = self._output.server
        more = server.refusal_headers(self.scope["headers"])
        self._output.transport.write(refusal.encode(server.date_line, more))
        self.is_disconnected = True
        self._complete()

    # The application's end.

    def ended(self, error: BaseException | None) -> None:
        """Learn that the application returned, or what it raised."""
        if error is None and (self.stage == COMPLETE or self._feed is not None):
            return
        is_gone = self.is_disconnected or self._is_body_cut
        if is_gone and isinstance(error, ClientDisconnected | asyncio.CancelledError):
            error = None
        if error is not None:
            logger.error(
                "The application failed",
                exc_info=error,
                extra={"action": "request_failed", "method": self.scope["method"]},
            )
        if self.stage == COMPLETE or self.is_disconnected:
            return
        if error is None:
            logger.error("The application returned without a whole answer")
        self._answer_for_application()

    def _answer_for_application(self) -> None:
        """Answer 500 where nothing was written, else break off so that the client sees it."""
        if self.stage == STREAMING:
            self._output.transport.abort()
            return
        self._status = framing.INTERNAL_ERROR.status
        more = self._output.server.refusal_headers(self.scope["headers"])
        self._headers = framing.INTERNAL_ERROR.headers(more)
        self._write_whole(framing.INTERNAL_ERROR.body())
