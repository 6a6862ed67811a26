"""JSON values and the bytes they are stored as: the one rule of every entry point.

A JSON string is stored as its UTF-8 bytes, every other JSON value as its own text with the white
space between its tokens taken out. That text is never parsed into numbers: `1.10`, `1e400` and an
integer of fifty digits are stored as they were written, and so are the order of an object's members
and the escapes in its strings. Reading gives a string which holds the stored text.

Pure: the HTTP layer calls it with raw JSON and with stored bytes.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection
from itertools import accumulate

import msgspec

from synap.request_errors import InvalidRequest

# Below what the decoder's recursion takes on any version of Python, so that all agree.
MAX_NESTING = 500
NESTED_TOO_DEEP = f"the JSON is nested too deep; the limit is {MAX_NESTING} levels"

_STRING_OR_PLAIN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^"\[\]{}]+', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

# A character's escape, or another one, in JSON.
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_HIGH_HALVES, _LOW_HALVES = range(0xD800, 0xDC00), range(0xDC00, 0xE000)

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
        half = half_pair(raw)
        problem = half or f"the value is not a JSON string: {error}"
        raise InvalidRequest(problem) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("the value is not UTF-8") from error


def readable(value: bytes) -> str:
    """Return stored bytes as the text that a client reads."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<binary data: {len(value)} bytes>"


def told(value: bytes) -> str | dict[str, str]:
    """Return stored bytes so that nothing of them is lost: text, or an object with their base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"value_base64": base64_text(value)}


def told_all(values: Collection[bytes | None]) -> list[str | dict[str, str] | None]:
    """Return each of `values` as `told` does; None stays None."""
    try:
        return [None if value is None else value.decode() for value in values]
    except UnicodeDecodeError:
        return [None if value is None else told(value) for value in values]


def base64_text(value: bytes) -> str:
    """Return stored bytes in base64."""
    return b64encode(value).decode()


def half_pair(text: bytes | msgspec.Raw) -> str:
    """Return what to say of the first half of a surrogate pair in a JSON text; "" without any."""
    half = _first_half(bytes(text))
    if not half:
        return ""
    return f"a string holds \\u{half:04x}, half of a surrogate pair: a character was cut in two"


def _first_half(text: bytes) -> int:
    """Return the first half of a pair that stands alone; 0 without any."""
    high = high_end = 0
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else 0
        is_second = code in _LOW_HALVES and high and match.start() == high_end
        if (high and not is_second) or (code in _LOW_HALVES and not high):
            return high or code
        high, high_end = (code if code in _HIGH_HALVES else 0), match.end()
    return high


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
