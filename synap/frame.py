"""The frame: a batch of entries that commits as one, and its bytes.

The bytes that the writer puts in the WAL are the bytes it publishes, the bytes that catch-up reads
back and the bytes that a replica appends. This module turns entries into those bytes and back, and
knows neither files nor sockets. `docs/wal-format.md` describes the layout for other programs.

Header, 56 bytes, little-endian:

    at  size  field
     0     4  magic "SYNF"
     4     1  version, 1
     5     1  flags, 0
     6     2  header length, 56
     8     8  epoch
    16     8  first offset
    24     4  entry count, at least 1
    28     4  payload length in bytes
    32     8  wall clock in ms since 1970
    40     4  CRC-32 of the payload
    44     8  rolling checksum of the log up to and with this frame
    52     4  CRC-32 of the 52 header bytes before it

Entry, 16 bytes and then key and value:

     0     1  operation: 1 SET, 2 DEL, 3 FLUSH
     1     1  space: 0 users' keys, 1 accounts
     2     2  key length in bytes
     4     4  value length in bytes (SET alone)
     8     8  expiry in ms since 1970, 0 for none (SET alone)

The rolling checksum is the first 8 bytes of BLAKE2b over the checksum before this frame and this
frame's header up to it. It covers the payload through the payload's CRC, so its cost does not grow
with the values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec

from synap.errors import FrameCorrupt, FrameTruncated
from synap.position import Position

SET = 1
DEL = 2
FLUSH = 3

KEYS = 0
ACCOUNTS = 1
SPACES = (KEYS, ACCOUNTS)

MAGIC = b"SYNF"
VERSION = 1
# 256 MiB: no honest frame comes near it (a batch is bounded by server.max_request_size_mb), and
# a length field that lies can't make a reader allocate more.
MAX_PAYLOAD_BYTES = 256 * 1024 * 1024

_BODY = struct.Struct("<4sBBHQQIIQI")
_ROLLING = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<4sBBHQQIIQIQI")
ENTRY = struct.Struct("<BBHIQ")
_EMPTY_HASH = blake2b(digest_size=8)

HEADER_BYTES = _HEADER.size
ENTRY_BYTES = ENTRY.size


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One effect on one key.

    Attributes:
        operation: SET, DEL or FLUSH (which empties the whole space).
        key: 1 to 503 bytes; empty for FLUSH.
        value: The new value's bytes; empty unless SET.
        expiry_ms: Wall clock in ms at which the key is gone; 0 for never.
        space: KEYS or ACCOUNTS.
    """

    operation: int
    key: bytes = b""
    value: bytes = b""
    expiry_ms: int = 0
    space: int = KEYS


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One decoded frame.

    Attributes:
        epoch: The reign that wrote it.
        first_offset: Offset of its first entry.
        count: Number of its entries, at least 1.
        time_ms: The master's wall clock when it was written.
        rolling: Rolling checksum of the log up to and with this frame.
        encoded: All its bytes, header and payload.
    """

    epoch: int
    first_offset: int
    count: int
    time_ms: int
    rolling: int
    encoded: bytes

    @property
    def last_offset(self) -> int:
        return self.first_offset + self.count - 1

    @property
    def position(self) -> Position:
        """The position just behind this frame."""
        return Position(self.epoch, self.last_offset, self.rolling)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in the order of their offsets.

        Raises:
            FrameCorrupt: the payload does not hold exactly `count` well-formed entries.
        """
        data = self.encoded
        at, end = HEADER_BYTES, len(data)
        for _ in range(self.count):
            if at + ENTRY_BYTES > end:
                raise FrameCorrupt("an entry ends behind the frame")
            operation, space, key_bytes, value_bytes, expiry_ms = ENTRY.unpack_from(data, at)
            key_at = at + ENTRY_BYTES
            value_at = key_at + key_bytes
            at = value_at + value_bytes
            if at > end or operation not in (SET, DEL, FLUSH) or space not in SPACES:
                raise FrameCorrupt(f"entry with operation {operation}, space {space}")
            yield Entry(operation, data[key_at:value_at], data[value_at:at], expiry_ms, space)
        if at != end:
            raise FrameCorrupt(f"{end - at} bytes behind the last entry")


def encode_frame(
    entries: Iterable[Entry], *, previous: Position, epoch: int, time_ms: int
) -> Frame:
    """Encode `entries` as the frame that follows `previous`.

    Args:
        entries: At least one, in order; the first gets the offset `previous.offset + 1`.
        previous: Where the log stands.
        epoch: The reign that writes, not below `previous.epoch`.
        time_ms: Wall clock in ms.

    Raises:
        ValueError: there is no entry, or they take more than MAX_PAYLOAD_BYTES.
    """
    parts: list[bytes] = []
    pack = ENTRY.pack
    for entry in entries:
        key, value = entry.key, entry.value
        header = pack(entry.operation, entry.space, len(key), len(value), entry.expiry_ms)
        parts += header, key, value
    count = len(parts) // 3
    payload = b"".join(parts)
    if count < 1 or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{count} entries of {len(payload)} bytes make no frame")
    first_offset = previous.offset + 1
    body = _BODY.pack(
        MAGIC, VERSION, 0, HEADER_BYTES,
        epoch, first_offset, count, len(payload), time_ms, crc32(payload),
    )  # fmt: skip
    rolling = _roll(previous.rolling, body)
    head = body + _ROLLING.pack(rolling)
    encoded = b"".join((head, _CRC.pack(crc32(head)), payload))
    return Frame(epoch, first_offset, count, time_ms, rolling, encoded)


def frame_bytes(buffer: bytes | memoryview, at: int = 0) -> int:
    """Return the whole length in bytes of the frame at `at`, from its header alone.

    Raises:
        FrameTruncated: fewer than HEADER_BYTES bytes are left.
        FrameCorrupt: the header's magic, version or CRC is wrong.
    """
    length: int = _read_header(buffer, at)[7]
    return HEADER_BYTES + length


def check_frame(buffer: bytes, at: int = 0) -> int:
    """Return the whole length in bytes of the frame at `at`, with all that `decode_frame` checks.

    Raises:
        FrameTruncated: the buffer ends inside the frame.
        FrameCorrupt: magic, version, a length or a CRC is wrong.
    """
    header = _read_header(buffer, at)
    begin = at + HEADER_BYTES
    end: int = begin + header[7]
    if end > len(buffer):
        raise FrameTruncated(f"{end - len(buffer)} bytes of the frame are missing")
    if crc32(memoryview(buffer)[begin:end]) != header[9]:
        raise FrameCorrupt("the payload's CRC does not match")
    return end - at


def last_offset_of(buffer: bytes, at: int = 0) -> int:
    """Return the last offset of the frame at `at`, from its header alone; errors as there."""
    header = _read_header(buffer, at)
    last_offset: int = header[5] + header[6] - 1
    return last_offset


def decode_frame(buffer: bytes | memoryview, at: int = 0) -> Frame:
    """Decode and check the frame at byte `at` of `buffer`.

    The bytes are copied, so that the frame outlives the buffer.

    Raises:
        FrameTruncated: the buffer ends inside the frame.
        FrameCorrupt: magic, version, a length or a CRC is wrong.
    """
    header = _read_header(buffer, at)
    _, _, _, _, epoch, first_offset, count, length, time_ms, payload_crc, rolling, _ = header
    end = at + HEADER_BYTES + length
    if end > len(buffer):
        raise FrameTruncated(f"{end - len(buffer)} bytes of the frame are missing")
    encoded = bytes(buffer[at:end])
    if crc32(memoryview(encoded)[HEADER_BYTES:]) != payload_crc:
        raise FrameCorrupt("the payload's CRC does not match")
    return Frame(epoch, first_offset, count, time_ms, rolling, encoded)


def follows(frame: Frame, previous: Position) -> bool:
    """Say whether `frame` is the next one after `previous` in the same log."""
    return (
        frame.first_offset == previous.offset + 1
        and frame.epoch >= previous.epoch
        and frame.rolling == _roll(previous.rolling, frame.encoded[: _BODY.size])
    )


def _read_header(buffer: bytes | memoryview, at: int) -> tuple[Any, ...]:
    if len(buffer) - at < HEADER_BYTES:
        raise FrameTruncated(f"{len(buffer) - at} bytes are no header")
    header = _HEADER.unpack_from(buffer, at)
    if header[0] != MAGIC:
        raise FrameCorrupt("no frame begins here")
    if crc32(buffer[at : at + HEADER_BYTES - 4]) != header[11]:
        raise FrameCorrupt("the header's CRC does not match")
    if header[1] != VERSION or header[2] or header[3] != HEADER_BYTES:
        raise FrameCorrupt(
            f"frame version {header[1]} with flags {header[2]} is not known to this program"
        )
    if header[6] < 1 or header[7] > MAX_PAYLOAD_BYTES:
        raise FrameCorrupt(f"{header[6]} entries in {header[7]} bytes")
    return header


def _roll(previous: int, body: bytes) -> int:
    digest = _EMPTY_HASH.copy()
    digest.update(_ROLLING.pack(previous) + body)
    return int.from_bytes(digest.digest(), "little")
