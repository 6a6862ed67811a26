"""Keys as lines of JSON: what an export sends, and what an import takes.

The first line says which state it is, each line after it is a key, and the last one counts and sums
up those before it, so that a stream which was cut is known by its missing end. All is of one read
transaction, of which a piece is read at a time: what it takes does not grow with the store.

    {"position":"1042-9f2c11aa","prefix":"user:"}
    {"key":"user:1","value":"Ann","version":"7-9f2c11aa","expires_at_ms":null}
    {"key":"user:2","value_base64":"/wA=","version":"9-9f2c11aa","expires_at_ms":1795394290000}
    {"end":true,"entries":2,"sha256":"…"}
"""

from __future__ import annotations

import hashlib
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Annotated

import msgspec

from synap.commands.keys import SetMany
from synap.commands.records import Record
from synap.errors import ExportTooLong
from synap.place import LogEnd, Reigns
from synap.request_errors import FieldInvalid, InvalidRequest
from synap.store import RecordWalk

# Of one piece: about what a thread makes in two milliseconds.
CHUNK_BYTES = 64 * 1024
_CHUNK_RECORDS = 1000
# Lines of one import: they are written at once, and hold others up as those of an mset do.
MAX_LINES = 100_000
_TOO_MANY = f"more than {MAX_LINES} lines; send them in parts, as synap import does"
_LATEST_MS = 2**63 - 1


class Export:
    """One export. Its chunks are made one after the other, in any thread.

    Attributes:
        end: The applied end of the log that it shows.
        is_done: Whether the last chunk was made.
    """

    def __init__(
        self,
        walk: RecordWalk,
        reigns: Reigns,
        prefix: bytes,
        *,
        lock: int,
        seconds: float,
        on_close: Callable[[], None],
    ) -> None:
        """
        Args:
            walk: Where the records come from; closed with this.
            reigns: The lineage of what `walk` shows.
            prefix: What its keys begin with.
            lock: A descriptor that is closed with this.
            seconds: The longest time that it may take.
            on_close: Called when it is closed.
        """
        self.end: LogEnd = walk.end
        self._walk = walk
        self._token = reigns.token
        self._lock: int | None = lock
        self._deadline = time.monotonic() + seconds
        self._on_close = on_close
        self._sum = hashlib.sha256()
        self._entries = 0
        self.is_done = False
        self._head = _line({"position": self._token(self.end.offset), "prefix": prefix.decode()})

    def next_chunk(self) -> bytes:
        """Return the next bytes; none after the last ones, or where a piece had nothing to tell.

        Raises:
            ExportTooLong: its time is over.
            RecordCorrupt: a record is damaged.
            ValueError: it is closed.
        """
        if self.is_done:
            return b""
        if self._lock is None:
            raise ValueError("the export is closed")
        if time.monotonic() > self._deadline:
            raise ExportTooLong
        records = self._walk.take(_CHUNK_RECORDS, CHUNK_BYTES)
        chunk = self._head + b"".join([self._entry(key, record) for key, record in records])
        self._head = b""
        self._entries += len(records)
        self._sum.update(chunk)
        if self._walk.is_over:
            self.is_done = True
            chunk += end_line(self._entries, self._sum.hexdigest())
        return chunk

    def close(self) -> None:
        """Give back what it holds; no effect a second time."""
        lock, self._lock = self._lock, None
        if lock is not None:
            self._walk.close()
            os.close(lock)
            self._on_close()

    def _entry(self, key: bytes, record: Record) -> bytes:
        name = key.decode()
        version, expires_ms = self._token(record.version), record.expiry_ms or None
        try:
            return _line(
                {
                    "key": name,
                    "value": record.value.decode(),
                    "version": version,
                    "expires_at_ms": expires_ms,
                }
            )
        except UnicodeDecodeError:
            return _line(
                {
                    "key": name,
                    "value_base64": b64encode(record.value).decode(),
                    "version": version,
                    "expires_at_ms": expires_ms,
                }
            )


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A line of an export, whichever of the three it is."""

    key: str | None = None
    value: str | None = None
    value_base64: str | None = None
    version: str | None = None
    expires_at_ms: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)] | None = None
    position: str | None = None
    prefix: str | None = None
    end: bool = False
    entries: int = 0
    sha256: str = ""

    def pair(self) -> tuple[bytes, bytes]:
        """Return key and value.

        Raises:
            FieldInvalid: there is no key, or not one value.
        """
        if self.key is None:
            raise FieldInvalid("field 'key' is missing")
        if (self.value is None) == (self.value_base64 is None):
            raise FieldInvalid("give one of value or value_base64")
        if self.value is not None:
            return self.key.encode(), self.value.encode()
        try:
            return self.key.encode(), b64decode(self.value_base64 or "", validate=True)
        except ValueError as error:
            raise FieldInvalid("field 'value_base64' is no base64") from error


_decoder = msgspec.json.Decoder(_Line)
_encode = msgspec.json.Encoder().encode


def end_line(entries: int, sha256: str) -> bytes:
    """Return the last line of so many entries; the sum is that of all lines before it, in hex."""
    return _line({"end": True, "entries": entries, "sha256": sha256})


def is_head(line: bytes) -> bool:
    """Say whether a line is the first of an export."""
    return _decode(line).position is not None


def end_of(line: bytes) -> tuple[int, str] | None:
    """Return what the last line of an export says; None of another line."""
    found = _decode(line)
    return (found.entries, found.sha256) if found.end else None


def read_lines(data: bytes) -> SetMany:
    """Return what writes the keys of an export, or of a part of one.

    A whole one, which begins with its first line, must be whole.

    Raises:
        InvalidRequest: it is no lines of JSON, was cut, or its sum does not fit.
        FieldInvalid: a line is none of an export's.
    """
    if data.count(b"\n") > MAX_LINES + 2:
        raise FieldInvalid(_TOO_MANY)
    lines = _decode_all(data)
    # Other blanks may stand between lines.
    if len(lines) > MAX_LINES + 2:
        raise FieldInvalid(_TOO_MANY)
    has_head = bool(lines) and lines[0].position is not None
    end = lines.pop() if lines and lines[-1].end else None
    if end is not None:
        _check_end(end, data, len(lines) - has_head)
    elif has_head:
        raise InvalidRequest("the export was cut: its last line is missing; nothing was changed")
    pairs: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(lines[has_head:], has_head + 1):
        try:
            pairs.append(line.pair())
        except FieldInvalid as error:
            raise FieldInvalid(f"line {number}: {error.message}") from error
    deadlines = tuple([line.expires_at_ms for line in lines[has_head:]])
    has_deadlines = any(each is not None for each in deadlines)
    return SetMany(tuple(pairs), False, deadlines if has_deadlines else ())


def _check_end(end: _Line, data: bytes, entries: int) -> None:
    before, newline, _ = data.rstrip().rpartition(b"\n")
    summed = before + newline
    if (end.entries, end.sha256) != (entries, hashlib.sha256(summed).hexdigest()):
        raise InvalidRequest(
            "the lines are not those that the last one counts; nothing was changed"
        )


def _decode_all(data: bytes) -> list[_Line]:
    """Return all lines; an error names the line."""
    try:
        return _decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        lines = enumerate(data.split(b"\n"), 1)
        return [_decode_at(line, number) for number, line in lines if line.strip()]


def _decode_at(line: bytes, number: int) -> _Line:
    try:
        return _decode(line)
    except InvalidRequest as error:
        raise InvalidRequest(f"line {number}: {error.message}") from error
    except FieldInvalid as error:
        raise FieldInvalid(f"line {number}: {error.message}") from error


def _decode(line: bytes) -> _Line:
    try:
        return _decoder.decode(line)
    except msgspec.ValidationError as error:
        raise FieldInvalid(f"no line of an export: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"no JSON: {error}") from error


def _line(content: object) -> bytes:
    return _encode(content) + b"\n"
