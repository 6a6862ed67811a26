"""Bodies that come packed: gzip is understood, all else is refused before it is read.

Source: RFC 9110, section 8.4, and RFC 1952.
"""

from __future__ import annotations

import asyncio
import weakref
import zlib

import falcon

from synap.request_errors import InvalidRequest, ShareTaken

# The names that RFC 9110 has for it.
_GZIP = (b"gzip", b"x-gzip")
_NOTHING = b"identity"
# Beside the loop from here on: so much may come to a thousand times as much.
_MOST_AT_ONCE_BYTES = 1024
_WITH_GZIP_HEADER = 16 + zlib.MAX_WBITS


def check_coding(coding: bytes) -> None:
    """Look at the value of Content-Encoding.

    Raises:
        falcon.HTTPUnsupportedMediaType: it is none that is known.
    """
    if _name_of(coding) not in (*_GZIP, _NOTHING):
        raise falcon.HTTPUnsupportedMediaType(
            description="the body's Content-Encoding is not gzip",
            headers={"Accept-Encoding": "gzip"},
        )


class Unpacker:
    """Unpacks the bodies of one worker, in turn, and bounds what of them is held at once.

    A few packed bytes may come to a thousand times as many, which nobody else counts.
    """

    def __init__(self, most_bytes: int) -> None:
        """
        Args:
            most_bytes: What all unpacked bodies may have together; a single one is let in always.
        """
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._turn = asyncio.Lock()

    async def unpacked(self, owner: object, data: bytes, coding: bytes, limit_bytes: int) -> bytes:
        """Return a body as it was before it was packed, at most `limit_bytes` of it.

        Args:
            owner: Holds it; when it is gone, so is the body.
            coding: The value of Content-Encoding, which `check_coding` has let through.

        Raises:
            falcon.HTTPContentTooLarge: it is longer.
            InvalidRequest: it is not packed so, or not whole.
            ShareTaken: others hold too much.
        """
        if _name_of(coding) == _NOTHING:
            return data
        async with self._turn:
            if len(data) <= _MOST_AT_ONCE_BYTES:
                whole = _unpacked(data, limit_bytes)
            else:
                whole = await asyncio.to_thread(_unpacked, data, limit_bytes)
            if self._held_bytes and self._held_bytes + len(whole) > self._most_bytes:
                raise ShareTaken("unpacked bodies", "bytes", self._most_bytes)
            self._held_bytes += len(whole)
            weakref.finalize(owner, self._give_back, len(whole))
        return whole

    def _give_back(self, count: int) -> None:
        self._held_bytes -= count


def too_large(limit_bytes: int) -> falcon.HTTPContentTooLarge:
    """Return what refuses a body that is longer."""
    return falcon.HTTPContentTooLarge(
        description=f"the body is over the limit of {limit_bytes} bytes"
    )


def _name_of(coding: bytes) -> bytes:
    return coding.strip().lower()


def _unpacked(data: bytes, limit_bytes: int) -> bytes:
    unpacking = zlib.decompressobj(_WITH_GZIP_HEADER)
    try:
        whole = unpacking.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest("the body is not what its Content-Encoding says: gzip") from error
    if len(whole) > limit_bytes:
        raise too_large(limit_bytes)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidRequest("the body is not one whole gzip member")
    return whole
