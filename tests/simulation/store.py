"""The fake live store of a node: records with the shipped checksums, in pages that can get lost.

Like LMDB without syncs of its own, the pages reach the disk one by one, when the kernel likes. So
after the machine died, or the disk went away under it, each is of some other moment, and that of
the position too.
"""

from __future__ import annotations

from random import Random
from zlib import crc32

from synap.commands.records import is_live
from synap.frame import MARK, SET, Frame
from synap.position import START, Position
from synap.store import layout

_PAGES = 4

Records = dict[bytes, bytes]
Changes = list[tuple[bytes, bytes | None]]


class LiveStore:
    """What readers see.

    Attributes:
        records: What is stored at each key, as the shipped store encodes it.
        position: Just after the last applied frame.
    """

    def __init__(self, records: Records | None = None, position: Position = START) -> None:
        self.records: Records = dict(records or {})
        self.position = position

    def apply(self, frame: Frame) -> None:
        """Take a frame's effects."""
        self.take(changes_of(frame), frame.position)

    def take(self, changes: Changes, position: Position) -> None:
        """Take a frame's effects, which end at `position`."""
        change(self.records, changes)
        self.position = position

    def read(self, key: bytes, now_ms: int) -> bytes | None:
        """Return a key's value, None where it does not exist at `now_ms`.

        Raises:
            RecordCorrupt: what is there is not what was stored.
        """
        raw = self.records.get(key)
        if raw is None:
            return None
        record = layout.decode_record(key, raw)
        return record.value if is_live(record, now_ms) else None

    def check(self) -> None:
        """Raise RecordCorrupt unless every record is what was stored."""
        for key, raw in self.records.items():
            layout.check_record(key, raw)

    def flip_bit(self, random: Random) -> bytes | None:
        """Have a bit of a record flip; return its key, None where there is no record."""
        if not self.records:
            return None
        key = random.choice(list(self.records))
        self.records[key] = with_flipped_bit(self.records[key], random)
        return key

    def lose_pages(self, base: LiveStore, frames: list[Frame], random: Random) -> None:
        """Have each page be of some earlier moment.

        Args:
            base: What the store held before `frames`.
            frames: All that was applied since.
        """
        kept = [random.randrange(len(frames) + 1) for _ in range(_PAGES + 1)]
        held = dict(base.records)
        for number, frame in enumerate(frames):
            changes = changes_of(frame)
            change(held, [each for each in changes if number < kept[_page_of(each[0])]])
        self.records = held
        applied = frames[: kept[_PAGES]]
        self.position = applied[-1].position if applied else base.position


def changes_of(frame: Frame) -> Changes:
    """Return what a frame makes of each key: its new record, or None where it removes the key."""
    return [
        (
            entry.key,
            layout.encode_record(entry.key, version, entry.expiry_ms, entry.value)
            if entry.operation == SET
            else None,
        )
        for version, entry in enumerate(frame.entries(), frame.first_offset)
        if entry.operation != MARK
    ]


def change(records: Records, changes: Changes) -> None:
    """Make changes in their order."""
    for key, raw in changes:
        if raw is None:
            records.pop(key, None)
        else:
            records[key] = raw


def with_flipped_bit(content: bytes, random: Random) -> bytes:
    """Return `content` with one bit the other way."""
    flipped = bytearray(content)
    bit = random.randrange(8 * len(flipped))
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def _page_of(key: bytes) -> int:
    return crc32(key) % _PAGES
