"""What is stored for a key, and the rules by which it is read.

At `now_ms >= expiry_ms` a key is gone for every rule here, whether it was swept or not. The time
comes in; `commands` has what changes keys.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from synap.request_errors import KeyInvalid

# LMDB's keys end at 511 bytes, and the expiry index puts 8 bytes before the key.
MAX_KEY_BYTES = 503
NEVER = 0
"""The `expiry_ms` of a key that does not expire."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A stored key's content.

    Attributes:
        version: Offset of the entry that wrote it.
        expiry_ms: Wall clock in ms at which it is gone; NEVER where it does not expire.
        value: Its bytes.
    """

    version: int
    expiry_ms: int
    value: bytes


def check_key(key: bytes) -> None:
    """Raise KeyInvalid, naming the limit, unless `key` can be stored."""
    if not key:
        raise KeyInvalid(f"the key is empty; it must have 1 to {MAX_KEY_BYTES} bytes")
    if len(key) > MAX_KEY_BYTES:
        raise KeyInvalid(f"the key has {len(key)} bytes; the limit is {MAX_KEY_BYTES} bytes")


def check_keys(keys: Collection[bytes]) -> None:
    """As `check_key`, for each of `keys`."""
    if keys and not (min(map(len, keys)) and max(map(len, keys)) <= MAX_KEY_BYTES):
        for key in keys:
            check_key(key)


def is_live(record: Record | None, now_ms: int) -> bool:
    """Say whether the key exists at `now_ms`."""
    return record is not None and (record.expiry_ms == NEVER or now_ms < record.expiry_ms)


def ttl_seconds(record: Record, now_ms: int) -> int | None:
    """Return the whole seconds left of a live key, rounded down; None where it has no expiry."""
    return None if record.expiry_ms == NEVER else (record.expiry_ms - now_ms) // 1000


def slice_range(value: bytes, start: int, end: int) -> bytes:
    """Return the bytes from `start` to `end`, both inclusive; negative ones count from the end.

    A start before the value is its first byte, an end after it its last; a range that is
    then empty gives no bytes.

    Source: Redis, GETRANGE.
    """
    size = len(value)
    first = max(start + size, 0) if start < 0 else start
    behind = (end + size if end < 0 else end) + 1
    return value[first:behind] if first < behind else b""
