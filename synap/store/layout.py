"""What the live store's databases hold, and the facts that it tells about itself.

    database  key                                   value
    keys      a key                                 CRC-32 u32, version u64, expiry in ms u64, value
    accounts  an account's key                      the same
    requests  a request's key                       the same
    expiry    expiry in ms u64 big-endian, key      empty; for `keys` that expire
    (main)    "position"                            epoch, offset, rolling checksum, segment,
                                                    byte position, time in ms: six u64; history:
                                                    16 bytes; CRC-32 u32 of all before it

All numbers but those in the expiry index's keys are little-endian. An expiry of 0 is none. The
position is in the main database, which every commit writes anyway, so that it costs no page.

A record's checksum covers the database's key and all that follows it in the record, so that a bit
that flips in a page, and a page that lies in the wrong place, are seen by whoever reads it.

This is the second form. The first, of programs before it, had no checksums and no requests, and its
position ends at 80 bytes; `synap.store.upgrade` makes the second of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from zlib import crc32

import msgspec

from synap.commands.records import NEVER, Record
from synap.errors import StoreUnusable
from synap.frame import Pair
from synap.place import LogEnd
from synap.position import NO_HISTORY, START, Position
from synap.request_errors import RecordCorrupt

POSITION_KEY = b"position"
CHECKSUM = struct.Struct("<I")
CHECKSUM_BYTES = CHECKSUM.size
# What the checksum covers begins with version and expiry.
RECORD = struct.Struct("<QQ")
RECORD_BYTES = CHECKSUM_BYTES + RECORD.size
# Big-endian, so that the index sorts by time.
DEADLINE = struct.Struct(">Q")
DEADLINE_BYTES = DEADLINE.size

# Offset and history of a position.
APPLIED_END = struct.Struct("<8xQ32x16s4x")
# The position of the first form.
_FIRST_APPLIED = struct.Struct("<QQQQQQ16s")

# Checksum, version and expiry at once.
_unpack_head = struct.Struct("<IQQ").unpack_from
_LONG_VALUE_BYTES = 4096
_pack_checksum = CHECKSUM.pack
_unpack_checksum = CHECKSUM.unpack_from


class Applied(msgspec.Struct, frozen=True, gc=False):
    """How far the log is in the store.

    Attributes:
        position: Just after the last applied entry.
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

    @property
    def end(self) -> LogEnd:
        """The same, as readers tell it."""
        return LogEnd(self.position.offset, self.history)


class ScanPage(msgspec.Struct, frozen=True, gc=False):
    """One page of a scan.

    Attributes:
        keys: In order; may be empty although more follow.
        next: What to give as the next page's cursor; None where nothing follows.
        end: The applied end of the log that the page shows.
        folders: Of one level of a tree, the others that begin alike.
    """

    keys: list[bytes]
    next: bytes | None
    end: LogEnd
    folders: list[bytes] = []


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


def encode_record(key: bytes, version: int, expiry_ms: int, value: bytes) -> bytes:
    """Return what is stored at `key`."""
    head = RECORD.pack(version, expiry_ms)
    if len(value) > _LONG_VALUE_BYTES:
        # A copy of a long value costs more than a call.
        return _pack_checksum(crc32(value, crc32(head, crc32(key)))) + head + value
    rest = head + value
    return _pack_checksum(crc32(rest, crc32(key))) + rest


def lasting_records(pairs: Iterable[Pair], version: int) -> list[Pair]:
    """Return keys, each with what is stored there for good.

    Args:
        pairs: Keys and values.
        version: The first one's; the next ones follow.
    """
    records = []
    pack = RECORD.pack
    for place, (key, value) in enumerate(pairs, version):
        if len(value) > _LONG_VALUE_BYTES:
            records.append((key, encode_record(key, place, NEVER, value)))
        else:
            rest = pack(place, NEVER) + value
            records.append((key, _pack_checksum(crc32(rest, crc32(key))) + rest))
    return records


def check_record(key: bytes, raw: bytes | memoryview) -> None:
    """Raise RecordCorrupt unless `raw` is what was stored at `key`."""
    rest = memoryview(raw)[CHECKSUM_BYTES:]
    if len(rest) < RECORD.size or crc32(rest, crc32(key)) != _unpack_checksum(raw)[0]:
        raise RecordCorrupt(key)


def decode_record(key: bytes, raw: bytes) -> Record:
    """Return the record that is stored at `key`.

    Raises:
        RecordCorrupt: its bytes are not what was stored.
    """
    try:
        checksum, version, expiry_ms = _unpack_head(raw)
    except struct.error:
        raise RecordCorrupt(key) from None
    if crc32(raw[CHECKSUM_BYTES:], crc32(key)) != checksum:
        raise RecordCorrupt(key)
    return Record(version, expiry_ms, raw[RECORD_BYTES:])


def stored_expiry(raw: bytes | memoryview) -> int:
    """Return the expiry in a record, unchecked."""
    expiry_ms: int = RECORD.unpack_from(raw, CHECKSUM_BYTES)[1]
    return expiry_ms


def encode_applied(applied: Applied) -> bytes:
    at = applied.position
    raw = _FIRST_APPLIED.pack(
        at.epoch, at.offset, at.rolling,
        applied.segment, applied.byte_position, applied.time_ms, applied.history,
    )  # fmt: skip
    return raw + _pack_checksum(crc32(raw))


def is_first_form(raw: bytes) -> bool:
    """Say whether a store whose position is `raw` has the first form."""
    return len(raw) == _FIRST_APPLIED.size


def decode_applied(raw: bytes) -> Applied:
    """Return the position in either form.

    Raises:
        StoreUnusable: it is none, or damaged.
    """
    fields = raw[: _FIRST_APPLIED.size]
    if not is_first_form(raw) and raw[_FIRST_APPLIED.size :] != _pack_checksum(crc32(fields)):
        raise StoreUnusable("the live store's position is damaged, or of a newer program")
    epoch, offset, rolling, segment, byte_position, time_ms, history = _FIRST_APPLIED.unpack(fields)
    return Applied(Position(epoch, offset, rolling), segment, byte_position, time_ms, history)


# What stands for the position of a store that has none yet.
NOTHING_APPLIED = encode_applied(Applied(START, 0, 0, 0))
