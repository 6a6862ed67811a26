"""A segment: one file of the write-ahead log, with its header, its name and its frames.

The header, 68 bytes, little-endian (`docs/wal-format.md` tells what stays in later versions):

    at  size  field
     0     4  magic "SYNW"
     4     1  version: 2; a program of before wrote 1, and frames of version 1 alone
     5     1  flags, 0
     6     2  header length, 68
     8    16  history, the reign's random id
    24     8  epoch of every frame in the segment
    32     8  first offset
    40     8  epoch of the entry before the first offset, 0 where there is none
    48     8  rolling checksum of the log up to the first offset
    56     8  wall clock in ms since 1970 when the segment was begun
    64     4  CRC-32 of the header before it

Frames follow without a gap up to the file's end. Nothing here decides what a bad byte means for the
log; `synap.wal.scan` does.
"""

from __future__ import annotations

import errno
import re
import struct
import threading
from bisect import bisect_right, insort
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from os import O_NOFOLLOW, O_NONBLOCK, O_RDONLY
from pathlib import Path
from zlib import crc32

import msgspec

from synap.disk import Files
from synap.errors import DataDirUnusable, WalCorrupt
from synap.position import Position

MAGIC = b"SYNW"
VERSION = 2
_KNOWN_VERSIONS = (1, VERSION)

_HEADER = struct.Struct("<4sBBH16sQQQQQI")
_PREFIX = struct.Struct("<4sBBH")
_CRC = struct.Struct("<I")
SEGMENT_HEADER_BYTES = _HEADER.size
# A header of any version, so that an older program can tell a newer file from a damaged one.
_LONGEST_HEADER_BYTES = 4096

# Distance between the frame ends that are kept in memory: a seek decodes at most this much.
_BORDER_SPACING_BYTES = 64 * 1024


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A place in the files just after a frame.

    Attributes:
        segment: First offset of the segment; 0 before the first segment.
        byte_position: Bytes of that file up to the place.
    """

    segment: int
    byte_position: int


class Border(msgspec.Struct, frozen=True, gc=False):
    """The end of a frame, or of the segment's header.

    Attributes:
        position: Where the log stands there.
        at: The byte after it in the segment.
    """

    position: Position
    at: int


class SegmentHeader(msgspec.Struct, frozen=True):
    """What heads a segment.

    Attributes:
        history: The reign's random id, 16 bytes.
        epoch: The reign's number, that of every frame in the segment.
        first_offset: Offset of the first entry.
        previous_epoch: Epoch of the entry before it; 0 where there is none.
        rolling: Rolling checksum of the log before the segment.
        created_ms: Wall clock when it was begun.
        version: Of the format; those of frames in it are no newer.
    """

    history: bytes
    epoch: int
    first_offset: int
    previous_epoch: int
    rolling: int
    created_ms: int
    version: int = VERSION

    @property
    def base(self) -> Position:
        """Where the log stands before the segment."""
        return Position(self.previous_epoch, self.first_offset - 1, self.rolling)

    def encode(self) -> bytes:
        body = _HEADER.pack(
            MAGIC, self.version, 0, SEGMENT_HEADER_BYTES,
            self.history, self.epoch, self.first_offset,
            self.previous_epoch, self.rolling, self.created_ms, 0,
        )[: -_CRC.size]  # fmt: skip
        return body + _CRC.pack(crc32(body))


class Segment:
    """One segment of an open log.

    Attributes:
        path: The file.
        header: Its header.
        size: Bytes of header and whole frames; the log's owner moves it.
    """

    __slots__ = ("_borders", "_lock", "header", "path", "size")

    def __init__(self, path: Path, header: SegmentHeader, size: int = SEGMENT_HEADER_BYTES) -> None:
        self.path = path
        self.header = header
        self.size = size
        self._borders = [Border(header.base, SEGMENT_HEADER_BYTES)]
        # The owner appends borders while a reader that walks the file may insert some.
        self._lock = threading.Lock()

    @property
    def first_offset(self) -> int:
        return self.header.first_offset

    def note(self, position: Position, at: int) -> None:
        """Remember that a frame ends at byte `at`, unless a border close before it is known."""
        if 0 <= at - self._borders[-1].at < _BORDER_SPACING_BYTES:
            return
        with self._lock:
            index = bisect_right(self._borders, at, key=_border_at)
            if at - self._borders[index - 1].at >= _BORDER_SPACING_BYTES:
                insort(self._borders, Border(position, at), key=_border_at)

    def keep(self, border: Border) -> None:
        """Remember `border` for certain: the log is read on from there soon."""
        with self._lock:
            if border not in self._borders:
                insort(self._borders, border, key=_border_at)

    def forget_behind(self, at: int) -> None:
        """Drop what is known after byte `at`."""
        with self._lock:
            del self._borders[bisect_right(self._borders, at, key=_border_at) :]

    def border_before(self, offset: int) -> Border:
        """Return the last known border at or before `offset`, which the segment must reach."""
        with self._lock:
            return self._borders[bisect_right(self._borders, offset, key=_border_offset) - 1]


def segment_path(directory: Path, stem: str, first_offset: int) -> Path:
    return directory / f"{stem}-{first_offset:020d}.wal"


def segment_paths(files: Files, directory: Path, stem: str) -> list[tuple[int, Path]]:
    """Return (first offset, path) of the folder's segments, oldest first."""
    pattern = re.compile(rf"{re.escape(stem)}-(\d{{20}})\.wal")
    matches = (pattern.fullmatch(name) for name in files.names(directory))
    return sorted((int(match[1]), directory / match[0]) for match in matches if match)


def decode_header(data: bytes, path: Path) -> SegmentHeader | None:
    """Decode the header that `data` begins with; None where there is no whole header.

    Raises:
        WalCorrupt: the header is whole and this program does not know its version.
    """
    if len(data) < _PREFIX.size:
        return None
    magic, version, flags, length = _PREFIX.unpack_from(data)
    if magic != MAGIC or not _PREFIX.size + _CRC.size <= length <= min(
        len(data), _LONGEST_HEADER_BYTES
    ):
        return None
    body_bytes = length - _CRC.size
    if crc32(data[:body_bytes]) != _CRC.unpack_from(data, body_bytes)[0]:
        return None
    if version not in _KNOWN_VERSIONS or (flags, length) != (0, SEGMENT_HEADER_BYTES):
        detail = f"segment version {version}, flags {flags} are of a newer program"
        raise WalCorrupt(str(path), 0, detail)
    history, epoch, first_offset, previous_epoch, rolling, created_ms = _HEADER.unpack_from(data)[
        4:-1
    ]
    return SegmentHeader(history, epoch, first_offset, previous_epoch, rolling, created_ms, version)


def read_header(files: Files, file: int, path: Path) -> SegmentHeader | None:
    """Read and decode the header of an open segment, as `decode_header` does."""
    return decode_header(files.read(file, _LONGEST_HEADER_BYTES, 0), path)


def open_segment(files: Files, path: Path, flags: int) -> int:
    """Open the file at `path`, and no link: a log's files are those of its folder.

    Raises:
        DataDirUnusable: it is a symbolic link.
        OSError: it can't be opened.
    """
    try:
        # Whoever waits for a pipe's other end waits for ever.
        return files.open(path, flags | O_NOFOLLOW | O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DataDirUnusable(
            f"{path} is a symbolic link, and a segment is a file; put the file itself there"
        ) from error


@contextmanager
def opened(files: Files, path: Path) -> Iterator[int]:
    """Open `path` for reading and close it in any case."""
    file = open_segment(files, path, O_RDONLY)
    try:
        yield file
    finally:
        files.close(file)


_border_at = attrgetter("at")


def _border_offset(border: Border) -> int:
    return border.position.offset
