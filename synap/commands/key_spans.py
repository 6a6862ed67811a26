"""Spans of keys that lie together in the order of their bytes.

Pure. A caller's permissions say which spans they may read (`synap.auth.permissions`), and walks
through the store keep to these, so that they take no time for what lies between.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class KeySpan(msgspec.Struct, frozen=True, gc=False, order=True):
    """Keys that lie together. Spans are ordered as their keys are.

    Attributes:
        prefix: What they begin with; b"" for all keys.
        is_exact: Whether it is the one key `prefix` alone.
    """

    prefix: bytes
    is_exact: bool = False

    def covers(self, other: KeySpan) -> bool:
        """Say whether all keys of `other` are in this one."""
        return self == other if self.is_exact else other.prefix.startswith(self.prefix)

    def holds(self, key: bytes) -> bool:
        """Say whether `key` is in this span."""
        return key == self.prefix if self.is_exact else key.startswith(self.prefix)


ALL_KEYS = (KeySpan(b""),)


def apart(spans: Iterable[KeySpan]) -> tuple[KeySpan, ...]:
    """Return the same keys in order, without spans that lie in others."""
    found: list[KeySpan] = []
    for span in sorted(spans):
        if not (found and found[-1].covers(span)):
            found.append(span)
    return tuple(found)


def common(some: Iterable[KeySpan], others: Iterable[KeySpan]) -> tuple[KeySpan, ...]:
    """Return the keys that are in both, in order."""
    others = tuple(others)
    inner = [
        other if one.covers(other) else one
        for one in some
        for other in others
        if one.covers(other) or other.covers(one)
    ]
    return apart(inner)
