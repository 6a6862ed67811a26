"""When a copy of a record may take the place of a damaged one. Pure.

A record is the same on every node of a history from the entry that wrote it to the one that changes
it. So a copy that was seen at offset M is this node's record too where M is not before the offset
at which the damage was seen here, nothing has changed the damaged bytes since, and its version is
one that this node has applied. What has changed meanwhile was written whole, and is looked at anew.

Source: docs/protocol.md, "Mending".
"""

from __future__ import annotations

import struct
from enum import Enum, auto

import msgspec

# A record begins with its checksum and its version.
_VERSION = struct.Struct("<4xQ")


class Damage(msgspec.Struct, frozen=True):
    """A record that is not what was stored.

    Attributes:
        space: Of the log.
        key: The record's.
        raw: What is there.
        offset: Last offset that was applied when that was seen.
    """

    space: int
    key: bytes
    raw: bytes | None
    offset: int


class Copy(msgspec.Struct, frozen=True):
    """What another place has of a record.

    Attributes:
        offset: Last offset that had been applied there.
        raw: The record as it is stored, sound; None where there is none.
        source: Where it comes from, for people.
    """

    offset: int
    raw: bytes | None
    source: str = ""


class Verdict(Enum):
    """What becomes of a copy."""

    # It takes the damaged one's place.
    TAKE = auto()
    # It is older or newer than what this node holds: ask again.
    WAIT = auto()
    # The damaged bytes are no longer there.
    OVER = auto()
    # There is no such record: what is damaged is the key, and another record is missing.
    GHOST = auto()


def judge(damage: Damage, copy: Copy, raw: bytes | None, offset: int) -> Verdict:
    """Decide what becomes of a copy.

    Args:
        raw: What is there now in place of the damaged record.
        offset: Last offset that is applied here now.
    """
    if raw != damage.raw:
        return Verdict.OVER
    if copy.offset < damage.offset:
        return Verdict.WAIT
    if copy.raw is None:
        return Verdict.GHOST if copy.offset <= offset else Verdict.WAIT
    version: int = _VERSION.unpack_from(copy.raw)[0]
    return Verdict.TAKE if version <= min(offset, copy.offset) else Verdict.WAIT
