"""Single records of the live store, asked for between nodes and put together from their pieces.

A replica asks its master, and a master a replica that is joined, for what it has of a key: the
record as it is stored, with the offset up to which that is the state. A record may be longer than a
message, so whoever asks names the first byte that is missing, until all are there; a record that
changes meanwhile has another length or does not match its checksum, and is asked for again.

Source: docs/protocol.md, "Mending".
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from synap.errors import ProtocolViolation
from synap.replication.rules.mending import Copy
from synap.replication.rules.messages import (
    ABSENT,
    DAMAGED,
    MAX_PIECE_BYTES,
    THERE,
    FetchRecord,
    RecallRecord,
    RecordLoan,
    RecordPiece,
)


class Looked(msgspec.Struct, frozen=True):
    """What the live store has of a key.

    Attributes:
        raw: The record as it is stored; None for none.
        offset: Last offset that is applied.
        is_sound: Whether its checksum matches.
    """

    raw: bytes | None
    offset: int
    is_sound: bool = True


class Summed(msgspec.Struct, frozen=True):
    """A sum over a range of the live store's records; fields as in `messages.Digest`."""

    offset: int
    records: int
    sum: int
    last: bytes


class Records(Protocol):
    """The live store, as other nodes ask for it."""

    def look(self, space: int, key: bytes) -> Looked:
        """Look at a record."""

    def summed(self, space: int, after: bytes, until: bytes, limit: int) -> Summed:
        """Return the sum over the first records of a range; all where `until` is empty."""

    def doubt(self, space: int, key: bytes) -> None:
        """Take it that a replica holds another record there, and that its log says so."""


Wanted = FetchRecord | RecallRecord
Piece = RecordPiece | RecordLoan


def piece_of(wanted: FetchRecord, looked: Looked) -> RecordPiece:
    """Return a master's answer to a replica."""
    return RecordPiece(wanted.request, *_fields(wanted, looked))


def loan_of(wanted: RecallRecord, looked: Looked) -> RecordLoan:
    """Return a replica's answer to its master."""
    return RecordLoan(wanted.request, *_fields(wanted, looked))


def _fields(wanted: Wanted, looked: Looked) -> tuple[int, str, int, int, bytes]:
    raw = looked.raw
    if raw is None:
        return looked.offset, ABSENT, 0, 0, b""
    if not looked.is_sound:
        return looked.offset, DAMAGED, 0, 0, b""
    at = min(wanted.at_byte, len(raw))
    return looked.offset, THERE, at, len(raw), raw[at : at + MAX_PIECE_BYTES]


class Gathering:
    """One record on its way.

    Attributes:
        copy: It, once it is whole; also where the other side has none.
        is_over: Nothing more comes: it is whole, or damaged there too.
        wanted_byte: The first byte that is missing.
    """

    def __init__(self, source: str) -> None:
        """
        Args:
            source: Who is asked, for people.
        """
        self.copy: Copy | None = None
        self.is_over = False
        self._source = source
        self._content = bytearray()
        self._size = 0

    @property
    def wanted_byte(self) -> int:
        return len(self._content)

    def take(self, piece: Piece) -> None:
        """Take an answer.

        Raises:
            ProtocolViolation: it is none to what was asked.
        """
        if piece.standing != THERE:
            self.is_over = True
            self.copy = Copy(piece.offset, None, self._source) if piece.standing == ABSENT else None
            return
        if self._content and piece.size != self._size:
            # It was written anew meanwhile.
            self._content.clear()
            return
        if (
            piece.at_byte != len(self._content)
            or not 0 < len(piece.piece) <= piece.size - piece.at_byte
        ):
            raise ProtocolViolation("bytes of a record that nobody wants")
        self._size = piece.size
        self._content += piece.piece
        if len(self._content) == self._size:
            self.is_over = True
            self.copy = Copy(piece.offset, bytes(self._content), self._source)
