"""Walks through many keys of the live store: pages, counts, digests, a key at random.

Each takes cursors of one read transaction and leaves that transaction to the store. A cursor that
is new stands nowhere, and goes on from the first key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from random import Random
from typing import Any

from lmdb import Cursor

from synap.commands.glob import compile_pattern, literal_prefix
from synap.commands.key_spans import ALL_KEYS, KeySpan, common
from synap.commands.records import MAX_KEY_BYTES
from synap.store.layout import (
    CHECKSUM_BYTES,
    DEADLINE,
    DEADLINE_BYTES,
    RECORD_BYTES,
    check_record,
    stored_expiry,
)

# After a folder's name: behind all of its keys, for no UTF-8 has this byte.
PAST_FOLDER = b"\xff"
# Before each entry in the digest: space, key length, length of the record without its checksum.
_DIGESTED = struct.Struct("<BHI")


def scan(
    cursor: Cursor[Any],
    prefix: bytes,
    after: bytes | None,
    *,
    limit: int,
    now_ms: int,
    pattern: bytes | None,
    max_visited: int,
    spans: Sequence[KeySpan] = ALL_KEYS,
    accepts: Callable[[bytes], bool] | None = None,
) -> tuple[list[bytes], bytes | None]:
    """Collect live keys in order.

    Args:
        cursor: On the keys, of a transaction with buffers, so that values aren't copied.
        prefix: What the keys begin with.
        after: Only keys after this one, which need not exist; None for all.
        limit: At most so many keys.
        pattern: A glob that they match; None for all.
        max_visited: Look at most at so many keys, live and matching or not.
        spans: Where to look, apart from each other and in order; no other key is visited.
        accepts: Tells which keys of these to show; None for all.

    Returns:
        The keys, and where more may follow, what to give as `after` for them.
    """
    prefix = _narrow(prefix, pattern)
    fits = compile_pattern(pattern).fullmatch if pattern is not None else None
    start = prefix if after is None or after < prefix else after + b"\0"
    found: list[bytes] = []
    key, left = b"", max_visited
    for span in common(spans, (KeySpan(prefix),)):
        beginning, size = span.prefix, len(span.prefix)
        if start > beginning and not start.startswith(beginning):
            continue
        # LMDB refuses longer ones, and none is needed: no key is longer than its first bytes.
        if not cursor.set_range(max(start, beginning)[: MAX_KEY_BYTES + 1]):
            break
        for raw, record in cursor.iternext():
            if raw[:size] != beginning or (span.is_exact and len(raw) > size):
                break
            if not left or len(found) == limit:
                return found, key
            left -= 1
            key = bytes(raw)
            expiry_ms = stored_expiry(record)
            if (
                (not expiry_ms or now_ms < expiry_ms)
                and (fits is None or fits(key))
                and (accepts is None or accepts(key))
            ):
                found.append(key)
    return found, None


def scan_level(
    cursor: Cursor[Any],
    prefix: bytes,
    delimiter: bytes,
    after: bytes | None,
    *,
    limit: int,
    now_ms: int,
    max_visited: int,
    spans: Sequence[KeySpan] = ALL_KEYS,
    accepts: Callable[[bytes], bool] | None = None,
) -> tuple[list[bytes], list[bytes], bytes | None]:
    """Collect one level of a tree: keys without the delimiter after the prefix, and folders.

    A folder is the part of a key up to the delimiter, with it. It costs one look, however many
    keys it holds.

    Args:
        delimiter: Not empty.
        limit: At most so many keys and folders.
        As for `scan`.

    Returns:
        The keys, the folders, and where more may follow, what to give as `after` for them.
    """
    keys: list[bytes] = []
    folders: list[bytes] = []
    place = prefix if after is None or after < prefix else after + b"\0"
    last, left = b"", max_visited
    for span in common(spans, (KeySpan(prefix),)):
        place = max(place, span.prefix)
        while place.startswith(span.prefix) and cursor.set_range(place[: MAX_KEY_BYTES + 1]):
            raw, record = cursor.item()
            if not span.holds(key := bytes(raw)):
                break
            if not left or len(keys) + len(folders) == limit:
                return keys, folders, last
            left -= 1
            last, expiry_ms = key, stored_expiry(record)
            if (not expiry_ms or now_ms < expiry_ms) and (accepts is None or accepts(key)):
                name, is_folder, _ = key[len(prefix) :].partition(delimiter)
                if is_folder:
                    folders.append(prefix + name + delimiter)
                    last = folders[-1] + PAST_FOLDER
                else:
                    keys.append(key)
            place = last + b"\0"
    return keys, folders, None


def records(
    cursor: Cursor[bytes], prefix: bytes, spans: Sequence[KeySpan] = ALL_KEYS
) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys with what is stored at them, live or not, in order.

    Args:
        prefix: What the keys begin with.
        spans: Where to look, apart from each other and in order; no other key is visited.
    """
    for span in common(spans, (KeySpan(prefix),)):
        beginning, size = span.prefix, len(span.prefix)
        if not cursor.set_range(beginning[: MAX_KEY_BYTES + 1]):
            return
        for key, record in cursor.iternext():
            if key[:size] != beginning or (span.is_exact and len(key) > size):
                break
            yield key, record


def due(deadlines: Cursor[bytes], now_ms: int) -> Iterator[bytes]:
    """Yield the keys that are expired at `now_ms`, the longest expired first."""
    for entry in due_entries(deadlines, now_ms):
        yield entry[DEADLINE_BYTES:]


def due_entries(deadlines: Cursor[bytes], now_ms: int) -> Iterator[bytes]:
    """Yield the index's entries of the same: deadline and key."""
    bound = DEADLINE.pack(now_ms + 1)
    for entry in deadlines.iternext(True, False):
        if entry >= bound:
            return
        yield entry


def count_due(deadlines: Cursor[bytes], now_ms: int) -> int:
    """Count the keys that are expired at `now_ms`; takes time for each of them."""
    return sum(1 for _ in due(deadlines, now_ms))


def run(cursor: Cursor[bytes], start: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Return the next keys, and where the next run starts.

    Args:
        start: The first key, or one that has gone; b"" for the first of all, which also follows
            the last.
    """
    if not (start and cursor.set_range(start)) and not cursor.first():
        return [], b""
    found = list(islice(cursor.iternext(True, False), count + 1))
    return (found[:-1], found[-1]) if len(found) > count else (found, b"")


def random_key(cursor: Cursor[bytes], random: Random, span: KeySpan = ALL_KEYS[0]) -> bytes | None:
    """Return any key of a span, expired or not; None where there is none.

    Goes down the tree of the keys' bytes and takes one branch at random at each fork, so that every
    key can come, but one in a thin branch comes more often than one in a thick branch.
    """
    prefix = span.prefix[: MAX_KEY_BYTES + 1]
    while cursor.set_range(prefix) if prefix else cursor.first():
        if not span.holds(cursor.key()):
            return None
        if span.is_exact:
            return span.prefix
        first, last = cursor.key(), _last_with(cursor, prefix)
        if first == last:
            return first
        shared = _shared_prefix(first, last)
        prefix = random.choice(_branches(cursor, shared))
        if prefix == shared:
            return shared
    return None


def digest(spaces: list[tuple[int, Cursor[bytes]]], *, has_checksums: bool = True) -> str:
    """Return the SHA-256, in hex, of every entry: each space in turn, each in the keys' order.

    Checksums are compared and left out, so that stores of both forms agree.

    Raises:
        RecordCorrupt: a record is not what was stored.
    """
    state = sha256()
    for space, cursor in spaces:
        for key, raw in cursor.iternext():
            if has_checksums:
                check_record(key, raw)
            record = raw[CHECKSUM_BYTES:] if has_checksums else raw
            state.update(_DIGESTED.pack(space, len(key), len(record)) + key + record)
    return state.hexdigest()


def _narrow(prefix: bytes, pattern: bytes | None) -> bytes:
    """Return the longer one of `prefix` and what every match of `pattern` begins with."""
    literal = b"" if pattern is None else literal_prefix(pattern)
    return literal if literal.startswith(prefix) else prefix


def _last_with(cursor: Cursor[bytes], prefix: bytes) -> bytes:
    """Return the last key that begins with `prefix`; there is one."""
    stem = prefix.rstrip(b"\xff")
    behind = stem[:-1] + bytes([stem[-1] + 1]) if stem else b""
    if behind and cursor.set_range(behind):
        cursor.prev()
    else:
        cursor.last()
    return cursor.key()


def _shared_prefix(first: bytes, last: bytes) -> bytes:
    for at, (left, right) in enumerate(zip(first, last, strict=False)):
        if left != right:
            return first[:at]
    return min(first, last, key=len)


def _branches(cursor: Cursor[bytes], shared: bytes) -> list[bytes]:
    """Return the beginnings of keys one byte longer than `shared`, and `shared` if it is a key."""
    found = []
    probe, end = shared, len(shared)
    while cursor.set_range(probe) if probe else cursor.first():
        branch = cursor.key()[: end + 1]
        if branch[:end] != shared:
            break
        found.append(branch)
        if branch == shared:
            probe = shared + b"\0"
        elif branch[end] == 255:
            break
        else:
            probe = shared + bytes([branch[end] + 1])
    return found


def look_at_requests(
    cursor: Cursor[Any],
    after: bytes,
    limit: int,
    visit: Callable[[bytes, int, memoryview], object],
) -> bytes | None:
    """Show the records of requests in the order of their keys.

    Args:
        cursor: On them, of a transaction with buffers.
        after: Only those with keys after this one.
        limit: At most so many, at least 1.
        visit: Given each one's key, expiry and value, which is gone when it returns; True ends it.

    Returns:
        The last key; None where no more follow.
    """
    found = cursor.set_range(after + b"\0") if after else cursor.first()
    key: bytes | None = None
    is_over = False
    while found and limit and not is_over:
        key = bytes(cursor.key())
        raw = memoryview(cursor.value())
        is_over = visit(key, stored_expiry(raw), raw[RECORD_BYTES:]) is True
        limit -= 1
        found = cursor.next()
    return key if found else None
