"""The door: who asks is known, and may ask for this path, before anything is answered.

Installed only with authentication on. Keys are guarded in `calls`, command by command; here it is
decided what the other paths want. A path that nobody thought of wants `admin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from falcon.asgi import Response

from synap.auth.permissions import ANONYMOUS, Action
from synap.http.api.client_address import client_address
from synap.http.api.console.files import PAGE
from synap.http.api.credentials import Credentials
from synap.http.api.request import Request
from synap.http.api.trusted_proxies import TrustedProxies
from synap.request_errors import NotAuthenticated
from synap.service import audit

if TYPE_CHECKING:
    from synap.config.keys import Config

# Everybody's: load balancers have no credentials.
PUBLIC = frozenset(
    {"/", "/health", "/liveness", "/readiness", "/primary", "/replica", "/read-only"}
)
METRICS = "/metrics"
# Files of the package, the same on every node: the page has nothing before somebody logs in.
_PAGE_FILES = f"{PAGE}/".encode()
# Where credentials are the request's body.
_LOGIN = "/auth/login"
# Guarded by `calls`, key by key, and by `accounts`, user by user.
_GUARDED_WITHIN = (
    "/kv/", "/key/", "/raw/", "/memory/", "/api/v1/command", "/idempotency/", "/watch", "/auth/",
    PAGE,
)  # fmt: skip
# What whoever may read the node may have; of all others they want `admin`.
_READABLE = frozenset(
    {
        "/health/replication",
        "/cluster",
        "/openapi.json",
        "/docs",
        "/docs/page.js",
        "/docs/page.css",
        "/docs/swagger-ui.js",
        "/docs/swagger-ui.css",
        METRICS,
    }
)


class Guard:
    """Falcon's middleware."""

    def __init__(
        self, credentials: Credentials, config: Config, trusted_proxies: TrustedProxies
    ) -> None:
        self._credentials = credentials
        self._must_log_in = config.auth.require_auth
        self._trusted_proxies = trusted_proxies
        self._public = public_paths(config)

    async def process_request(self, req: Request, resp: Response) -> None:
        """Find out who asks.

        Raises:
            NotAuthenticated: the credentials are wrong, or missing where there must be some.
        """
        req.caller = ANONYMOUS
        address = client_address(req.scope, req.raw_headers, self._trusted_proxies)
        audit.address_of_request.set(address)
        path = req.scope.get("raw_path") or req.path.encode()
        if path in self._public or path.startswith(_PAGE_FILES) or req.method == "OPTIONS":
            return
        caller = await self._credentials.caller_of(req.raw_headers, address)
        if caller is not None:
            req.caller = caller
        elif self._must_log_in and path != _LOGIN.encode():
            raise NotAuthenticated

    async def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Let the request through to its resource where the caller may have that.

        Raises:
            Forbidden: they may not.
        """
        wanted = needs(req.uri_template or "", self._public)
        if wanted is not None and req.method != "OPTIONS":
            req.caller.require(*wanted)

    async def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        """Write administration into the audit log."""
        template = req.uri_template or ""
        if req.method in ("GET", "HEAD", "OPTIONS") and template not in ("/backup", "/digest"):
            return
        if not template or template == _LOGIN or resp.status_code in (401, 403):
            return
        if needs(template, self._public) is None and not template.startswith("/auth/"):
            return
        audit.record(
            "administration", f"{req.method} {req.path}: {resp.status_code}",
            caller=req.caller.name, method=req.method, path=req.path, status=resp.status_code,
        )  # fmt: skip


def public_paths(config: Config) -> frozenset[bytes]:
    """Return the paths, undecoded, that need no credentials."""
    open_ones = {*PUBLIC, PAGE} if config.auth.protect_metrics else {*PUBLIC, PAGE, METRICS}
    return frozenset(path.encode() for path in open_ones)


def needs(template: str, public: frozenset[bytes]) -> tuple[Action, bytes] | None:
    """Return the action and the resource that a route wants; None where it guards itself."""
    if template.encode() in public or template.startswith(_GUARDED_WITHIN):
        return None
    action: Action = "read" if template in _READABLE else "admin"
    # The page's files go with the page, and sums over a part with those over all.
    first, _, last = template[1:].rpartition("/")
    name = first if first in ("docs", "digest") else last
    if first == "cluster/slots":
        name = "slots"
    return action, b"node:" + name.encode()
