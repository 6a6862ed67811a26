"""What the live store's databases hold, and the facts that it tells about itself.

    database  key                                   value
    keys      a key                                 version u64, expiry in ms u64, value
    accounts  an account's key                      the same
    expiry    expiry in ms u64 big-endian, key      empty; for `keys` that expire
    (main)    "position"                            epoch, offset, rolling checksum, segment,
                                                    byte position, time in ms: six u64; history:
                                                    16 bytes

All numbers but those in the expiry index's keys are little-endian. An expiry of 0 is none. The
position is in the main database, which every commit writes anyway, so that it costs no page.
"""

from __future__ import annotations

import struct

import msgspec

from synap.commands.records import Record
from synap.position import NO_HISTORY, START, Position

POSITION_KEY = b"position"
RECORD = struct.Struct("<QQ")
RECORD_BYTES = RECORD.size
# Big-endian, so that the index sorts by time.
DEADLINE = struct.Struct(">Q")
DEADLINE_BYTES = DEADLINE.size

APPLIED = struct.Struct("<QQQQQQ16s")


class Applied(msgspec.Struct, frozen=True, gc=False):
    """How far the log is in the store.

    Attributes:
        position: Just behind the last applied entry.
        segment: First offset of the WAL segment that holds its frame.
        byte_position: Where in that segment the next frame begins.
        time_ms: The master's wall clock in that frame.
        history: Id of the reign that wrote it.
    """

    position: Position
    segment: int
    byte_position: int
    time_ms: int
    history: bytes = NO_HISTORY


class ScanPage(msgspec.Struct, frozen=True, gc=False):
    """One page of a scan.

    Attributes:
        keys: In order; may be empty although more follow.
        next: What to give as the next page's cursor; None where nothing follows.
        offset: The offset that the page shows.
    """

    keys: list[bytes]
    next: bytes | None
    offset: int


class StoreFacts(msgspec.Struct, frozen=True):
    """What the store takes up.

    Attributes:
        keys: Stored keys, expired ones that weren't swept too.
        expiring: Those of them that have a deadline.
        used_bytes: Pages that hold data.
        free_bytes: Pages in the file that the next transactions can use, or will be able to when
            the readers that see them are gone.
        file_bytes: What the file takes up.
        map_bytes: What it can grow to.
        readers: Read transactions that are open now, in all processes.
        oldest_reader_age: By how many transactions the oldest of them is behind; 0 without any.
    """

    keys: int
    expiring: int
    used_bytes: int
    free_bytes: int
    file_bytes: int
    map_bytes: int
    readers: int
    oldest_reader_age: int


def decode_record(raw: bytes) -> Record:
    version, expiry_ms = RECORD.unpack_from(raw)
    return Record(version, expiry_ms, raw[RECORD_BYTES:])


def encode_applied(applied: Applied) -> bytes:
    at = applied.position
    return APPLIED.pack(
        at.epoch, at.offset, at.rolling,
        applied.segment, applied.byte_position, applied.time_ms, applied.history,
    )  # fmt: skip


def decode_applied(raw: bytes) -> Applied:
    epoch, offset, rolling, segment, byte_position, time_ms, history = APPLIED.unpack(raw)
    return Applied(Position(epoch, offset, rolling), segment, byte_position, time_ms, history)


# What stands for the position of a store that has none yet.
NOTHING_APPLIED = encode_applied(Applied(START, 0, 0, 0))
