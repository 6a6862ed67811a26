"""Which trace a request is part of, as its client says in `traceparent`.

It goes into the lines that name the request, so that they are found by the trace.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/, section 3.2.
"""

from __future__ import annotations

import re

import msgspec

from synap.http.server.framing import BLANK_LINE

_FORM = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_LINE = re.compile(rb"\r\ntraceparent:[ \t]*([^\r\n]*)", re.IGNORECASE)
_SAMPLED = 1


class Trace(msgspec.Struct, frozen=True, gc=False):
    """What a client says of its trace.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits: the client's own part of the trace.
        is_sampled: Whether somebody keeps it.
    """

    trace_id: str
    span_id: str
    is_sampled: bool

    def fields(self) -> dict[str, str]:
        """Return what a log line says of it."""
        return {"trace_id": self.trace_id, "span_id": self.span_id}


def trace_of(traceparent: bytes | None) -> Trace | None:
    """Return the trace that a header names; None where it names none."""
    match = _FORM.fullmatch(traceparent.strip()) if traceparent else None
    if match is None:
        return None
    return Trace(match[1].decode(), match[2].decode(), bool(int(match[3], 16) & _SAMPLED))


def trace_in(request: bytes) -> Trace | None:
    """Return the trace of a request as it came, head first; it is looked for when it is told."""
    match = _LINE.search(request, 0, request.find(BLANK_LINE))
    return None if match is None else trace_of(match[1].rstrip())
