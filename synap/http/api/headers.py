"""The headers that the application reads: the only list of them, and what each means.

Whatever reads a header names it by a constant from here, which the type `HeaderName` sees to. So a
header that is not in the list is read by nobody, and can't change an answer. One that is added is
`ASIDE`, until somebody has shown that the short way (`fast_path`) does with it what the long one
does.
"""

from __future__ import annotations

from enum import Enum
from typing import NewType

HeaderName = NewType("HeaderName", bytes)
"""A header's name in lower case. Made here alone."""


class Way(Enum):
    """What the short way does with a request that has the header.

    Attributes:
        ASIDE: Leaves it to the long way.
        ASKED: Does what its value asks for.
        HOST, TYPE, CREDENTIALS: Looks at the value once, for all requests that have the same one.
        PLAIN: Nothing. No hot request is answered otherwise for it.
        VARYING: Nothing, as PLAIN; and as values differ from request to request, or are nobody's
            business, none is remembered.
    """

    ASIDE = "aside"
    ASKED = "asked"
    HOST = "host"
    TYPE = "type"
    CREDENTIALS = "credentials"
    PLAIN = "plain"
    VARYING = "varying"


_ways: dict[bytes, Way] = {}


def _header(name: str, way: Way = Way.ASIDE) -> HeaderName:
    read = HeaderName(name.encode())
    _ways[read] = way
    return read


HOST = _header("host", Way.HOST)
CONTENT_TYPE = _header("content-type", Way.TYPE)
# The server frames bodies by these.
CONTENT_LENGTH = _header("content-length")
TRANSFER_ENCODING = _header("transfer-encoding")
CONTENT_ENCODING = _header("content-encoding")
AUTHORIZATION = _header("authorization", Way.CREDENTIALS)
API_KEY = _header("x-api-key", Way.CREDENTIALS)
ORIGIN = _header("origin")
SITE = _header("sec-fetch-site")
IF_MATCH = _header("if-match")
IF_NONE_MATCH = _header("if-none-match", Way.ASKED)
IF_MODIFIED_SINCE = _header("if-modified-since")
IF_UNMODIFIED_SINCE = _header("if-unmodified-since")
REQUEST_ID = _header("x-request-id", Way.ASKED)
MIN_OFFSET = _header("x-synap-min-offset")
MIN_POSITION = _header("x-synap-min-position", Way.ASKED)
MIN_REPLICAS = _header("x-synap-min-replicas")
CONSISTENCY = _header("x-synap-consistency")
# Says that the request may have been done before, which the log's owner finds out.
IDEMPOTENCY_KEY = _header("idempotency-key")
# Which key, and so which slot, the request is about.
SLOT_KEY = _header("x-synap-key")
MOVED_SLOT = _header("x-synap-move-slot")
# What the feed's form goes by; no hot request is answered otherwise for them.
ACCEPT = _header("accept", Way.PLAIN)
# Goes into lines of the log alone, for which it is looked for in the head itself.
TRACEPARENT = _header("traceparent", Way.VARYING)
# Long answers alone go by it, and no hot request has one that is packed.
ACCEPT_ENCODING = _header("accept-encoding", Way.PLAIN)
LAST_EVENT_ID = _header("last-event-id")
FORWARDED_FOR = _header("x-forwarded-for", Way.ASKED)
# Read beside Origin alone, which is ASIDE itself.
FORWARDED_PROTO = _header("x-forwarded-proto", Way.PLAIN)
FORWARDED_HOST = _header("x-forwarded-host", Way.PLAIN)

# Nobody reads these here. Each request has its own, or they are secrets of others.
_VARYING = frozenset(
    {
        b"b3", b"baggage", b"cf-connecting-ip", b"cf-ray", b"cookie", b"correlation-id",
        b"forwarded", b"proxy-authorization", b"request-id", b"sentry-trace",
        b"tracestate", b"true-client-ip", b"uber-trace-id", b"x-amzn-trace-id",
        b"x-b3-parentspanid", b"x-b3-spanid", b"x-b3-traceid", b"x-client-ip",
        b"x-cloud-trace-context", b"x-correlation-id", b"x-datadog-parent-id",
        b"x-datadog-trace-id", b"x-real-ip", b"x-request-start",
        b"x-trace-id", b"x-unique-id",
    }
)  # fmt: skip
# What begins like this is about conditions, or this node's own: none is passed over by mistake.
_ASIDE_BEGINNINGS = (b"if-", b"x-synap-", b"sec-fetch-", b"access-control-")


def way_of(name: bytes) -> Way:
    """Return what the short way does with a request that has the header.

    Args:
        name: In lower case.
    """
    way = _ways.get(name)
    if way is not None:
        return way
    if name in _VARYING:
        return Way.VARYING
    return Way.ASIDE if name.startswith(_ASIDE_BEGINNINGS) else Way.PLAIN


def read_names() -> frozenset[bytes]:
    """Return the names of all headers that the application reads."""
    return frozenset(_ways)
