"""What a request says and nobody would hear: refused by name, before anything is done.

A parameter that is misspelt, a filter under another store's word, a condition on a route that has
none: whoever passes over it does something else than was asked, and answers that it is done. So
each request is held against the table of routes. Fields of bodies are looked at where they are
decoded (`bodies`); here it is the body of a route that has none.

If-Modified-Since passes on reads: without a date to compare it with, the whole answer is what it
asks for. So does If-Range, where no part is asked for.

Source: RFC 9110, sections 13.1.3 and 13.1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from falcon.asgi import Response

from synap.http.api.bodies import decoder, shown_name, suggestion
from synap.http.api.content_coding import Unpacker
from synap.http.api.headers import (
    CONSISTENCY,
    CONTENT_ENCODING,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
    MIN_OFFSET,
    MIN_POSITION,
    MIN_REPLICAS,
    HeaderName,
)
from synap.http.api.openapi.route import Route
from synap.http.api.openapi.routes import ROUTES
from synap.http.api.operations.operation import Nothing
from synap.http.api.request import Request
from synap.http.api.request_observer import route_of
from synap.request_errors import (
    ConditionUnsupported,
    FieldInvalid,
    InvalidRequest,
    ParameterUnknown,
)

if TYPE_CHECKING:
    from synap.config.keys import Config

CONDITION_HEADERS: dict[HeaderName, str] = {
    IF_MATCH: "If-Match",
    IF_NONE_MATCH: "If-None-Match",
    IF_MODIFIED_SINCE: "If-Modified-Since",
    IF_UNMODIFIED_SINCE: "If-Unmodified-Since",
    MIN_OFFSET: "X-Synap-Min-Offset",
    MIN_POSITION: "X-Synap-Min-Position",
    MIN_REPLICAS: "X-Synap-Min-Replicas",
    CONSISTENCY: "X-Synap-Consistency",
    IDEMPOTENCY_KEY: "Idempotency-Key",
}
# More than an empty object with its blanks.
_MOST_BODY_BYTES = 64 * 1024

_decode_nothing = decoder(Nothing)


class _Known(msgspec.Struct, frozen=True):
    """What one method of one path takes.

    Attributes:
        query: Names of parameters.
        unsupported: Headers with conditions that do not count.
        takes_body: Whether a body means something.
    """

    query: frozenset[str]
    unsupported: frozenset[HeaderName]
    takes_body: bool

    @classmethod
    def of(cls, route: Route, method: str) -> _Known:
        """Return what a route takes, by its method or by HEAD."""
        taken = set(route.conditions)
        if method in ("GET", "HEAD"):
            taken.add(CONDITION_HEADERS[IF_MODIFIED_SINCE])
        if method in ("GET", "HEAD") or route.kind == "read":
            # What changes nothing may come as often as it likes.
            taken.add(CONDITION_HEADERS[IDEMPOTENCY_KEY])
        query = frozenset(each.name for each in route.query)
        unsupported = [each for each, name in CONDITION_HEADERS.items() if name not in taken]
        return cls(query, frozenset(unsupported), route.takes_body)


class KnownRequests:
    """Falcon's middleware; it stands behind the one that knows who asks."""

    def __init__(self, config: Config) -> None:
        self._ignores_unknown = config.server.unknown_fields == "ignore"
        # A quarter of what a worker holds for its clients.
        self._unpacker = Unpacker(config.server.held_bytes // 4)
        self._by_route: dict[tuple[str, str], _Known] = {}
        for routes in ROUTES.values():
            for route in routes:
                methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
                for method in methods:
                    self._by_route[method, route.path] = _Known.of(route, method)

    async def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Hold the request against its route.

        Raises:
            ConditionUnsupported: it has a condition that does not count here.
            ParameterUnknown: it has a parameter that its route does not know.
            FieldUnknown: it has a field, and its route knows none.
            InvalidRequest: it has another body, and its route takes none.
        """
        if CONTENT_ENCODING in req.raw_headers:
            req.unpacker = self._unpacker
        known = self._by_route.get((req.method, route_of(req.uri_template)))
        if known is None:
            return
        if not known.unsupported.isdisjoint(req.raw_headers):
            names = (CONDITION_HEADERS[each] for each in known.unsupported & req.raw_headers.keys())
            raise ConditionUnsupported(
                f"header {min(names)} does not count for {req.method} {route_of(req.uri_template)}"
            )
        if self._ignores_unknown:
            return
        if req.query_string:
            _check_query(req, known)
        if not known.takes_body and req.has_body:
            _check_no_body(await req.body(_MOST_BODY_BYTES))


def _check_query(req: Request, known: _Known) -> None:
    for name in req.params:
        if name not in known.query:
            raise ParameterUnknown(
                f"unknown parameter '{shown_name(name)}'{suggestion(name, known.query)}"
            )


def _check_no_body(data: bytes) -> None:
    if data.strip() in (b"", b"null"):
        return
    try:
        _decode_nothing(data)
    except FieldInvalid as error:
        raise type(error)(f"{error.message}: the request takes no body") from error
    except InvalidRequest as error:
        raise InvalidRequest("the request takes no body") from error
