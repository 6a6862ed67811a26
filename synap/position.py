"""Where a log stands, and which reigns it went through.

Pure values: no files, no sockets, no clock. The WAL, the store and replication all speak in these.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TypeVar

import msgspec

from synap.errors import OffsetGap, StaleEpoch

HISTORY_BYTES = 16
NO_HISTORY = bytes(HISTORY_BYTES)
# What the history id of a reign begins with that no operator asked for; the rest is random. Any
# other id begins so once in four billion times.
UNASKED = bytes(4)


class Position(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A place in the log, just after the entry `offset`.

    Attributes:
        epoch: Number of the reign that wrote the entry; 0 before the first entry.
        offset: Number of the last entry, from 1; 0 before the first.
        rolling: Rolling checksum of the log up to here; 0 before the first entry. Two nodes agree
            up to an offset where their positions there are equal.
    """

    epoch: int
    offset: int
    rolling: int

    def __str__(self) -> str:
        return f"{self.epoch}/{self.offset}/{self.rolling:016x}"


START = Position(0, 0, 0)


class Reign(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One reign of a lineage.

    Attributes:
        epoch: Its number; goes up by at least one from reign to reign.
        history: Its random id, 16 bytes. It begins with `UNASKED` where a master began the reign by
            itself, because a crash may have cost it the end of its log.
        first_offset: The offset of the first entry that it may write. The next reign has the same
            where this one wrote nothing.
    """

    epoch: int
    history: bytes
    first_offset: int

    @property
    def is_unasked(self) -> bool:
        """Whether its master began it by itself: no promotion, no restore, no new node."""
        return self.history.startswith(UNASKED)

    def __str__(self) -> str:
        return f"{self.epoch}:{self.history.hex()}@{self.first_offset}"


Lineage = tuple[Reign, ...]
"""The reigns of a log in their order, oldest first; empty where nothing was ever written."""


# Reigns that a file may name, far above what a cluster comes to in its life: one for each time that
# its master changed, or came back from a crash.
MOST_REIGNS = 10_000
_LARGEST = 2**63 - 1


def manifest_faults(lineage: Lineage, position: Position, **numbers: int) -> list[str]:
    """Return what can't be so in a manifest that somebody else may have written, by field.

    Args:
        lineage: The reigns of a log up to `position`, and perhaps after it.
        position: Where the log stood.
        numbers: Further fields, none of which is below 0.
    """
    faults = [
        f"{name} is {value}, and not from 0 to {_LARGEST}"
        for name, value in numbers.items()
        if not 0 <= value <= _LARGEST
    ]
    if not (0 <= position.epoch <= _LARGEST and 0 <= position.offset <= _LARGEST):
        faults.append(f"position is {position}, which no log has")
    if not 0 <= position.rolling < 2**64:
        faults.append("position's checksum has more than 64 bits")
    if len(lineage) > MOST_REIGNS:
        faults.append(f"lineage has {len(lineage)} reigns, and not at most {MOST_REIGNS}")
        return faults
    before = Reign(0, NO_HISTORY, 1)
    for reign in lineage:
        if not before.epoch < reign.epoch <= _LARGEST or not (
            before.first_offset <= reign.first_offset <= _LARGEST
        ):
            faults.append(f"lineage has {reign} after {before}")
            return faults
        before = reign
    if position.offset and position.epoch not in {reign.epoch for reign in lineage}:
        faults.append(f"lineage has no reign of epoch {position.epoch}, that of position")
    return faults


Held = TypeVar("Held", bound=msgspec.Struct)


def encode_json(record: msgspec.Struct) -> bytes:
    """Return a record as a JSON object, as files hold it: everything by name, bytes in hex.

    A lineage is a list of rows: epoch, history in hex, first offset.
    """
    fields = msgspec.to_builtins(record, builtin_types=(bytes,))
    return json.dumps(fields, default=bytes.hex, separators=(",", ":")).encode()


def decode_json(content: bytes, kind: type[Held]) -> Held:
    """Return the record of which a file holds the JSON.

    The only bytes in it are the histories of its `lineage`; they may also be in base64, as versions
    before wrote them into node.json.

    Raises:
        ValueError, msgspec.DecodeError: it is none of that kind.
    """
    fields = decode_fields(content)
    if "lineage" in fields:
        rows = msgspec.convert(fields["lineage"], list[tuple[int, str, int]])
        fields["lineage"] = [(epoch, _history_of(text), first) for epoch, text, first in rows]
    return msgspec.convert(fields, kind, builtin_types=(bytes,))


def decode_fields(content: bytes) -> dict[str, object]:
    """Return the fields of a JSON object that a file holds, whoever wrote it.

    Raises:
        ValueError, msgspec.DecodeError: it is none.
    """
    try:
        return msgspec.json.decode(content, type=dict[str, object])
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _history_of(text: str) -> bytes:
    # 16 bytes in base64 end with its filling, which no hex has.
    is_base64 = text.endswith("=")
    history = b64decode(text, validate=True) if is_base64 else bytes.fromhex(text)
    if len(history) != HISTORY_BYTES:
        raise ValueError(f"a history has {HISTORY_BYTES} bytes, not {len(history)}")
    return history


def check_next_reign(reign: Reign, end: Position, history: bytes | None) -> None:
    """Check that `reign` may write after `end`: it begins there, or goes on.

    Args:
        end: Where the log ends.
        history: Of the reign that wrote the last entry; None where that is not in the log's files.

    Raises:
        StaleEpoch: it is an earlier reign, or another one of the same epoch.
        OffsetGap: it does not begin where the log ends.
    """
    is_begun = reign.first_offset <= end.offset
    if is_begun and reign.epoch == end.epoch and history in (None, reign.history):
        return
    if reign.epoch <= end.epoch:
        raise StaleEpoch(f"reign {reign} does not come after epoch {end.epoch} of the log")
    if reign.first_offset != end.offset + 1:
        raise OffsetGap(f"reign {reign} does not begin where the log ends, at {end}")
