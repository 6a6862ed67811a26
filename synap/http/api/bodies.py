"""Request bodies: their fields, their limits, and the commands that they come to.

A body is decoded straight into one of these structs; unknown fields are ignored, and a fault names
its field. Values stay raw JSON until `values.stored_bytes` turns them into bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec

from synap.commands.keys import Copy, Rename, SetMany
from synap.commands.keyspace import MAX_EXPIRY_MS
from synap.commands.strings import INTEGER_MAX, INTEGER_MIN, Set
from synap.commands.values import NESTED_TOO_DEEP, stored_bytes
from synap.request_errors import FieldInvalid, FieldMissing, InvalidRequest, InvalidValue

Body = TypeVar("Body", bound=msgspec.Struct)
Natural = Annotated[int, msgspec.Meta(ge=0)]

_MS_OF_UNIT = {"seconds": 1000, "milliseconds": 1}
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


class ExpiryBody(msgspec.Struct, gc=False):
    """A deadline, from now on (`seconds`, `milliseconds`) or from 1970 on (`unix_…`)."""

    type: Literal["seconds", "milliseconds", "unix_seconds", "unix_milliseconds"]
    value: Natural

    def absolute_ms(self, now_ms: int) -> int:
        """Return the wall clock in ms that this comes to."""
        unit = self.type.removeprefix("unix_")
        start_ms = 0 if unit != self.type else now_ms
        return _checked_expiry(start_ms + self.value * _MS_OF_UNIT[unit], "expiry")


class SetBody(msgspec.Struct, gc=False):
    """`/kv/set`."""

    key: str
    value: msgspec.Raw
    ttl: Natural | None = None
    expiry: ExpiryBody | None = None
    nx: bool = False
    xx: bool = False
    keepttl: bool = False
    get: bool = False
    if_version: Natural | None = None

    def command(self, now_ms: Callable[[], int]) -> Set:
        """Return the command; `now_ms` is asked only where there is a deadline."""
        key, value = self.key.encode(), stored_bytes(self.value)
        expiry_ms = None
        if self.expiry is not None:
            expiry_ms = self.expiry.absolute_ms(now_ms())
        elif self.ttl is not None:
            expiry_ms = expiry_after(self.ttl, now_ms())
        if self.nx and self.xx:
            raise FieldInvalid("fields 'nx' and 'xx' exclude each other")
        if self.if_version is not None and self.if_version > INTEGER_MAX:
            raise FieldInvalid("field 'if_version': beyond 64 bits")
        return Set(key, value, expiry_ms, self.nx, self.xx, self.keepttl, self.get, self.if_version)


class PairBody(msgspec.Struct, gc=False):
    """One key with its value."""

    key: str
    value: msgspec.Raw


class PairsBody(msgspec.Struct, gc=False):
    """`/kv/mset` and `/kv/msetnx`: objects or two-element arrays."""

    pairs: list[PairBody | tuple[str, msgspec.Raw]]

    def command(self, *, nx: bool) -> SetMany:
        """Return the command that writes all pairs as one."""
        return SetMany(tuple([_stored_pair(pair) for pair in self.pairs]), nx)


class _TextPair(msgspec.Struct, gc=False):
    key: str
    value: str


class _TextPairs(msgspec.Struct, gc=False):
    """A PairsBody whose values are all strings."""

    pairs: list[_TextPair | tuple[str, str]]


class KeysBody(msgspec.Struct, gc=False):
    """`/kv/mget` and `/kv/mdel`."""

    keys: list[str]

    def encoded(self) -> tuple[bytes, ...]:
        return tuple(map(str.encode, self.keys))


class AmountBody(msgspec.Struct, gc=False):
    """`/kv/incr` and `/kv/decr`."""

    key: str
    amount: int = 1

    def checked_amount(self) -> int:
        """Return the amount.

        Raises:
            InvalidValue: it is beyond 64 bits.
        """
        if not INTEGER_MIN <= self.amount <= INTEGER_MAX:
            raise InvalidValue("field 'amount': beyond 64 bits")
        return self.amount


class ValueBody(msgspec.Struct, gc=False):
    """`/kv/{key}/append` and `/kv/{key}/getset`."""

    value: msgspec.Raw


class RangeBody(msgspec.Struct, gc=False):
    """`/kv/{key}/setrange`."""

    offset: Natural
    value: msgspec.Raw

    def checked_offset(self) -> int:
        """Return the offset.

        Raises:
            InvalidValue: it is beyond 64 bits.
        """
        if self.offset > INTEGER_MAX:
            raise InvalidValue("field 'offset': beyond 64 bits")
        return self.offset


class TtlBody(msgspec.Struct, gc=False):
    """`/kv/{key}/expire`."""

    ttl: Natural


class DestinationBody(msgspec.Struct, gc=False):
    """`/key/{source}/rename`, `/renamenx` and `/copy`."""

    destination: str
    replace: bool = False

    def rename(self, source: bytes, *, nx: bool) -> Rename:
        return Rename(source, self.destination.encode(), nx)

    def copy(self, source: bytes) -> Copy:
        return Copy(source, self.destination.encode(), self.replace)


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


_decode_text_pairs = msgspec.json.Decoder(_TextPairs).decode
_decode_pairs = decoder(PairsBody)


def set_many(data: bytes, *, nx: bool) -> SetMany:
    """Return the command that a PairsBody comes to; for its errors see `decoder`.

    Most values are strings, which are decoded in one go.
    """
    try:
        pairs = _decode_text_pairs(data).pairs
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_pairs(data).command(nx=nx)
    encoded = [
        (pair[0].encode(), pair[1].encode())
        if isinstance(pair, tuple)
        else (pair.key.encode(), pair.value.encode())
        for pair in pairs
    ]
    return SetMany(tuple(encoded), nx)


def expiry_after(ttl: int, now_ms: int) -> int:
    """Return the wall clock in ms at which `ttl` seconds from now are over.

    Raises:
        FieldInvalid: that is beyond 64 bits.
    """
    return _checked_expiry(now_ms + ttl * 1000, "ttl")


def _checked_expiry(expiry_ms: int, field: str) -> int:
    if expiry_ms > MAX_EXPIRY_MS:
        raise FieldInvalid(f"field '{field}': the time is beyond 64 bits")
    return expiry_ms


def _stored_pair(pair: PairBody | tuple[str, msgspec.Raw]) -> tuple[bytes, bytes]:
    key, value = pair if isinstance(pair, tuple) else (pair.key, pair.value)
    return key.encode(), stored_bytes(value)


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
