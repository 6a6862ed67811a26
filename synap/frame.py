"""The frame: a batch of entries that commits as one, and its bytes.

The bytes that the writer puts in the WAL are the bytes it publishes, the bytes that catch-up reads
back and the bytes that a replica appends. This module turns entries into those bytes and back, and
knows neither files nor sockets. `docs/wal-format.md` describes the layout for other programs.

Header, 56 bytes, little-endian:

    at  size  field
     0     4  magic "SYNF"
     4     1  version: 2; a program of before wrote 1
     5     1  flags: 1 where the payload is compressed (version 2)
     6     2  header length, 56
     8     8  epoch
    16     8  first offset
    24     4  entry count, at least 1
    28     4  payload length in bytes, as written
    32     8  wall clock in ms since 1970
    40     4  CRC-32 of the payload, as written
    44     8  rolling checksum of the log up to and with this frame
    52     4  CRC-32 of the 52 header bytes before it

Entry, 16 bytes and then key, value and, where announced, optional fields:

     0     1  operation: 1 SET, 2 DEL, 3 FLUSH, 4 MARK; plus 128 where optional fields follow
     1     1  space: 0 users' keys, 1 accounts, 2 requests
     2     2  key length in bytes
     4     4  value length in bytes (SET alone)
     8     8  SET: expiry in ms since 1970, 0 for none. DEL: its cause

Version 1 knows SET, DEL and FLUSH of whole spaces 0 and 1, no cause, no optional fields, no flags.

The rolling checksum is the first 8 bytes of BLAKE2b over the checksum before this frame and this
frame's header up to it. It covers the payload through the payload's CRC, so its cost does not grow
with the values.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
import zstandard

from synap.errors import FrameCorrupt, FrameTruncated
from synap.position import Position

SET = 1
DEL = 2
FLUSH = 3
MARK = 4
_OPERATIONS = (SET, DEL, FLUSH, MARK)
# Beside an operation: optional fields follow the value.
HAS_FIELDS = 128

KEYS = 0
ACCOUNTS = 1
REQUESTS = 2
SPACES = (KEYS, ACCOUNTS, REQUESTS)


class Cause(enum.IntEnum):
    """Why a key was removed; its number stands in a DEL."""

    CLIENT = 0
    EXPIRED = 1
    EVICTED = 2
    RENAMED = 3


MAGIC = b"SYNF"
VERSION = 2
# The version that programs of before this one wrote; it is read for ever.
FIRST_VERSION = 1
_COMPRESSED = 1
_KNOWN = frozenset(((FIRST_VERSION, 0), (VERSION, 0), (VERSION, _COMPRESSED)))
# 256 MiB: no honest frame comes near it (a batch is bounded by server.max_request_size_mb), and
# a length field that lies can't make a reader allocate more.
MAX_PAYLOAD_BYTES = 256 * 1024 * 1024

_BODY = struct.Struct("<4sBBHQQIIQI")
_ROLLING = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<4sBBHQQIIQIQI")
ENTRY = struct.Struct("<BBHIQ")
# An optional field: what it is, and its length. Before all of an entry's: their length in bytes.
_FIELD = struct.Struct("<BH")
_FIELDS = struct.Struct("<H")
_EMPTY_HASH = blake2b(digest_size=8)

HEADER_BYTES = _HEADER.size
ENTRY_BYTES = ENTRY.size


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One effect on one key.

    Attributes:
        operation: SET, DEL, FLUSH (removes what begins with `key` from the space, all of it where
            that is empty) or MARK (no effect: it shows that a reign has begun).
        key: 1 to 503 bytes; empty for MARK.
        value: The new value's bytes; empty unless SET.
        expiry_ms: Wall clock in ms at which the key is gone; 0 for never. SET alone.
        space: KEYS, ACCOUNTS or REQUESTS.
        cause: Why the key is removed; DEL alone.
        fields: Optional fields, what each is and its bytes; whoever does not know one skips it.
    """

    operation: int
    key: bytes = b""
    value: bytes = b""
    expiry_ms: int = 0
    space: int = KEYS
    cause: int = Cause.CLIENT
    fields: tuple[tuple[int, bytes], ...] = ()


Pair = tuple[bytes, bytes]
"""Key and value of an entry that sets a user's key for good; most entries are such."""
Effect = Entry | Pair


def as_entry(effect: Effect) -> Entry:
    """Return an effect as an entry."""
    return Entry(SET, *effect) if isinstance(effect, tuple) else effect


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
        """The position just after this frame."""
        return Position(self.epoch, self.last_offset, self.rolling)

    @property
    def version(self) -> int:
        return self.encoded[4]

    @property
    def is_compressed(self) -> bool:
        return bool(self.encoded[5] & _COMPRESSED)

    @property
    def payload(self) -> bytes:
        """The entries' bytes, uncompressed.

        Raises:
            FrameCorrupt: they can't be uncompressed, or are more than MAX_PAYLOAD_BYTES.
        """
        written = self.encoded[HEADER_BYTES:]
        return _uncompressed(written) if self.is_compressed else written

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in the order of their offsets.

        Raises:
            FrameCorrupt: the payload does not hold exactly `count` well-formed entries.
        """
        data, at = self.payload, 0
        for _ in range(self.count):
            entry, at = entry_at(data, at)
            yield entry
        if at != len(data):
            raise FrameCorrupt(f"{len(data) - at} bytes after the last entry")

    def plain_pairs(self) -> list[Pair] | None:
        """Return keys and values where all entries set users' keys for good; None for any others.

        None for malformed ones too: `entries` tells what is wrong.
        """
        data, at = self.payload, 0
        pairs = []
        unpack = ENTRY.unpack_from
        try:
            for _ in range(self.count):
                kind, space, key_bytes, value_bytes, expiry_ms = unpack(data, at)
                if kind != SET or space != KEYS or expiry_ms:
                    return None
                value_at = at + ENTRY_BYTES + key_bytes
                pairs.append(
                    (data[at + ENTRY_BYTES : value_at], data[value_at : value_at + value_bytes])
                )
                at = value_at + value_bytes
        except struct.error:
            return None
        return pairs if at == len(data) else None


def entry_at(data: bytes, at: int) -> tuple[Entry, int]:
    """Return the entry at byte `at` of a payload, and where it ends.

    Raises:
        FrameCorrupt: it is not well formed, or ends after the payload.
    """
    if at + ENTRY_BYTES > len(data):
        raise FrameCorrupt("an entry ends after the frame")
    kind, space, key_bytes, value_bytes, number = ENTRY.unpack_from(data, at)
    operation = kind & ~HAS_FIELDS
    key_at = at + ENTRY_BYTES
    value_at = key_at + key_bytes
    end = value_at + value_bytes
    if operation not in _OPERATIONS or space not in SPACES:
        raise FrameCorrupt(f"entry with operation {kind}, space {space}")
    if end > len(data):
        raise FrameCorrupt("an entry ends after the frame")
    fields: tuple[tuple[int, bytes], ...] = ()
    if kind & HAS_FIELDS:
        fields, end = _fields_at(data, end)
    expiry_ms, cause = (number, Cause.CLIENT) if operation == SET else (0, number)
    key, value = data[key_at:value_at], data[value_at : value_at + value_bytes]
    return Entry(operation, key, value, expiry_ms, space, cause, fields), end


def encode_frame(
    effects: Iterable[Effect],
    *,
    previous: Position,
    epoch: int,
    time_ms: int,
    compress_over: int | None = None,
) -> Frame:
    """Encode `effects` as the frame that follows `previous`.

    Args:
        effects: At least one, in order; the first gets the offset `previous.offset + 1`.
        previous: Where the log stands.
        epoch: The reign that writes, not below `previous.epoch`.
        time_ms: Wall clock in ms.
        compress_over: Payloads of more bytes than this are compressed where that makes them
            smaller; None for never.

    Raises:
        ValueError: there is no entry, or they take more than MAX_PAYLOAD_BYTES.
    """
    parts: list[bytes] = []
    pack = ENTRY.pack
    for effect in effects:
        if isinstance(effect, tuple):
            key, value = effect
            parts += pack(SET, KEYS, len(key), len(value), 0), key, value
        else:
            parts += _entry_parts(effect)
    count = len(parts) // 3
    payload = b"".join(parts)
    if count < 1 or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{count} entries of {len(payload)} bytes make no frame")
    flags = 0
    if compress_over is not None and len(payload) > compress_over:
        compressed = zstandard.compress(payload)
        if len(compressed) < len(payload):
            payload, flags = compressed, _COMPRESSED
    first_offset = previous.offset + 1
    body = _BODY.pack(
        MAGIC, VERSION, flags, HEADER_BYTES,
        epoch, first_offset, count, len(payload), time_ms, crc32(payload),
    )  # fmt: skip
    rolling = _roll(previous.rolling, body)
    head = body + _ROLLING.pack(rolling)
    encoded = b"".join((head, _CRC.pack(crc32(head)), payload))
    return Frame(epoch, first_offset, count, time_ms, rolling, encoded)


def _entry_parts(entry: Entry) -> tuple[bytes, bytes, bytes]:
    """Return an entry's bytes: what stands before the key, the key, and the rest."""
    key, value, operation = entry.key, entry.value, entry.operation
    number = entry.expiry_ms or entry.cause
    header = ENTRY.pack(operation, entry.space, len(key), len(value), number)
    if entry.fields:
        header = bytes([operation | HAS_FIELDS]) + header[1:]
        value += _encode_fields(entry.fields)
    return header, key, value


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
    if (header[1], header[2]) not in _KNOWN or header[3] != HEADER_BYTES:
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


def _encode_fields(fields: tuple[tuple[int, bytes], ...]) -> bytes:
    encoded = b"".join(_FIELD.pack(name, len(value)) + value for name, value in fields)
    return _FIELDS.pack(len(encoded)) + encoded


def _fields_at(data: bytes, at: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Return the optional fields at byte `at` of a payload, and where they end."""
    try:
        (length,) = _FIELDS.unpack_from(data, at)
        at += _FIELDS.size
        end = at + length
        fields = []
        while at < end:
            name, size = _FIELD.unpack_from(data, at)
            at += _FIELD.size
            fields.append((name, data[at : at + size]))
            at += size
    except struct.error as error:
        raise FrameCorrupt("an entry's fields end after the frame") from error
    if at != end or end > len(data):
        raise FrameCorrupt("an entry's fields end after their length")
    return tuple(fields), end


def _uncompressed(written: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(written)
        if not 0 <= size <= MAX_PAYLOAD_BYTES:
            raise FrameCorrupt(f"a compressed payload of {size} bytes")
        return zstandard.ZstdDecompressor().decompress(written, max_output_size=size)
    except zstandard.ZstdError as error:
        raise FrameCorrupt(f"the payload can't be uncompressed: {error}") from error
