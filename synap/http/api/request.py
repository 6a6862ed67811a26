"""The request as this application reads it: raw headers, and a body with a limit.

Falcon's own accessors are general: they decode each header on each look and wrap the body in a
stream, which shows in a profile of short requests. What is here stays below them, on what
falcon.asgi.Request keeps of its constructor's arguments.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote_from_bytes

import falcon
import falcon.asgi
from falcon.asgi import Response

from synap.addresses import client_group, plain_address
from synap.auth.permissions import TRUSTED, Caller
from synap.http.api.client_address import client_address
from synap.http.api.content_coding import Unpacker, check_coding, too_large
from synap.http.api.falcon_app import FalconApp
from synap.http.api.headers import (
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    IDEMPOTENCY_KEY,
    ORIGIN,
    REQUEST_ID,
    SITE,
    TRANSFER_ENCODING,
    HeaderName,
)
from synap.http.api.trusted_proxies import TrustedProxies
from synap.request_errors import InvalidRequest
from synap.shares import Holder

_JSON = falcon.MEDIA_JSON
# What `curl -d` says of any body.
_FORM = "application/x-www-form-urlencoded"
# All that may stand in a query string unescaped, with `%` itself.
_QUERY_SAFE = "!$%&'()*+,-./:;=?@_~"
# What a client's own request id may be made of: nothing that a log or a header could be broken by.
_ID_BYTES = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:/+=@"
_MOST_ID_BYTES = 128
# Of ids that are made here: apart from other processes. In one, the request's moment differs.
ID_PREFIX = secrets.token_hex(4)

_now_ns = time.perf_counter_ns


class Request(falcon.asgi.Request):
    """A request with cheap access to what every call needs.

    Attributes:
        raw_headers: The headers as bytes. Nothing else reads any.
        caller: Who asks. With authentication, a middleware sets it before anything is answered.
        began_ns: When it was taken up, by `time.perf_counter_ns`.
        command: What the slow log calls it, where that is not method and route.
        trusted_proxies: Whose word on the client's address counts. A middleware sets it.
        unpacker: For a body that is packed. A middleware sets it.
    """

    raw_headers: Mapping[HeaderName, bytes]
    caller: Caller = TRUSTED
    command: str | None = None
    trusted_proxies: TrustedProxies | None = None
    unpacker: Unpacker | None = None

    def __init__(
        self, scope: dict[str, Any], receive: Any, first_event: Any = None, options: Any = None
    ) -> None:
        fields = scope["headers"]
        if isinstance(fields, list) and not scope["query_string"]:
            headers = dict(fields)
            if len(headers) == len(fields):
                self._begin_plain(scope, headers, receive, first_event, options)
                return
        try:
            super().__init__(scope, receive, first_event, options)
        except UnicodeDecodeError:
            query = quote_from_bytes(scope["query_string"], _QUERY_SAFE).encode()
            super().__init__(scope | {"query_string": query}, receive, first_event, options)
        self.raw_headers = cast(Mapping[HeaderName, bytes], self._asgi_headers)
        if IDEMPOTENCY_KEY in self.raw_headers:
            # Falcon leaves out the blank with which RFC 9110 joins what comes several times; with
            # it the whole is no key, whoever has joined it.
            keys = [value for name, value in fields if name == IDEMPOTENCY_KEY]
            self._asgi_headers[IDEMPOTENCY_KEY] = b", ".join(keys)
        self.began_ns = _now_ns()

    @property
    def request_id(self) -> str:
        """The client's X-Request-Id where it is fit for one, else an id of its own."""
        return request_id_of(self.raw_headers.get(REQUEST_ID), self.began_ns)

    @property
    def client_address(self) -> str:
        """The IP address of the other end of the connection; empty where it has none."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def holder(self) -> Holder:
        """For whom it counts what the request holds while it waits, or leaves open."""
        name = self.caller.name
        if name:
            return name
        if self.trusted_proxies:
            address = client_address(self.scope, self.raw_headers, self.trusted_proxies)
            return _holder_at(address)
        return _holder_at(self.client_address)

    @property
    def target(self) -> str:
        """The path and the query as they were sent."""
        raw_path: bytes = self.scope.get("raw_path") or self.path.encode()
        query = self.query_string
        path = raw_path.decode("ascii", "backslashreplace")
        return f"{path}?{query}" if query else path

    def _begin_plain(
        self,
        scope: dict[str, Any],
        headers: dict[bytes, bytes],
        receive: Any,
        first_event: Any,
        options: Any,
    ) -> None:
        """Do what falcon's constructor does, without a query and a header that comes twice."""
        self._asgi_headers = headers
        self.raw_headers = cast(Mapping[HeaderName, bytes], headers)
        self.scope = scope
        self.is_websocket = False
        self.options = options
        self.method = scope["method"]
        self.uri_template = None
        self.path = scope["path"] or "/"
        self.query_string = ""
        self._params = {}
        content_type = headers.get(CONTENT_TYPE)
        self.content_type = None if content_type is None else content_type.decode("latin1")
        self._receive = receive
        self._first_event = first_event
        self.began_ns = _now_ns()

    @property
    def has_body(self) -> bool:
        """Whether a body is announced that is not empty, or may not be."""
        headers = self.raw_headers
        return TRANSFER_ENCODING in headers or headers.get(CONTENT_LENGTH, b"0") != b"0"

    async def json_body(self, limit_bytes: int) -> bytes:
        """Return the body's bytes, which claim to be JSON.

        A body without a content type is taken for JSON, as is one that `curl -d` sends for a form,
        unless a browser sent it: a page that makes one would not be asked whether it may.

        Raises:
            falcon.HTTPUnsupportedMediaType: the content type is another one.
            falcon.HTTPContentTooLarge: it is longer than `limit_bytes`.
        """
        content_type = self.content_type
        if content_type != _JSON:
            self._check_json(content_type)
        return await self.body(limit_bytes)

    def _check_json(self, content_type: str | None) -> None:
        if content_type is None or _media_type(content_type) == _FORM:
            if ORIGIN in self.raw_headers or SITE in self.raw_headers:
                raise falcon.HTTPUnsupportedMediaType(
                    description="a browser's request must say that its body is application/json"
                )
            return
        if not is_json(content_type):
            media_type = _media_type(content_type)
            raise falcon.HTTPUnsupportedMediaType(
                description=f"the body must be application/json, not {media_type or 'nothing'}"
            )

    async def body(self, limit_bytes: int) -> bytes:
        """Receive the body's bytes, whatever they claim to be; once whoever may not is refused.

        Raises:
            falcon.HTTPContentTooLarge: it is longer than `limit_bytes`, as it came or unpacked.
            falcon.HTTPUnsupportedMediaType: it is packed in a way that is not known.
            InvalidRequest: it is not packed as it says.
            ShareTaken: others hold as much that was packed as may be.
        """
        coding = self.raw_headers.get(CONTENT_ENCODING)
        if coding is not None:
            check_coding(coding)
        if (self.content_length or 0) > limit_bytes:
            raise too_large(limit_bytes)
        event = await self._receive()
        if event.get("more_body"):
            data = await self._whole_body(event, limit_bytes)
        else:
            data = _part_of(event, limit_bytes)
        if coding is None:
            return data
        assert self.unpacker is not None, "a middleware sets it where there is a coding"
        return await self.unpacker.unpacked(self, data, coding, limit_bytes)

    async def _whole_body(self, event: Mapping[str, Any], limit_bytes: int) -> bytes:
        parts = [_part_of(event, limit_bytes)]
        length = len(parts[0])
        while event.get("more_body"):
            event = await self._receive()
            parts.append(_part_of(event, limit_bytes - length))
            length += len(parts[-1])
        return b"".join(parts)


@lru_cache(maxsize=1024)
def _holder_at(address: str) -> Holder:
    """Return a holder that is no user: no user's name has a blank."""
    return f"address {client_group(plain_address(address))}"


def request_id_of(given: bytes | None, began_ns: int) -> str:
    """Return the id of the request that was taken up at `began_ns`.

    Args:
        given: What its client calls it; not taken unless it is fit for an id.
    """
    if given and len(given) <= _MOST_ID_BYTES and not given.translate(None, _ID_BYTES):
        return given.decode()
    return f"{ID_PREFIX}{began_ns:x}"


def is_json(content_type: str) -> bool:
    """Return whether a content type is JSON, with whatever parameters."""
    return content_type == _JSON or _media_type(content_type) == _JSON


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _part_of(event: Mapping[str, Any], limit_bytes: int) -> bytes:
    if event["type"] == "http.disconnect":
        raise InvalidRequest("the connection ended inside the body")
    part: bytes = event.get("body", b"")
    if len(part) > limit_bytes:
        raise too_large(limit_bytes)
    return part


App = FalconApp[Request, Response]
"""The application with this request."""
