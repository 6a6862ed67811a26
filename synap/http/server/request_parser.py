"""Bytes of one connection to requests: httptools (llhttp) parses, this module guards.

The parser rejects what is not HTTP. What it leaves open is decided here: the limits on the request
line, the headers and the body, one clear framing, the versions and targets that are served.
`connection` feeds it and gets back, in order, cycles that are ready, and at the end a refusal.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from synap.http.server import framing
from synap.http.server.exchange import COMPLETE, Exchange, Output
from synap.http.server.framing import ErrorResponse, Headers
from synap.http.server.head_cache import HeadCache
from synap.http.server.head_lines import NAMES_OF_CONNECTION, VERSION

logger = logging.getLogger(__name__)

# What the parser is in the middle of.
BETWEEN, IN_HEAD, IN_BODY = range(3)

MAX_LINE_BYTES = 8 * 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100

# Bytes of an unfinished head beyond its target that are read at most. The exact limits are checked
# when the head is whole; the rest is for blanks that the parser drops.
MAX_UNFINISHED_BYTES = MAX_HEADER_BYTES + 4 * 1024

# The parser can't stop in the middle of what it is given. It gets this much at once, so that no
# read brings more than a slice's worth of requests past the bound on pipelining. A head that fits
# into one slice is within the limits, so that most heads are never measured.
SLICE_BYTES = 4 * 1024
BODY_SLICE_BYTES = 64 * 1024

# What a body must grow by to count as alive.
BODY_PROGRESS_BYTES = 1024

# Headers that decide how a request is framed, answered, or kept alive.
_FRAMING_NAMES = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"expect", *NAMES_OF_CONNECTION}
)

_SLASH = ord("/")

# Printable ASCII without the blank and the fragment's mark.
_PLAIN_TARGET_BYTES = bytes(code for code in range(0x21, 0x7F) if code != ord("#"))

_METHODS = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
}


class Client(Output, Protocol):
    """What the reader needs of the connection."""

    def submit(self, exchange: Exchange) -> None:
        """Take a request whose body is whole."""

    def stamp(self) -> None:
        """Learn that the client made progress."""


class Refused(Exception):
    """Stops the parser inside a callback; carries what to answer."""

    def __init__(self, refusal: ErrorResponse) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


class HeldRequest:
    """A request whose head is known, and whose body has not come in the same read.

    Attributes:
        kept_bytes: What of it is here.
    """

    __slots__ = ("_missing_bytes", "_parts", "kept_bytes")

    def __init__(self, data: bytes, missing_bytes: int) -> None:
        self._parts = [data]
        self._missing_bytes = missing_bytes
        self.kept_bytes = len(data)

    def add(self, data: bytes) -> bytes | None:
        """Take what has come; return all of it where nothing is missing any more."""
        self._parts.append(data)
        self._missing_bytes -= len(data)
        self.kept_bytes += len(data)
        return b"".join(self._parts) if self._missing_bytes <= 0 else None


class RequestParser:
    """Parses one connection's input.

    Attributes:
        phase: BETWEEN two requests, IN_HEAD or IN_BODY of one.
        incoming: The request whose body is being read; None but in IN_BODY.
        is_over: Nothing that follows will be read as a request.
        has_begun: A whole request has been seen.
        held: A request of which a part waits for the rest, unparsed; the phase is IN_BODY then.
    """

    def __init__(
        self,
        client: Client,
        base_scope: dict[str, Any],
        state: dict[str, Any],
        max_body_bytes: int,
        head_cache: HeadCache,
    ) -> None:
        self.phase = BETWEEN
        self.incoming: Exchange | None = None
        self.is_over = False
        self.has_begun = False
        self.held: HeldRequest | None = None
        self._client = client
        self._base_scope = base_scope
        self._state = state
        self._max_body_bytes = max_body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._parse = self._parser.feed_data
        self._head_cache = head_cache
        # Headers and body length of a head that may be learned when its request is whole.
        self._may_repeat: tuple[Headers, int] | None = None
        self._target = b""
        self._headers: Headers = []
        self._framing: Headers = []
        self._head_bytes = 0
        self._content_length: int | None = None
        self._body_bytes = 0
        self._body_mark = 0

    def hold(self, data: bytes, missing_bytes: int) -> None:
        """Keep a request's first part, between two requests, until the rest of its body is there.

        Args:
            data: Its head, and what there is of its body.
            missing_bytes: The rest; few enough to be kept until it is whole.
        """
        self.held = HeldRequest(data, missing_bytes)
        self.phase = IN_BODY
        self._body_mark = len(data)
        self._client.stamp()

    def take_held(self, data: bytes) -> bytes | None:
        """Return the request that is held with what has come of it, if that is the rest."""
        held = self.held
        assert held is not None
        whole = held.add(data)
        if whole is not None:
            self.held, self.phase = None, BETWEEN
        elif held.kept_bytes - self._body_mark >= BODY_PROGRESS_BYTES:
            self._body_mark = held.kept_bytes
            self._client.stamp()
        return whole

    def next_slice_bytes(self) -> int:
        """Return how much to feed: a long body's rest in large pieces, all else in small ones."""
        if self.phase == IN_BODY and self._content_length is not None:
            return min(BODY_SLICE_BYTES, self._content_length - self._body_bytes)
        return SLICE_BYTES

    def feed(self, data: bytes) -> ErrorResponse | None:
        """Parse a slice, submitting each request that it completes.

        Args:
            data: At most `next_slice_bytes()`.

        Returns:
            What to answer where the input is refused; it must not be fed again.
        """
        is_at_border = self.phase == BETWEEN
        if is_at_border and self._take_known_head(data):
            return None
        try:
            self._parse(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Upgrades are not taken: the request was served as any other, and the next one follows.
            return None if self.is_over else self.feed(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as stopped:
            return self._refusal_for(stopped.__context__)
        except httptools.HttpParserError:
            return None if self.is_over else framing.MALFORMED
        if self.phase == IN_HEAD:
            return self._check_unfinished_head(data)
        if is_at_border and self._may_repeat is not None:
            self._head_cache.learn(data, *self._may_repeat)
        return None

    def _refusal_for(self, cause: BaseException | None) -> ErrorResponse:
        if isinstance(cause, Refused):
            return cause.refusal
        logger.error("A request could not be read", exc_info=cause)
        return framing.MALFORMED

    def _take_known_head(self, data: bytes) -> bool:
        """Serve a request whose head is known but for its target, without the parser.

        Return False where it must be parsed: it is not such a request, or not exactly one.
        """
        method = "GET" if data.startswith(b"GET /") else "POST"
        start = data.find(VERSION)
        end = data.find(b"\r\n\r\n", start) + 4
        head = self._head_cache.by_tail.get(data[start:end])
        if head is None or len(data) - end != head.content_length:
            return False
        if method == "POST" and not data.startswith(b"POST /"):
            return False
        target = data[len(method) + 1 : start]
        if target.translate(None, _PLAIN_TARGET_BYTES):
            return False
        exchange = self._begin_exchange(method, target, head.headers.copy(), True)
        exchange.is_plain = True
        if head.content_length:
            self._client.stamp()
            exchange.feed(data[end:])
        self.has_begun = True
        self._client.submit(exchange)
        return True

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Learn that a request begins; blank lines before it are none."""
        self.phase = IN_HEAD
        self._may_repeat = None

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which is dropped."""
        if self.phase == IN_BODY:
            return
        name = name.lower()
        self._headers.append((name, value))
        if name in _FRAMING_NAMES:
            self._framing.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head and make a cycle of it."""
        headers = self._headers
        self._take_head(headers)
        # Where it is refused, who refuses it looks at them.
        self._headers = []
        self.phase = IN_BODY

    def seen_headers(self) -> Headers:
        """Return what has come of the headers of the request that is being read."""
        return self._headers if self.incoming is None else self.incoming.scope["headers"]

    def _take_head(self, headers: Headers) -> None:
        parser = self._parser
        framing, self._framing = self._framing, []
        target, self._target = self._target, b""
        if self._head_bytes or len(headers) > MAX_HEADERS:
            self._head_bytes = 0
            _check_head_sizes(target, headers)
        if target[0] != _SLASH or b"#" in target:
            target = _origin_form(target)
        name = parser.get_method()
        method = _METHODS.get(name) or _rare_method(name)
        keep_alive = parser.should_keep_alive()
        self.incoming = exchange = self._begin_exchange(method, target, headers, keep_alive)
        # Without a header for the connection only HTTP/1.1 is kept alive: this is a plain request.
        if keep_alive and len(framing) == 1 and framing[0][0] == b"host":
            exchange.is_plain = method != "HEAD"
            self._may_repeat = headers.copy(), 0
        else:
            self._apply_framing(exchange, framing)

    def _begin_exchange(
        self, method: str, target: bytes, headers: Headers, keep_alive: bool
    ) -> Exchange:
        scope = self._base_scope.copy()
        scope["method"] = method
        scope["headers"] = headers
        raw_path, _, query = target.partition(b"?") if b"?" in target else (target, b"", b"")
        path = str(raw_path, "ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        if self._state:
            scope["state"] = self._state.copy()
        return Exchange(self._client, scope, keep_alive)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        exchange = self.incoming
        assert exchange is not None
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            raise Refused(framing.BODY_TOO_LARGE)
        if self._body_bytes - self._body_mark >= BODY_PROGRESS_BYTES:
            self._body_mark = self._body_bytes
            self._client.stamp()
        if exchange.stage != COMPLETE:
            exchange.feed(body)

    def on_message_complete(self) -> None:
        """Let the application have the request, or its body's end."""
        exchange, self.incoming = self.incoming, None
        assert exchange is not None
        self.phase = BETWEEN
        self.has_begun = True
        if not exchange.keep_alive:
            self.is_over = True
        if exchange.has_more_body:
            exchange.end_body()
        if not exchange.is_submitted:
            self._client.submit(exchange)

    # The head

    def _check_unfinished_head(self, data: bytes) -> ErrorResponse | None:
        """Bound a head that spans reads before it is whole."""
        target_bytes = len(self._target)
        if _line_bytes(target_bytes) > MAX_LINE_BYTES:
            return framing.TARGET_TOO_LONG
        if self._head_bytes == 0:
            self._client.stamp()
        self._head_bytes += len(data)
        if self._head_bytes - target_bytes > MAX_UNFINISHED_BYTES:
            return framing.HEADERS_TOO_LARGE
        # HTTP/0.9 ends with its line, without a version, and its client waits for an answer here.
        is_line = target_bytes and data.endswith(b"\n")
        return framing.MALFORMED if is_line and self._parser.get_http_version() == "0.0" else None

    def _apply_framing(self, exchange: Exchange, fields_read: Headers) -> None:
        """Check what frames a request that has more, or less, than a Host header for it."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(framing.MALFORMED)
        exchange.scope["http_version"] = version
        framing_fields = [field for field in fields_read if field[0] not in NAMES_OF_CONNECTION]
        fields = dict(framing_fields)
        if len(fields) != len(framing_fields):
            raise Refused(framing.FRAMING_CONFLICT)
        if b"host" not in fields and version == "1.1":
            raise Refused(framing.HOST_MISSING)
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
            raise Refused(framing.FRAMING_CONFLICT)
        length = fields.get(b"content-length")
        self._content_length = None if length is None else int(length)
        if self._content_length is not None and self._content_length > self._max_body_bytes:
            raise Refused(framing.BODY_TOO_LARGE)
        self._body_bytes = self._body_mark = 0
        self._client.stamp()
        exchange.has_more_body = coding is not None or bool(self._content_length)
        exchange.is_plain = (
            exchange.keep_alive and version == "1.1" and exchange.scope["method"] != "HEAD"
        )
        if exchange.has_more_body and self._parser.should_upgrade():
            raise Refused(framing.UPGRADE_WITH_BODY)
        expected = fields.get(b"expect", b"100-continue").lower()
        if expected != b"100-continue" and version == "1.1":
            raise Refused(framing.EXPECTATION_UNKNOWN)
        exchange.expects_continue = (
            b"expect" in fields and version == "1.1" and exchange.has_more_body
        )
        if exchange.is_plain and coding is None and b"expect" not in fields:
            self._may_repeat = exchange.scope["headers"].copy(), self._content_length or 0


def _check_head_sizes(target: bytes, headers: Headers) -> None:
    if _line_bytes(len(target)) > MAX_LINE_BYTES:
        raise Refused(framing.TARGET_TOO_LONG)
    # A name, a colon, a blank, a value, a line end.
    header_bytes = sum(len(name) + len(value) + 4 for name, value in headers)
    if header_bytes > MAX_HEADER_BYTES or len(headers) > MAX_HEADERS:
        raise Refused(framing.HEADERS_TOO_LARGE)


def _line_bytes(target_bytes: int) -> int:
    """Return the length of a request line, with the method taken for one of seven letters."""
    return target_bytes + len("OPTIONS  HTTP/1.1\r\n")


def _rare_method(method: bytes) -> str:
    """Return a method that the application will most likely refuse; CONNECT never gets there."""
    if method == b"CONNECT":
        raise Refused(framing.MALFORMED)
    return method.decode("ascii")


def _origin_form(target: bytes) -> bytes:
    """Return path and query of an absolute target; `*` stays what it is.

    A fragment has no place in a request and is refused.
    """
    if target == b"*":
        return target
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise Refused(framing.MALFORMED) from None
    if not parsed.schema or b"#" in target:
        raise Refused(framing.MALFORMED)
    path = parsed.path or b"/"
    return path if parsed.query is None else path + b"?" + parsed.query
