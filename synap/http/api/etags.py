"""Conditions on a key's version: ETag, If-Match and If-None-Match.

The entity tag is the key's version in quotes, a strong one. Pure.

Source: RFC 9110, sections 8.8.3, 13.1.1 and 13.1.2.
"""

from __future__ import annotations

import re

import msgspec

from synap.request_errors import InvalidRequest

_TAG = re.compile(rb'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


def etag_of(version: int) -> str:
    """Return the entity tag of a version."""
    return f'"{version}"'


class Tags(msgspec.Struct, frozen=True, gc=False):
    """What a header lists.

    Attributes:
        is_any: It is `*`: whatever exists.
        strong: Tags that are compared byte for byte.
        weak: Those after `W/`, which stand for the same content at most.
    """

    is_any: bool = False
    strong: frozenset[bytes] = frozenset()
    weak: frozenset[bytes] = frozenset()

    def holds_strong(self, version: int) -> bool:
        """Say whether If-Match holds; `version` 0 is an absent key."""
        return version != 0 and (self.is_any or etag_of(version).encode() in self.strong)

    def holds_weak(self, version: int) -> bool:
        """Say whether If-None-Match names this version, which is when it does not hold."""
        if version == 0:
            return False
        tag = etag_of(version).encode()
        return self.is_any or tag in self.strong or tag in self.weak


def is_named(if_none_match: bytes, version: int) -> bool:
    """Say whether a client has this version already.

    Raises:
        InvalidRequest: the header is neither `*` nor a list of tags.
    """
    return parse_tags(if_none_match, "if-none-match").holds_weak(version)


def parse_tags(text: bytes, header: str) -> Tags:
    """Return what the value of If-Match or If-None-Match lists.

    Raises:
        InvalidRequest: it is neither `*` nor a list of tags.
    """
    text = text.strip()
    if text == b"*":
        return Tags(is_any=True)
    strong: set[bytes] = set()
    weak: set[bytes] = set()
    at = 0
    while at < len(text):
        match = _TAG.match(text, at)
        if match is None:
            break
        (weak if match[1] else strong).add(match[2])
        at = match.end()
    if at < len(text) or not (strong or weak):
        raise InvalidRequest(f'header {header} is neither * nor a list of tags such as "42"')
    return Tags(False, frozenset(strong), frozenset(weak))
