"""The requests that took long, the newest of each HTTP worker, for `/slowlog`.

Each worker has a ring of its own in shared memory (see `claimed_file`), so that any of them can
tell of all and none waits for another. An entry outlives its worker, and the node; the machine not.

    at    size  field
    0        8  entries that were ever written here
    8        8  how many of them a reset has hidden
    512    512  one entry after the other; the next one takes the place of the oldest

    in an entry
    0        8  its number, from 1
    8        4  length of the content in bytes
    12       4  CRC-32 of the content
    16          content, MessagePack
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import crc32

import msgspec

from synap.shared.claimed_file import ClaimedFile, claimed_contents, claimed_paths

_FILE = "slowlog"
_ENTRIES = 128
_ENTRY_BYTES = 512
_FILE_BYTES = _ENTRY_BYTES * (1 + _ENTRIES)
_HEAD = struct.Struct("<QII")
_COUNTS = struct.Struct("<QQ")
_HIDDEN = struct.Struct("<Q")
_HIDDEN_AT = 8
# Of a text in an entry; the rest is cut off. Two of them fit, whatever their characters.
_MOST_TEXT_BYTES = 180
# More than there are files, so that an entry's number and its file's make one id.
_ID_STEP = 1024


class SlowEntry(msgspec.Struct, frozen=True, array_like=True):
    """One request.

    Attributes:
        timestamp_ms: Wall clock when it was answered.
        duration_us: How long that took.
        command: Method and route, or the name of a command.
        argument: The path with its query as it was sent, or the command's key.
        request_id: The one that its answer had.
        id: Told by `slow_entries`; higher for a later entry of the same worker.
    """

    timestamp_ms: int
    duration_us: int
    command: str
    argument: str
    request_id: str
    id: int = 0


_decoder = msgspec.msgpack.Decoder(SlowEntry)


class SlowLog:
    """One worker's ring."""

    def __init__(self, folder: Path) -> None:
        """Claim a ring in `folder`, the run directory."""
        self._file = ClaimedFile(folder, _FILE, _FILE_BYTES)

    def add(self, entry: SlowEntry) -> None:
        """Keep `entry` in the place of the oldest one; long texts are cut."""
        memory = self._file.memory
        number = _COUNTS.unpack_from(memory)[0] + 1
        content = msgspec.msgpack.encode(
            msgspec.structs.replace(
                entry,
                command=_cut(entry.command, _MOST_TEXT_BYTES // 2),
                argument=_cut(entry.argument, _MOST_TEXT_BYTES),
                request_id=_cut(entry.request_id, _MOST_TEXT_BYTES),
            )
        )
        at = _place_of(number)
        _HEAD.pack_into(memory, at, number, len(content), crc32(content))
        memory[at + _HEAD.size : at + _HEAD.size + len(content)] = content
        memory[:8] = number.to_bytes(8, "little")

    def close(self) -> None:
        """Give the ring back; its entries stay."""
        self._file.close()


def slow_entries(folder: Path) -> list[SlowEntry]:
    """Return what all workers keep, newest first."""
    found = []
    for number, content in claimed_contents(folder, _FILE, _FILE_BYTES):
        found += _entries_of(content, number)
    return sorted(found, key=lambda entry: (entry.timestamp_ms, entry.id), reverse=True)


def reset_slow_log(folder: Path) -> None:
    """Hide all that every worker keeps now."""
    for path in claimed_paths(folder, _FILE):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            counts = os.pread(file, _COUNTS.size, 0)
            if len(counts) == _COUNTS.size:
                os.pwrite(file, counts[: _HIDDEN.size], _HIDDEN_AT)
        finally:
            os.close(file)


def _entries_of(content: bytes, file_number: int) -> list[SlowEntry]:
    written, hidden = _COUNTS.unpack_from(content)
    found = []
    for expected in range(max(hidden, written - _ENTRIES) + 1, written + 1):
        at = _place_of(expected)
        number, length, crc = _HEAD.unpack_from(content, at)
        encoded = content[at + _HEAD.size : at + _HEAD.size + length]
        # Else it is being overwritten just now.
        if number == expected and crc32(encoded) == crc:
            entry = _decoder.decode(encoded)
            found.append(msgspec.structs.replace(entry, id=number * _ID_STEP + file_number))
    return found


def _place_of(number: int) -> int:
    return _ENTRY_BYTES * (1 + number % _ENTRIES)


def _cut(text: str, most_bytes: int) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= most_bytes:
        return text
    return encoded[:most_bytes].decode(errors="ignore") + "…"
