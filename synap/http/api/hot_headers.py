"""What headers say of a hot request: `headers` in the terms of `head_lines`."""

from __future__ import annotations

from synap.http.api.cross_site import SiteGuard
from synap.http.api.headers import CONTENT_TYPE, HOST, Way, way_of
from synap.http.api.request import is_json
from synap.http.server import head_lines
from synap.http.server.head_lines import Rule

_RULES = {
    Way.ASIDE: Rule.SPECIAL,
    Way.ASKED: Rule.ASKED,
    Way.HOST: Rule.VALUED,
    Way.TYPE: Rule.VALUED,
    Way.CREDENTIALS: Rule.SPECIAL,
    Way.PLAIN: Rule.KEPT,
    Way.VARYING: Rule.PASSED,
}


class HotHeaders:
    """Says it for one worker."""

    def __init__(self, sites: SiteGuard) -> None:
        self._sites = sites

    def rule(self, name: bytes) -> Rule:
        """Return what a line with this name comes to; see `head_lines.Names`."""
        return _RULES[way_of(name)]

    def number(self, name: bytes, value: bytes) -> int:
        """Return what a line comes to whose value has a meaning; see `head_lines.Names`."""
        if name == HOST:
            return head_lines.HOST if self._sites.serves(value) else head_lines.SPECIAL
        assert name == CONTENT_TYPE
        return head_lines.JSON_TYPE if is_json(value.decode()) else head_lines.OTHER_TYPE
