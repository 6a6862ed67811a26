"""Bodies that come packed: gzip is understood, all else is refused before it is read.

Source: RFC 9110, section 8.4, and RFC 1952.
"""

from __future__ import annotations

import asyncio
import zlib

import falcon

from synap.request_errors import InvalidRequest

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


async def unpacked(data: bytes, coding: bytes, limit_bytes: int) -> bytes:
    """Return a body as it was before it was packed, at most `limit_bytes` of it.

    Args:
        coding: The value of Content-Encoding, which `check_coding` has let through.

    Raises:
        falcon.HTTPContentTooLarge: it is longer.
        InvalidRequest: it is not packed so, or not whole.
    """
    if _name_of(coding) == _NOTHING:
        return data
    if len(data) <= _MOST_AT_ONCE_BYTES:
        return _unpacked(data, limit_bytes)
    return await asyncio.to_thread(_unpacked, data, limit_bytes)


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
