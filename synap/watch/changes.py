"""A frame of the log as the changes that it made to users' keys.

A batch keeps what was made of it, so that a second watcher of the same keys costs a look.
"""

from __future__ import annotations

from base64 import b64encode
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import takewhile

import msgspec

from synap.frame import DEL, FLUSH, KEYS, SET, Cause, Frame
from synap.place import Reigns
from synap.watch.filters import Selector

# What an entry takes up beside its bytes, about.
_CHANGE_BYTES = 200
# From so many changes on it is looked up by key which of them somebody wants.
_MANY = 16
_encode = msgspec.json.Encoder().encode
# The numbers of all changes of a frame that has few.
_NUMBERS = tuple(tuple(range(count)) for count in range(65))
_CAUSES = {cause.value: cause.name.lower() for cause in Cause}


class Change(msgspec.Struct, frozen=True, gc=False):
    """One entry about users' keys.

    Attributes:
        operation: SET, DEL or FLUSH.
        offset: The entry's.
        key: For a FLUSH, what the removed keys begin with.
        value: SET alone.
        expiry_ms: SET alone; 0 for never.
        cause: DEL alone.
    """

    operation: int
    offset: int
    key: bytes
    value: bytes = b""
    expiry_ms: int = 0
    cause: int = Cause.CLIENT


class _Told(msgspec.Struct, tag_field="op", tag="set", gc=False):
    """What is told of a SET without a deadline, with its value: nearly all of a busy log."""

    key: str
    value: str
    version: str
    expires_at_ms: int | None = None


class Values(msgspec.Struct, frozen=True):
    """How values are told.

    Attributes:
        is_inline: Whether they are told at all.
        max_bytes: Longer ones are left out.
    """

    is_inline: bool
    max_bytes: int


class Batch:
    """What one frame did: all of its changes happened at once.

    Attributes:
        first_offset, last_offset: Of the frame.
        time_ms: The master's wall clock when it was written.
        token: The printed place of its end.
        count: Changes of users' keys; none for a frame about other things.
        all: Their numbers; `select` returns this where it takes all of them.
        size: About what it takes up, in bytes.
        told: Its events, by the numbers of the changes in them and by how they are told; for
            `forms`.
    """

    __slots__ = (
        "_bodies", "_by_key", "_changes", "_made", "_pairs", "_reigns", "_selected", "all", "count",
        "first_offset", "last_offset", "size", "time_ms", "token", "told",
    )  # fmt: skip

    def __init__(self, frame: Frame, reigns: Reigns) -> None:
        """
        Args:
            reigns: The lineage up to this frame's reign, or a later one.

        Raises:
            FrameCorrupt: the frame's entries are not well formed.
        """
        self.first_offset = frame.first_offset
        self.last_offset = frame.last_offset
        self.time_ms = frame.time_ms
        self.token = reigns.token(frame.last_offset)
        # Of a frame that does nothing but SETs for good; else its changes are made at once.
        self._pairs = frame.plain_pairs()
        self._changes = None if self._pairs is not None else _changes_of(frame)
        self.count = len(self._pairs or self._changes or ())
        self.size = 2 * len(frame.encoded) + _CHANGE_BYTES * self.count
        few = self.count < len(_NUMBERS)
        self.all = _NUMBERS[self.count] if few else tuple(range(self.count))
        self._reigns = reigns
        # By selector the numbers of the changes that it takes; by these, the bytes.
        self._selected: dict[Selector, tuple[int, ...]] = {}
        self._made: dict[tuple[int, Values], bytes] = {}
        self._bodies: dict[tuple[tuple[int, ...], Values], bytes] = {}
        self.told: dict[tuple[tuple[int, ...], object], bytes] = {}
        # Where there are many changes, their keys in order with their numbers.
        self._by_key: list[tuple[bytes, int]] | None = None

    @property
    def changes(self) -> list[Change]:
        """The changes, in order."""
        if self._changes is None:
            pairs = enumerate(self._pairs or (), self.first_offset)
            self._changes = [Change(SET, offset, key, value) for offset, (key, value) in pairs]
        return self._changes

    def told_keys(self) -> Iterator[bytes | None]:
        """Yield the changes' keys in order; None for a FLUSH."""
        if self._pairs is not None:
            return (key for key, _ in self._pairs)
        return (None if change.operation == FLUSH else change.key for change in self.changes)

    def select(self, selector: Selector) -> tuple[int, ...]:
        """Return the numbers of the changes that watchers get; a FLUSH is for everybody."""
        if selector.is_all:
            return self.all
        found = self._selected.get(selector)
        if found is None:
            if self.count < _MANY:
                accepts = selector.accepts
                found = tuple(
                    number
                    for number, key in enumerate(self.told_keys())
                    if key is None or accepts(key)
                )
            else:
                found = tuple(sorted(self._found(selector)))
            self._selected[selector] = found
        return found

    def _found(self, selector: Selector) -> Iterator[int]:
        """Yield what `select` returns, without a look at every change for every selector."""
        if self._by_key is None:
            keys = enumerate(self.told_keys())
            # A FLUSH comes first: no key is empty.
            self._by_key = sorted((key or b"", number) for number, key in keys)
        by_key, accepts = self._by_key, selector.accepts
        for _, number in takewhile(lambda each: not each[0], by_key):
            yield number
        for span in selector.spans:
            for at in range(bisect_left(by_key, (span.prefix or b"\0",)), len(by_key)):
                key, number = by_key[at]
                if not span.holds(key):
                    break
                if accepts(key):
                    yield number

    def body(self, numbers: tuple[int, ...], values: Values) -> bytes:
        """Return the fields of an event about some of the changes, as JSON without its braces."""
        found = self._bodies.get((numbers, values))
        if found is None:
            made = self._plain(values) if numbers == self.all else None
            if made is None:
                made = b",".join([self._change(number, values) for number in numbers])
            found = b'"time_ms":%d,"changes":[%b]' % (self.time_ms, made)
            self._bodies[numbers, values] = found
        return found

    def _plain(self, values: Values) -> bytes | None:
        """Return all changes, made at once; None where one of them is not told plainly."""
        pairs, first = self._pairs, self.first_offset
        if pairs is None or not values.is_inline:
            return None
        if self.size > values.max_bytes and any(
            len(value) > values.max_bytes for _, value in pairs
        ):
            return None
        # One reign wrote the whole frame.
        suffix = self.token[self.token.index("-") :]
        try:
            told = [
                _Told(key.decode(), value.decode(), f"{offset}{suffix}")
                for offset, (key, value) in enumerate(pairs, first)
            ]
        except UnicodeDecodeError:
            return None
        return _encode(told)[1:-1]

    def _change(self, number: int, values: Values) -> bytes:
        found = self._made.get((number, values))
        if found is None:
            found = _encode(_shown(self.changes[number], self._reigns, values))
            self._made[number, values] = found
        return found


def value_fields(value: bytes, values: Values) -> dict[str, object]:
    """Return the fields that tell a value."""
    if not values.is_inline:
        return {}
    if len(value) > values.max_bytes:
        return {"truncated": True}
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": b64encode(value).decode()}


def _shown(change: Change, reigns: Reigns, values: Values) -> dict[str, object]:
    if change.operation == FLUSH:
        # All keys, or those that begin alike.
        prefix = {"prefix": _text(change.key)} if change.key else {}
        return {"op": "flush", **prefix}
    if change.operation == DEL:
        cause = _CAUSES.get(change.cause, str(change.cause))
        return {"op": "del", "key": _text(change.key), "cause": cause}
    return {
        "op": "set",
        "key": _text(change.key),
        **value_fields(change.value, values),
        "version": reigns.token(change.offset),
        "expires_at_ms": change.expiry_ms or None,
    }


def _text(key: bytes) -> str:
    # Keys are UTF-8; what a log of another program holds is shown all the same.
    return key.decode("utf-8", "backslashreplace")


def _changes_of(frame: Frame) -> list[Change]:
    return [
        Change(entry.operation, number, entry.key, entry.value, entry.expiry_ms, entry.cause)
        for number, entry in enumerate(frame.entries(), frame.first_offset)
        if entry.space == KEYS and entry.operation in (SET, DEL, FLUSH)
    ]


def batches_of(frames: Iterable[Frame], reigns: Reigns) -> list[Batch]:
    """Return the frames as batches."""
    return [Batch(frame, reigns) for frame in frames]
