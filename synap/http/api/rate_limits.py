"""The rate limit: each client, by its address, gets so many requests a second on this node.

Installed only where it is on, before the guard: a client that floods is stopped before its
credentials are looked at, and many keys buy no more. Health endpoints and metrics are exempt.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from falcon.asgi import Response

from synap.http.api.auth_guard import METRICS, PUBLIC
from synap.http.api.client_address import client_address, told_address
from synap.http.api.request import Request
from synap.http.api.trusted_proxies import TrustedProxies
from synap.request_errors import RateLimited
from synap.shared.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from synap.config.keys import Config

_EXEMPT = frozenset(path.encode() for path in (*PUBLIC, METRICS))


class RateLimits:
    """Falcon's middleware."""

    def __init__(self, config: Config, path: Path, trusted_proxies: TrustedProxies) -> None:
        """
        Args:
            config: The node's.
            path: The node's file of buckets.
            trusted_proxies: The node's.
        """
        self._limits = config.rate_limit
        self._trusted_proxies = trusted_proxies
        self._path = path

    def start(self) -> None:
        """Map the buckets, in the process that serves."""
        limits = self._limits
        self._limiter = RateLimiter(self._path, limits.requests_per_second, limits.burst_size)

    def close(self) -> None:
        """Unmap them."""
        self._limiter.close()

    async def process_request(self, req: Request, resp: Response) -> None:
        """Count the request.

        Raises:
            RateLimited: the client has none left.
        """
        if req.scope.get("raw_path") in _EXEMPT:
            return
        address = client_address(req.scope, req.raw_headers, self._trusted_proxies)
        share = self._limiter.take(address, time.monotonic_ns())
        resp.set_headers(
            (
                ("X-RateLimit-Limit", str(self._limits.burst_size)),
                ("X-RateLimit-Remaining", str(share.remaining)),
                ("X-RateLimit-Reset", str(share.reset_seconds)),
            )
        )
        if not share.is_allowed:
            raise RateLimited(retry_seconds=share.retry_seconds)

    def take(self, address: str, forwarded_for: bytes) -> str | None:
        """Count a request of the short way.

        Args:
            address: Of the other end of the connection, as `plain_address` gives it.
            forwarded_for: The request's X-Forwarded-For; b"" for none.

        Returns:
            The answer's lines about it; None where the client has none left: nothing is counted.
        """
        client = told_address(address, forwarded_for, self._trusted_proxies)
        share = self._limiter.take(client, time.monotonic_ns())
        if not share.is_allowed:
            return None
        return (
            f"x-ratelimit-limit: {self._limits.burst_size}\r\n"
            f"x-ratelimit-remaining: {share.remaining}\r\n"
            f"x-ratelimit-reset: {share.reset_seconds}\r\n"
        )

    def give_back(self, address: str, forwarded_for: bytes) -> None:
        """Take back what `take` has just counted: the long way counts the request again."""
        self._limiter.give_back(told_address(address, forwarded_for, self._trusted_proxies))
