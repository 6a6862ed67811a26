r"""Patterns for keys, as Redis has them: `*`, `?`, `[a-c]`, `[^a]` and `\\` before any of them.

Bytes match bytes; nothing here knows characters or paths. Used by the scans of the store.

Source: Redis, stringmatchlen.
"""

from __future__ import annotations

import re
from functools import lru_cache


def matches(pattern: bytes, key: bytes) -> bool:
    """Say whether all of `key` matches the pattern."""
    return compile_pattern(pattern).fullmatch(key) is not None


@lru_cache(maxsize=256)
def compile_pattern(pattern: bytes) -> re.Pattern[bytes]:
    """Translate a glob pattern into a regular expression for `fullmatch`.

    What stands between two `*` is matched at the first place that fits and not tried again
    (an atomic group), so that no pattern takes more than time linear in pattern times key.
    """
    runs: list[list[bytes]] = [[]]
    at = 0
    while at < len(pattern):
        if pattern[at : at + 1] == b"*":
            runs.append([])
            at += 1
        else:
            piece, at = _translate_one(pattern, at)
            runs[-1].append(piece)
    head, *rest = [b"".join(run) for run in runs]
    if not rest:
        return re.compile(head, re.DOTALL)
    middle = b"".join(b"(?>.*?" + run + b")" for run in rest[:-1] if run)
    return re.compile(head + middle + b".*" + rest[-1], re.DOTALL)


def _translate_one(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Return the expression for one byte of a key, and where the pattern goes on."""
    mark = pattern[at : at + 1]
    if mark == b"?":
        return b".", at + 1
    if mark == b"[":
        return _translate_class(pattern, at + 1)
    if mark == b"\\" and at + 1 < len(pattern):
        at += 1
    return re.escape(pattern[at : at + 1]), at + 1


def _translate_class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """As `_translate_one`, for the class that begins after a `[`; it may lack its `]`."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    # As ranges, not byte by byte: compiling is as long as the pattern is, whatever it accepts.
    members = b""
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
        low = high = pattern[at]
        if pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            high = pattern[at + 2]
            at += 2
        members += b"\\x%02x-\\x%02x" % (min(low, high), max(low, high))
        at += 1
    if not members:
        return (b"." if negated else b"(?!)"), at + 1
    return (b"[^" if negated else b"[") + members + b"]", at + 1


def literal_prefix(pattern: bytes) -> bytes:
    """Return the bytes that every match begins with, as far as the pattern says it plainly."""
    plain = re.match(rb"[^*?\[\\]*", pattern)
    return plain.group() if plain else b""
