"""Conditions on a key's version: ETag, If-Match and If-None-Match.

The entity tag is the key's version in quotes, a strong one: the place in the log of the entry that
wrote it, so that no other content of the key ever has it. Pure.

Source: RFC 9110, sections 8.8.3, 13.1.1 and 13.1.2.
"""

from __future__ import annotations

import re

import msgspec

from synap.commands.keyspace import ABSENT
from synap.place import FORM, Place
from synap.request_errors import InvalidRequest

ASK_AGAIN = "private, no-cache"
"""Cache-Control of an answer that has an entity tag: keep it, and ask before it is used."""

_TAG = re.compile(rb'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


def etag_of(version: Place) -> str:
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

    def holds_strong(self, version: Place) -> bool:
        """Say whether If-Match holds; `version` is ABSENT for an absent key."""
        return version != ABSENT and (self.is_any or _is_in(self.strong, version))

    def holds_weak(self, version: Place) -> bool:
        """Say whether If-None-Match names this version, which is when it does not hold."""
        return version != ABSENT and (self.is_any or _is_in(self.strong | self.weak, version))


def _is_in(tags: frozenset[bytes], version: Place) -> bool:
    return version.is_known and etag_of(version).encode() in tags


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
        raise InvalidRequest(f"header {header} is neither * nor a list of tags such as {FORM}")
    return Tags(False, frozenset(strong), frozenset(weak))
