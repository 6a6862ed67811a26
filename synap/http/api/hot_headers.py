"""What headers say of a hot request: `headers` in the terms of `head_lines`."""

from __future__ import annotations

from synap.http.api.cross_site import SiteGuard
from synap.http.api.headers import CONTENT_TYPE, FORWARDED_FOR, HOST, Way, way_of
from synap.http.api.known_credentials import KnownCredentials
from synap.http.api.request import is_json
from synap.http.server import head_lines
from synap.http.server.head_lines import Rule

_RULES = {
    Way.ASIDE: Rule.SPECIAL,
    Way.ASKED: Rule.ASKED,
    Way.HOST: Rule.VALUED,
    Way.TYPE: Rule.VALUED,
    Way.CREDENTIALS: Rule.SECRET,
    Way.PLAIN: Rule.KEPT,
    Way.VARYING: Rule.PASSED,
}


class HotHeaders:
    """Says it for one worker."""

    def __init__(
        self, sites: SiteGuard, credentials: KnownCredentials | None, *, counts_clients: bool
    ) -> None:
        """
        Args:
            credentials: Those that are known; None where nobody asks for any.
            counts_clients: Whether it matters from whom a request comes through a proxy.
        """
        self._sites = sites
        self._credentials = credentials
        self._counts_clients = counts_clients

    def rule(self, name: bytes) -> Rule:
        """Return what a line with this name comes to; see `head_lines.Names`."""
        way = way_of(name)
        is_read_by_nobody = (way is Way.CREDENTIALS and self._credentials is None) or (
            name == FORWARDED_FOR and not self._counts_clients
        )
        return Rule.PASSED if is_read_by_nobody else _RULES[way]

    def number(self, name: bytes, value: bytes) -> int:
        """Return what a line comes to whose value has a meaning; see `head_lines.Names`."""
        if name == HOST:
            return head_lines.HOST if self._sites.serves(value) else head_lines.SPECIAL
        assert name == CONTENT_TYPE
        return head_lines.JSON_TYPE if is_json(value.decode()) else head_lines.OTHER_TYPE

    def hidden(self, data: bytes) -> bytes:
        """Return what stands for bytes with credentials in them; see `head_lines.Names`."""
        assert self._credentials is not None
        return self._credentials.digest(data)

    def hidden_number(self, hidden: bytes) -> int:
        """Return what a line of credentials comes to; see `head_lines.Names`."""
        assert self._credentials is not None
        return self._credentials.find(hidden)
