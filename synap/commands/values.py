"""JSON values and the bytes they are stored as: the one rule of every entry point.

A JSON string is stored as its UTF-8 bytes, every other JSON value as its own text with the white
space between its tokens taken out. That text is never parsed into numbers: `1.10`, `1e400` and an
integer of fifty digits are stored as they were written, and so are the order of an object's members
and the escapes in its strings. Reading gives a string which holds the stored text.

Pure: the HTTP layer calls it with raw JSON and with stored bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import accumulate

import msgspec

from synap.request_errors import InvalidRequest

# Below what the decoder's recursion takes on any version of Python, so that all agree.
MAX_NESTING = 500
NESTED_TOO_DEEP = f"the JSON is nested too deep; the limit is {MAX_NESTING} levels"

_STRING_OR_PLAIN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^"\[\]{}]+', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

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


def readable_all(values: Collection[bytes | None]) -> list[str | None]:
    """Return each of `values` as `readable` does; None stays None."""
    try:
        return [None if value is None else value.decode() for value in values]
    except UnicodeDecodeError:
        return [None if value is None else readable(value) for value in values]


def byte_list(value: bytes) -> list[int]:
    """Return stored bytes as the integers that `?type=bytes` shows."""
    return list(value)


def _compact_text(raw: msgspec.Raw) -> bytes:
    try:
        text = _compact(raw, indent=-1)
        text.decode()  # the formatter lets strings through as they are
    except UnicodeDecodeError as error:
        raise InvalidRequest("the value is not UTF-8") from error
    except RecursionError as error:
        raise InvalidRequest(NESTED_TOO_DEEP) from error
    if text.count(b"[") + text.count(b"{") > MAX_NESTING and _nesting(text) > MAX_NESTING:
        raise InvalidRequest(NESTED_TOO_DEEP)
    return text


def _nesting(text: bytes) -> int:
    """Return how many levels deep well-formed JSON goes."""
    brackets = _STRING_OR_PLAIN.sub(b"", text)
    return max(accumulate(_STEPS[bracket] for bracket in brackets), default=0)
