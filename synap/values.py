"""JSON values and the bytes they are stored as: the one rule of every entry point.

A JSON string is stored as its UTF-8 bytes, every other JSON value as its own text with the white
space between its tokens taken out. That text is never parsed into numbers: `1.10`, `1e400` and an
integer of fifty digits are stored as they were written, and so are the order of an object's members
and the escapes in its strings. Reading gives a string which holds the stored text.

Pure: the HTTP layer calls it with raw JSON and with stored bytes.
"""

from __future__ import annotations

import msgspec

from synap.errors import InvalidRequest

# What to tell a client whose JSON is nested deeper than the decoder's recursion goes.
NESTED_TOO_DEEP = "the JSON is nested too deep"

_decode_string = msgspec.json.Decoder(str).decode
_compact = msgspec.json.format


def stored_bytes(raw: msgspec.Raw) -> bytes:
    """Return the bytes to store for one JSON value.

    Args:
        raw: The value's well-formed JSON text, as a decoder cut it out of a larger one.

    Raises:
        InvalidRequest: the text is not UTF-8, is nested too deep, or is a string that holds half
            of a surrogate pair.
    """
    # Most values are strings, so the attempt costs less than a look at the first byte.
    try:
        return _decode_string(raw).encode()
    except msgspec.ValidationError:
        return _compact_text(raw)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the value is not a JSON string: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("the value is not UTF-8") from error


def readable(value: bytes) -> str:
    """Return stored bytes as the text that a client reads."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<binary data: {len(value)} bytes>"


def byte_list(value: bytes) -> list[int]:
    """Return stored bytes as the integers that `?type=bytes` shows."""
    return list(value)


def _compact_text(raw: msgspec.Raw) -> bytes:
    try:
        text = _compact(raw, indent=-1)
        text.decode()  # the formatter lets strings through as they are
        return text
    except UnicodeDecodeError as error:
        raise InvalidRequest("the value is not UTF-8") from error
    except RecursionError as error:
        raise InvalidRequest(NESTED_TOO_DEEP) from error
