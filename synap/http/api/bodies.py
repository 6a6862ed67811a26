"""Request bodies: how JSON becomes a struct, and what a fault in it is called.

A body is decoded straight into a struct; unknown fields are ignored, and a fault names its field.
The structs stand beside what they are for (`operations`, `endpoints`). Values stay raw JSON until
`values.stored_bytes` turns them into bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from synap.commands.keyspace import MAX_EXPIRY_MS
from synap.commands.values import NESTED_TOO_DEEP
from synap.request_errors import FieldInvalid, FieldMissing, InvalidRequest

Body = TypeVar("Body", bound=msgspec.Struct)
Natural = Annotated[int, msgspec.Meta(ge=0)]
# Of keys, or of pairs, in one command. A hundred thousand hold up a worker's loop, and then the
# log's owner, for some tenths of a second; a body has room for millions.
AtMostMany = msgspec.Meta(max_length=100_000)

_MISSING = re.compile(r"missing required field `(.*?)`")
_JSON_WORDS = {
    "`str`": "a string",
    "`bool`": "true or false",
    "`int`": "an integer",
    "`float`": "a fraction",
    "`array`": "an array",
    "`object`": "an object",
    "`null`": "null",
}
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


def decoder(body_type: type[Body], name: str = "body") -> Callable[[bytes], Body]:
    """Return the function that decodes one kind of body; `name` is what errors call it.

    That function raises:
        InvalidRequest: the bytes are not JSON.
        FieldInvalid: they are, but not of this kind; the message names the field.
    """
    decode = msgspec.json.Decoder(body_type).decode

    def decode_body(data: bytes) -> Body:
        try:
            return decode(data)
        except msgspec.ValidationError as error:
            raise _field_error(str(error), name) from error
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"the {name} is not JSON: {error}") from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the {name} is not UTF-8") from error
        except RecursionError as error:
            raise InvalidRequest(NESTED_TOO_DEEP) from error

    return decode_body


def expiry_after(ttl: int, now_ms: int) -> int:
    """Return the wall clock in ms at which `ttl` seconds from now are over.

    Args:
        ttl: In seconds.
        now_ms: Wall clock, rounded up; no time at all is over already, in the part of a
            millisecond before it too.

    Raises:
        FieldInvalid: that is beyond 64 bits.
    """
    return checked_expiry(now_ms + ttl * 1000 - (not ttl), "ttl")


def checked_expiry(expiry_ms: int, field: str) -> int:
    """Return a deadline that came from `field`.

    Raises:
        FieldInvalid: it is beyond 64 bits.
    """
    if expiry_ms > MAX_EXPIRY_MS:
        raise FieldInvalid(f"field '{field}': the time is beyond 64 bits")
    return expiry_ms


def _field_error(message: str, name: str) -> FieldInvalid:
    """Return the decoder's `message` as an error with the field in front, in the words of JSON."""
    place = _PLACE.search(message)
    path = place[1] if place else ""
    missing = _MISSING.search(message)
    if missing:
        return FieldMissing(f"{path}.{missing[1]}" if path else missing[1])
    detail = (message[: place.start()] if place else message).replace(" | null", "")
    for own_word, json_word in _JSON_WORDS.items():
        detail = detail.replace(own_word, json_word)
    detail = detail[:1].lower() + detail[1:]
    return FieldInvalid(f"field '{path}': {detail}" if path else f"the {name}: {detail}")
