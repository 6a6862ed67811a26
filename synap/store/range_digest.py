"""A sum over the records of a range of keys, by which two stores are compared bit by bit.

The sum does not depend on the order and changes with any record: its key, version, expiry or
value. A record whose checksum does not match its content counts as another one.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from synap.store.environment import Environment
from synap.store.layout import (
    CHECKSUM,
    CHECKSUM_BYTES,
    NOTHING_APPLIED,
    POSITION_KEY,
    decode_applied,
)
from synap.store.scrubbing import database_of

_LONGEST_KEY = 511
_SPREAD = 0x9E3779B97F4A7C15
_MASK = 2**63 - 1


class RangeDigest(msgspec.Struct, frozen=True):
    """What a range holds.

    Attributes:
        offset: Last offset that is applied.
        history: Id of the reign that wrote it.
        records: How many records.
        sum: Over all of them, below 2^63; 0 for none.
        last: The last key; b"" for none.
        is_whole: Nothing in the range follows that key.
    """

    offset: int
    history: bytes
    records: int
    sum: int
    last: bytes
    is_whole: bool


def digest_range(
    environment: Environment, space: int, after: bytes, until: bytes | None, max_records: int
) -> RangeDigest:
    """Return the digest of the first records of a range.

    Args:
        after: Only keys after this one, which need not exist; b"" for all.
        until: Only keys up to this one; None for all.
        max_records: At most so many.
    """
    with environment.reading(buffers=True) as transaction:
        cursor = transaction.cursor(database_of(environment, space))
        # LMDB takes no longer key; the loop leaves out the one that is `after` itself.
        is_there = cursor.set_range(after[:_LONGEST_KEY]) if after else cursor.first()
        records = total = 0
        last = b""
        is_whole = True
        for raw, content in cursor.iternext() if is_there else ():
            key = bytes(raw)
            if key <= after:
                continue
            if until is not None and key > until:
                break
            if records == max_records:
                is_whole = False
                break
            records += 1
            last = key
            checksum = crc32(content[CHECKSUM_BYTES:], crc32(key))
            total += (checksum + 1) * _SPREAD
            if bytes(content[:CHECKSUM_BYTES]) != CHECKSUM.pack(checksum):
                total += 1
        end = decode_applied(bytes(transaction.get(POSITION_KEY, NOTHING_APPLIED))).end
        return RangeDigest(end.offset, end.history, records, total & _MASK, last, is_whole)
