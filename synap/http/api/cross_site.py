"""What a web page of another site may do here: nothing, unless the operator named its origin.

A browser sends a page's request to whatever address the page names, the user's own machine and
network too, and with some kinds of request it asks nobody before. It does say where the request
comes from: in `Origin`, in `Sec-Fetch-Site`, and in `Host`, which a page that had its own name
resolve to this node's address can't change. No page can forge them, and programs send none but
`Host`.

Source: the Fetch standard, https://fetch.spec.whatwg.org, and Fetch Metadata Request Headers,
https://www.w3.org/TR/fetch-metadata/.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import falcon
from falcon.asgi import Response

from synap.addresses import is_loopback
from synap.http.api.client_address import peer_address
from synap.http.api.headers import (
    FORWARDED_HOST,
    FORWARDED_PROTO,
    HOST,
    ORIGIN,
    REQUEST_ID,
    SITE,
    HeaderName,
)
from synap.http.api.request import Request, request_id_of
from synap.http.api.trusted_proxies import TrustedProxies
from synap.http.server.framing import Headers
from synap.request_errors import CrossOrigin, HostNotAllowed

if TYPE_CHECKING:
    from synap.config.keys import Config

# Methods that change nothing.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = (b"same-origin", b"none")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# RFC 9110, section 7.2, without what no name in use has: escapes and most marks.
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]*:[0-9a-f:.]*)\]|(?P<name>[0-9a-z._-]+))(?::[0-9]*)?"
)
# Hosts that were looked at and are served; clients name few.
_MAX_KNOWN_HOSTS = 256


class SiteGuard:
    """Falcon's middleware that turns other sites' pages away, before all else that may.

    Attributes:
        answers_vary: Whether an answer's headers depend on the request's Origin; see `Cors`.
    """

    def __init__(self, config: Config, trusted_proxies: TrustedProxies) -> None:
        server = config.server
        self._origins = frozenset(server.cors_origins)
        self.answers_vary = bool(self._origins) and "*" not in self._origins
        self._trusted_proxies = trusted_proxies
        self._is_loopback_only = is_loopback(server.host)
        self._allowed_hosts = frozenset(server.allowed_hosts)
        self._checks_hosts = self._is_loopback_only or bool(self._allowed_hosts)
        self._known_hosts: set[bytes | None] = {None}

    async def process_request(self, req: Request, resp: Response) -> None:
        """Look at where the request says that it comes from.

        Raises:
            HostNotAllowed: it names a host that this node is not.
            CrossOrigin: a page of another site wants something changed.
        """
        headers = req.raw_headers
        req.trusted_proxies = self._trusted_proxies
        if self._checks_hosts:
            host = headers.get(HOST)
            if host not in self._known_hosts and not self.serves(host):
                raise HostNotAllowed
        if (ORIGIN in headers or SITE in headers) and req.method not in _SAFE_METHODS:
            self._check_origin(req.scope, headers)

    def serves(self, host: bytes | None) -> bool:
        """Say whether requests with this Host are served; HTTP/1.0 may do without one."""
        if not self._checks_hosts or host in self._known_hosts:
            return True
        assert host is not None, "no Host is a known one"
        name = _name_of(host)
        is_served = is_loopback(name) or name in self._allowed_hosts
        if not is_served and not self._is_loopback_only:
            # What is asked for by an address was not found by a name that somebody else controls.
            is_served = _is_address(name)
        if is_served:
            if len(self._known_hosts) >= _MAX_KNOWN_HOSTS:
                self._known_hosts = {None}
            self._known_hosts.add(host)
        return is_served

    def check_stream(self, req: Request) -> None:
        """Look at a request that changes nothing, but holds a place here as long as it likes.

        Raises:
            CrossOrigin: it comes from a page of another site.
        """
        if ORIGIN in req.raw_headers or SITE in req.raw_headers:
            self._check_origin(req.scope, req.raw_headers)

    def _check_origin(self, scope: Mapping[str, Any], headers: Mapping[HeaderName, bytes]) -> None:
        origin = headers.get(ORIGIN)
        if origin is not None:
            text = origin.decode("latin-1")
            if "*" in self._origins or text in self._origins:
                return
            if text != self._own_origin(scope, headers):
                raise CrossOrigin
        # A page of the same site, as on another port of this machine, is another's all the same.
        if headers.get(SITE, b"none") not in _OWN_SITES:
            raise CrossOrigin

    def _own_origin(self, scope: Mapping[str, Any], headers: Mapping[HeaderName, bytes]) -> str:
        """Return the origin of this node's pages, as the browser that sent the request knows it."""
        scheme, host = scope["scheme"], headers.get(HOST, b"").decode("latin-1")
        if self._trusted_proxies and peer_address(scope) in self._trusted_proxies:
            scheme = _first(headers, FORWARDED_PROTO) or scheme
            host = _first(headers, FORWARDED_HOST) or host
        scheme = scheme.lower()
        return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}"


class Cors(falcon.CORSMiddleware[Request, Response]):
    """Falcon's middleware that lets pages of the named origins read answers."""

    def process_response(self, req: Any, resp: Any, resource: object, req_succeeded: bool) -> None:
        """Add the headers of CORS; see falcon.CORSMiddleware."""
        super().process_response(req, resp, resource, req_succeeded)
        if self.allow_origins != "*":
            resp.append_header("Vary", "Origin")

    def lines_for(self, origin: bytes | None) -> Headers:
        """Return what lets a page of `origin`, as it was sent, read an answer."""
        is_any = self.allow_origins == "*"
        lines = [] if is_any else [(b"vary", b"Origin")]
        if origin is None or not (is_any or origin.decode("latin-1") in self.allow_origins):
            return lines
        exposed = (self.expose_headers or "").encode()
        allowed = b"*" if is_any else origin
        lines.append((b"access-control-allow-origin", allowed))
        return [*lines, (b"access-control-expose-headers", exposed)]


class RefusalHeaders:
    """What the answers say that the server makes before a request comes to the application."""

    def __init__(self, cors: Cors | None) -> None:
        """
        Args:
            cors: Lets pages of some origins read answers; None where no page may.
        """
        self._cors = cors

    def __call__(self, headers: Headers) -> Headers:
        """Return them for a request with these headers, or the first of them."""
        fields = dict(headers)
        request_id = request_id_of(fields.get(REQUEST_ID), time.perf_counter_ns())
        told: Headers = [(REQUEST_ID, request_id.encode()), (b"cache-control", b"no-store")]
        if self._cors is not None:
            told += self._cors.lines_for(fields.get(ORIGIN))
        return told


def _first(headers: Mapping[HeaderName, bytes], name: HeaderName) -> str:
    """Return what the proxy nearest to the client says in a header; "" where none does."""
    return headers.get(name, b"").decode("latin-1").partition(",")[0].strip()


def _name_of(host: bytes) -> str:
    """Return a Host's name or address, without port and brackets; "" where it is no `host[:port]`.

    A name that only begins as an address, as `[::1].evil.example`, is none.
    """
    match = _HOST_AND_PORT.fullmatch(host.decode("latin-1").strip(" \t").lower())
    if match is None:
        return ""
    address, name = match["address"], match["name"]
    if address is not None:
        return address if _is_address(address) else ""
    return name.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
