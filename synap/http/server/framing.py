"""What goes on the wire in every answer: status lines, header lines, refusals.

Pure: bytes out of values, no clock and no socket. Called by `exchange` for the application's
answers and by `connection` for the worker's own, where a request never reaches the application.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import msgspec
import orjson

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

# Ends a line of a head that is put together as text.
LINE_END = "\r\n"

# Ends a request's head.
BLANK_LINE = b"\r\n\r\n"

# Lines of a head, without their line ends.
CLOSE_LINE = b"connection: close"
KEEP_ALIVE_LINE = b"connection: keep-alive"
CHUNKED_LINE = b"transfer-encoding: chunked"

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus
}

BODILESS_STATUSES = frozenset({204, 304})

_PLAIN_STATUS_LINES = {
    status: line
    for status, line in STATUS_LINES.items()
    if status >= 200 and status not in BODILESS_STATUSES
}

_STATUS_TEXTS = {status: line.decode() + LINE_END for status, line in STATUS_LINES.items()}

Headers = list[tuple[bytes, bytes]]

# Headers of an answer that are the worker's business; an application's own are taken out. Most
# answers have none of them.
_OWN_NAMES = frozenset({b"transfer-encoding", b"connection", b"date"})

# An extension of ASGI: one message with status, headers and the whole body. Two messages, each with
# its dictionary and its coroutine, cost a small GET more.
WHOLE_ANSWER = "synap.http.response.whole"

# An extension of ASGI: a message with status, headers and a feed, which writes the body itself
# while it has no end of its own. The application's call is over then, and the connection is none of
# those that are bounded, evicted and kept.
FEED = "synap.http.response.feed"

JSON_TYPE = (b"content-type", b"application/json")
RETRY_LATER = (b"retry-after", b"1")

_join_header = b": ".join


# What no header may hold: it would end the line, or mean something to who shows it. Tabs may stand.
_CONTROLS = bytes(code for code in range(0x20) if code != ord("\t")) + b"\x7f"


class AnswerInvalid(RuntimeError):
    """The application's answer can't be put on the wire."""


def split_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Headers, bytes | None, bool]:
    """Take out of an application's headers what the worker decides.

    Args:
        headers: With names in lower case, as ASGI has them.

    Returns:
        The headers to write; the Content-Length among them, None where there is none; whether the
        application wants the connection closed.
    """
    kept = headers if isinstance(headers, list) else list(headers)
    fields = dict(kept)
    length = fields.get(b"content-length")
    if _OWN_NAMES.isdisjoint(fields):
        return kept, length, False
    wants_close = b"close" in fields.get(b"connection", b"").lower()
    return [header for header in kept if header[0] not in _OWN_NAMES], length, wants_close


def plain_answer(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, date_line: bytes
) -> bytes | None:
    """Return a whole answer that needs nothing of the worker but the Date.

    Returns:
        None where it is not as plain as most are: a usual status, the right Content-Length, each
        header once, no control character in one, none that is the worker's business.
    """
    fields = dict(headers)
    length = fields.get(b"content-length")
    status_line = _PLAIN_STATUS_LINES.get(status)
    if length != b"%d" % len(body) or not _OWN_NAMES.isdisjoint(fields) or not status_line:
        return None
    lines = b"\r\n".join(map(_join_header, headers))
    if len(lines) - len(lines.translate(None, _CONTROLS)) != 2 * len(fields) - 2:
        return None
    return b"\r\n".join((status_line, lines, date_line, b"", body))


def head(status: int, headers: Headers, *lines: bytes) -> bytes:
    """Return a whole head: status line, headers, the worker's own lines, the blank line.

    Raises:
        AnswerInvalid: A control character inside a header; a line end would begin another.
    """
    status_line = STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status
    parts = [status_line, *map(_join_header, headers), *lines, b"", b""]
    rendered = b"\r\n".join(parts)
    if len(rendered) - len(rendered.translate(None, _CONTROLS)) != 2 * (len(parts) - 1):
        raise AnswerInvalid("a header of the answer holds a control character")
    return rendered


class Chunks:
    """Parts of bodies as chunks. Of one that many clients are sent in a row there is one chunk."""

    def __init__(self) -> None:
        # An empty part is no chunk: that would end the body.
        self._part = self._chunk = b""

    def of(self, part: bytes) -> bytes:
        """Return a part as a chunk."""
        if part is not self._part:
            self._chunk = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
            self._part = part
        return self._chunk


def is_header_value(text: str) -> bool:
    """Return whether a text may be a header's value: ASCII without control characters."""
    return text.isascii() and text.isprintable()


def header_lines(headers: Iterable[tuple[str, str]]) -> str:
    """Return headers as the lines that `json_head` takes.

    Raises:
        AnswerInvalid: A value is none: see `is_header_value`.
    """
    lines = ""
    for name, value in headers:
        if not is_header_value(value):
            raise AnswerInvalid(f"the answer's header {name} holds a control character")
        lines += f"{name.lower()}: {value}{LINE_END}"
    return lines


JSON_TYPE_LINE = f"content-type: application/json{LINE_END}"


def text_head(
    status: int, lines: str, more: str, request_id: str, type_lines: str, body_bytes: int
) -> bytes:
    """Return the head of an answer, but for the worker's own lines and the blank one.

    Args:
        lines, more: Headers, each with its end: of `header_lines`, or of the caller's own numbers.
        request_id: Printable ASCII.
        type_lines: Those that say what the body is; left out where the status has none.
        body_bytes: Length of the body.
    """
    if status == 304:
        return f"{_STATUS_TEXTS[304]}{lines}{more}x-request-id: {request_id}\r\n".encode()
    return (
        f"{_STATUS_TEXTS[status]}{lines}{more}x-request-id: {request_id}\r\n"
        f"content-length: {body_bytes}\r\n{type_lines}"
    ).encode()


class ErrorResponse(msgspec.Struct, frozen=True):
    """An answer of the worker's own, in the error form of the HTTP contract."""

    status: int
    reason: str
    message: str
    retryable: bool = False

    def body(self) -> bytes:
        """Return the JSON body: error, code, reason, retryable."""
        return orjson.dumps(
            {
                "error": self.message,
                "code": self.status,
                "reason": self.reason,
                "retryable": self.retryable,
            }
        )

    def headers(self, more: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return the headers of an answer with it, but for those of its framing.

        Args:
            more: What the application says with each answer.
        """
        waits = [RETRY_LATER] if self.status == 503 and self.retryable else []
        return [JSON_TYPE, *waits, *more]

    def encode(self, date_line: bytes, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """Return the whole answer, which ends its connection; `more` as for `headers`."""
        body = self.body()
        headers = [*self.headers(more), (b"content-length", b"%d" % len(body))]
        return head(self.status, headers, date_line, CLOSE_LINE) + body


MALFORMED = ErrorResponse(400, "invalid_request", "The request is not valid HTTP/1.1.")
INCOMPLETE = ErrorResponse(400, "invalid_request", "The request ended before it was complete.")
FRAMING_CONFLICT = ErrorResponse(
    400, "invalid_request", "Content-Length, Transfer-Encoding and Host may each be given once."
)
HOST_MISSING = ErrorResponse(400, "invalid_request", "An HTTP/1.1 request needs a Host header.")
UPGRADE_WITH_BODY = ErrorResponse(400, "invalid_request", "A request to upgrade can't have a body.")
EXPECTATION_UNKNOWN = ErrorResponse(
    417, "expectation_failed", "Only 'Expect: 100-continue' is known."
)
HEAD_TIMEOUT = ErrorResponse(408, "request_timeout", "The request's head came too slowly.", True)
BODY_TIMEOUT = ErrorResponse(408, "request_timeout", "The request's body came too slowly.", True)
BODY_TOO_LARGE = ErrorResponse(
    413, "payload_too_large", "The body is over this server's limit (server.max_request_size_mb)."
)
TARGET_TOO_LONG = ErrorResponse(414, "uri_too_long", "The request line is over the limit of 8 KiB.")
HEADERS_TOO_LARGE = ErrorResponse(
    431, "headers_too_large", "The headers are over the limit of 16 KiB or of 100 fields."
)
INTERNAL_ERROR = ErrorResponse(500, "internal_error", "The server failed to answer this request.")
EVICTED = ErrorResponse(
    503,
    "overloaded",
    "The server needed this connection for others; what became of the request is not known.",
)
OVERLOADED = ErrorResponse(503, "overloaded", "The server has too many connections.", True)
