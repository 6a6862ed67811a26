"""Writing the effects of many frames of the log at once: of each key only the last one, in order.

What takes the time in replaying a log is waiting for memory: entries lie there in the order of
their writes and go into pages in the order of their keys. So the frames are laid end to end, and
the places of the entries are dealt into piles of neighbouring keys. A pile is read, sorted and
written while the processor has it near, and nothing of it is kept: beside the frames themselves an
entry takes 12 bytes. Into an empty store the piles are appended, which fills each page.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import islice, repeat

import lmdb

from synap.errors import FrameCorrupt, StoreError
from synap.frame import (
    DEL,
    ENTRY_BYTES,
    FLUSH,
    HAS_FIELDS,
    HEADER_BYTES,
    KEYS,
    SET,
    Entry,
    Frame,
    entry_at,
)
from synap.store.environment import Environment
from synap.store.layout import DEADLINE, encode_record, stored_expiry

# What keys and records of this many entries take stays in a processor's second cache.
_PILE_ENTRIES = 4096
_MOST_PILES = 1024
# Keys that are looked at for each pile, so that the piles become about equally high.
_SAMPLES_A_PILE = 8

# An entry's head, with operation and space as one number: a field less to read and to look at.
_ENTRY = struct.Struct("<HHIQ")
_SET = SET | KEYS << 8
_KEYED = (_SET, DEL | KEYS << 8)


class Bulk:
    """Frames that follow one another, gathered to be applied at once.

    Attributes:
        frames: Their number.
        entries: That of their entries.
        bytes: Their length.
        last: The last of them; None before the first.
    """

    def __init__(self, frames: Iterable[Frame] = (), pile_entries: int = _PILE_ENTRIES) -> None:
        """
        Args:
            frames: The first ones.
            pile_entries: How high the piles of neighbouring keys should be.
        """
        self._pile_entries = pile_entries
        self.entries = 0
        self.bytes = 0
        self.last: Frame | None = None
        self._first_offset = 0
        self._encoded: list[bytes] = []
        self._counts = array("I")
        for frame in frames:
            self.add(frame)

    @property
    def frames(self) -> int:
        return len(self._counts)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if self.last is None:
            self._first_offset = frame.first_offset
        self.last = frame
        self.entries += frame.count
        self.bytes += len(frame.encoded)
        # Where a payload is compressed, its entries still stand after so many bytes of header.
        self._encoded.append(
            bytes(HEADER_BYTES) + frame.payload if frame.is_compressed else frame.encoded
        )
        self._counts.append(frame.count)

    def write(
        self,
        transaction: lmdb.Transaction[bytes],
        environment: Environment,
        apply_other: Callable[[Entry, int], None],
    ) -> int:
        """Carry the frames out, and let go of them; return the offset after the last entry.

        Args:
            apply_other: Carries out at once what is no SET or DEL of a user's key, given the entry
                and its offset. A FLUSH finds an emptied bulk.

        Raises:
            FrameCorrupt: a frame does not hold its count of well-formed entries.
            StoreError: not all was written.
            lmdb.Error: LMDB refuses.
        """
        ends = self._ends()
        data = b"".join(self._encoded)
        self._encoded.clear()
        try:
            piles = self._deal(data, ends, apply_other)
        except struct.error as error:
            raise FrameCorrupt("an entry ends after the frame") from error
        _Writing(transaction, environment).write(data, piles)
        return self._first_offset + self.entries

    def _ends(self) -> array[int]:
        ends, end = array("I"), 0
        for encoded in self._encoded:
            end += len(encoded)
            ends.append(end)
        return ends

    def _deal(
        self, data: bytes, ends: array[int], apply_other: Callable[[Entry, int], None]
    ) -> list[tuple[array[int], array[int]]]:
        """Return for each pile the places and the offsets of its entries, in the log's order."""
        borders = self._borders(data, ends)
        piles = [(array("I"), array("Q")) for _ in range(len(borders) + 1)]
        note_place = [places.append for places, _ in piles]
        note_offset = [offsets.append for _, offsets in piles]
        unpack, end, first_offset = _ENTRY.unpack_from, 0, self._first_offset
        for frame_end, count in zip(ends, self._counts, strict=True):
            at = end + HEADER_BYTES
            for offset in range(first_offset, first_offset + count):
                kind, key_bytes, value_bytes, _ = unpack(data, at)
                key_at = at + ENTRY_BYTES
                value_at = key_at + key_bytes
                if kind & ~HAS_FIELDS in _KEYED:
                    pile = bisect_right(borders, data[key_at:value_at])
                    note_place[pile](at)
                    note_offset[pile](offset)
                    at = value_at + value_bytes if kind in _KEYED else entry_at(data, at)[1]
                else:
                    entry, at = entry_at(data, at)
                    apply_other(entry, offset)
                    if (entry.space, entry.operation) == (KEYS, FLUSH):
                        for each in piles:
                            _forget(data, each, entry.key)
            if at != frame_end:
                raise FrameCorrupt(f"{frame_end - at} bytes after the last entry")
            end = frame_end
            first_offset += count
        return piles

    def _borders(self, data: bytes, ends: array[int]) -> list[bytes]:
        """Return keys, in order, that part the entries' keys into piles of about one height."""
        count = min(self.entries // self._pile_entries, _MOST_PILES)
        if count < 2:
            return []
        wanted = count * _SAMPLES_A_PILE
        step = max(1, self.frames // wanted)
        from_each = -(-wanted * step // self.frames)
        samples = []
        for index in range(0, self.frames, step):
            at = (ends[index - 1] if index else 0) + HEADER_BYTES
            for _ in range(min(from_each, self._counts[index])):
                kind, key_bytes, value_bytes, _ = _ENTRY.unpack_from(data, at)
                key_at = at + ENTRY_BYTES
                value_at = key_at + key_bytes
                samples.append(data[key_at:value_at])
                at = entry_at(data, at)[1] if kind & HAS_FIELDS else value_at + value_bytes
        return sorted(set(islice(sorted(samples), _SAMPLES_A_PILE, None, _SAMPLES_A_PILE)))


class _Writing:
    """The writing of dealt entries: pile after pile, the keys of each after those before it."""

    def __init__(self, transaction: lmdb.Transaction[bytes], environment: Environment) -> None:
        self._transaction = transaction
        self._have_room = environment.have_room
        self._keys = environment.keys
        self._expiry = environment.expiry
        self._cursor = transaction.cursor(environment.keys)
        self._was_empty = not transaction.stat(environment.keys)["entries"]
        self._had_expiries = bool(transaction.stat(environment.expiry)["entries"])
        self._deadlines: list[bytes] = []

    def write(self, data: bytes, piles: list[tuple[array[int], array[int]]]) -> None:
        for places, offsets in piles:
            latest, removes, expires = _read_pile(data, places, offsets)
            self._write_pile(latest, removes=removes, expires=expires)
            del places[:], offsets[:]
        self._deadlines.sort()
        self._have_room(len(self._deadlines), sum(map(len, self._deadlines)))
        index = self._transaction.cursor(self._expiry)
        is_empty = not self._transaction.stat(self._expiry)["entries"]
        _put_in_order(index, self._deadlines, repeat(b""), append=is_empty)

    def _write_pile(self, latest: dict[bytes, bytes], *, removes: bool, expires: bool) -> None:
        keys = sorted(latest)
        self._have_room(2 * len(keys), sum(map(len, keys)) + sum(map(len, latest.values())))
        if self._had_expiries:
            self._forget_deadlines(keys)
        removed = [key for key in keys if not latest[key]] if removes else []
        if removed:
            keys = [key for key in keys if latest[key]]
        records = map(latest.__getitem__, keys)
        # In order, so that each page is gone to once; into nothing they only have to be appended.
        _put_in_order(self._cursor, keys, records, append=self._was_empty)
        if not self._was_empty:
            for key in removed:
                self._transaction.delete(key, b"", self._keys)
        if expires:
            for key in keys:
                expiry_ms = stored_expiry(latest[key])
                if expiry_ms:
                    self._deadlines.append(DEADLINE.pack(expiry_ms) + key)

    def _forget_deadlines(self, keys: list[bytes]) -> None:
        """Drop what the index holds of these keys; their new deadlines come at the end."""
        for key, record in self._cursor.getmulti(keys):
            expiry_ms = stored_expiry(record)
            if expiry_ms:
                self._transaction.delete(DEADLINE.pack(expiry_ms) + key, b"", self._expiry)


def _forget(data: bytes, pile: tuple[array[int], array[int]], prefix: bytes) -> None:
    """Leave out of a pile what begins with `prefix`."""
    places, offsets = pile
    kept = [
        (at, offset)
        for at, offset in zip(places, offsets, strict=True)
        if not data.startswith(prefix, at + ENTRY_BYTES)
    ]
    del places[:], offsets[:]
    for at, offset in kept:
        places.append(at)
        offsets.append(offset)


def _put_in_order(
    cursor: lmdb.Cursor[bytes], keys: list[bytes], values: Iterable[bytes], *, append: bool
) -> None:
    """Put sorted keys; with `append` they all must lie behind what is there.

    Raises:
        StoreError: not all were written.
    """
    _, written = cursor.putmulti(zip(keys, values, strict=False), append=append)
    if written != len(keys):
        # LMDB leaves out, without a word, what is not after the last key where it appends.
        raise StoreError(f"{len(keys) - written} of {len(keys)} keys were not written")


def _read_pile(
    data: bytes, places: array[int], offsets: array[int]
) -> tuple[dict[bytes, bytes], bool, bool]:
    """Return each key's last record, empty where it is removed, and whether any is or expires."""
    latest: dict[bytes, bytes] = {}
    removes = expires = False
    unpack = _ENTRY.unpack_from
    for at, offset in zip(places, offsets, strict=True):
        kind, key_bytes, value_bytes, expiry_ms = unpack(data, at)
        key_at = at + ENTRY_BYTES
        value_at = key_at + key_bytes
        if kind & ~HAS_FIELDS == _SET:
            key = data[key_at:value_at]
            value = data[value_at : value_at + value_bytes]
            latest[key] = encode_record(key, offset, expiry_ms, value)
            if expiry_ms:
                expires = True
        else:
            latest[data[key_at:value_at]] = b""
            removes = True
    return latest, removes, expires
