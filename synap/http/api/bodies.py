"""Request bodies: how JSON becomes a struct, and what a fault in it is called.

A body is decoded straight into a struct, and a fault names its field. A field that the struct does
not have is a fault too: what was meant by it would not be done. Only the commands that are asked
for by name pass over it, and a node with `server.unknown_fields: ignore`. The structs stand beside
what they are for (`operations`, `endpoints`). Values stay raw JSON until `values.stored_bytes`
turns them into bytes.
"""

from __future__ import annotations

import functools
import operator
import re
import types
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_origin

import msgspec

from synap.commands.keyspace import MAX_EXPIRY_MS
from synap.commands.values import NESTED_TOO_DEEP, half_pair
from synap.nearest import nearest_name
from synap.request_errors import FieldInvalid, FieldMissing, FieldUnknown, InvalidRequest

Body = TypeVar("Body", bound=msgspec.Struct)
BodyOut = TypeVar("BodyOut", bound=msgspec.Struct, covariant=True)
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
# A number that is no integer as it is written, where there must be one.
_FRACTION = re.compile(r"^Expected `int.*, got `float` - at `\$(.*)`$")
_ELEMENT = re.compile(r"\[\d+\]")
_PART_OF_PATH = re.compile(r"\[\]|[^.\[\]]+")
_WRITTEN_FRACTION = re.compile(rb"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?")
# From here on a float stands for several integers.
_MOST_WHOLE = 2**53
_CHOICE = re.compile(r"Invalid enum value ")
_UNKNOWN = re.compile(r"contains unknown field `(.*?)`", re.DOTALL)
# What other stores call it.
_OTHER_WORDS = {
    "count": "limit", "ex": "ttl", "match": "pattern", "px": "expiry", "seconds": "ttl",
    "expire": "ttl", "by": "amount", "increment": "amount", "delta": "amount",
}  # fmt: skip
_MOST_SHOWN = 64


class Decode(Protocol[BodyOut]):
    """Decodes one kind of body."""

    def __call__(self, data: bytes, ignores_unknown: bool = False) -> BodyOut:
        """Return the body.

        Args:
            data: JSON.
            ignores_unknown: Pass over fields that the body does not have.

        Raises:
            InvalidRequest: the bytes are not JSON.
            FieldInvalid: they are, but not of this kind; the message names the field.
        """


def decoder(body_type: type[Body], name: str = "body") -> Decode[Body]:
    """Return what decodes one kind of body; `name` is what errors call it."""
    strict: Callable[[bytes], Body] = msgspec.json.Decoder(_strict(body_type)).decode
    lenient = msgspec.json.Decoder(body_type).decode

    def decode_body(data: bytes, ignores_unknown: bool = False) -> Body:
        try:
            return lenient(data) if ignores_unknown else strict(data)
        except msgspec.ValidationError as error:
            try:
                return _decode_wholes(lenient if ignores_unknown else strict, data, error)
            except msgspec.ValidationError as fault:
                raise _field_error(str(fault), name, body_type) from fault
        except msgspec.DecodeError as error:
            problem = half_pair(data) or f"the {name} is not JSON: {error}"
            raise InvalidRequest(problem) from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the {name} is not UTF-8") from error
        except RecursionError as error:
            raise InvalidRequest(NESTED_TOO_DEEP) from error

    return decode_body


def _decode_wholes(
    decode: Callable[[bytes], Body], data: bytes, fault: msgspec.ValidationError
) -> Body:
    """Decode a body in which `3600.0`, as many languages write it, may stand for 3600.

    Args:
        decode: Raises msgspec.ValidationError where something else is wrong.
        data: JSON.
        fault: What it raised.
    """
    mended: set[str] = set()
    while True:
        match = _FRACTION.search(str(fault))
        # Of a list all elements are mended at once.
        field = _ELEMENT.sub("[]", match[1]) if match else ""
        if not field or field in mended:
            raise fault
        mended.add(field)
        data = _with_whole(data, _PART_OF_PATH.findall(field))
        try:
            return decode(data)
        except msgspec.ValidationError as error:
            fault = error


def _with_whole(data: bytes, path: list[str]) -> bytes:
    """Return JSON with the number at `path` without a fraction that is nothing."""
    if not path:
        number = float(data) if _WRITTEN_FRACTION.fullmatch(data) else 0.5
        return b"%d" % number if number.is_integer() and abs(number) < _MOST_WHOLE else data
    part, rest = path[0], path[1:]
    if part == "[]" and data[:1] == b"[":
        items = msgspec.json.decode(data, type=list[msgspec.Raw])
        return msgspec.json.encode([msgspec.Raw(_with_whole(bytes(each), rest)) for each in items])
    if part != "[]" and data[:1] == b"{":
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if part in fields:
            fields[part] = msgspec.Raw(_with_whole(bytes(fields[part]), rest))
            return msgspec.json.encode(fields)
    return data


def suggestion(name: str, known: Collection[str]) -> str:
    """Return what to say after the name of something unknown: the nearest of `known`, or all."""
    meant = _OTHER_WORDS.get(name.lower())
    nearest = meant if meant in known else nearest_name(name, known)
    if nearest is not None:
        return f"; did you mean '{nearest}'?"
    return f"; known are {', '.join(sorted(known))}" if known else "; there are none"


def shown_name(name: str) -> str:
    """Return a name that somebody sent, no longer than anybody wants to read."""
    return name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…"


def field_names(body_type: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of all fields of a body, those of the structs in it too."""
    return frozenset(_field_names(body_type))


def _choices(kind: Any, name: str) -> list[str]:
    """Return the texts that a field of `kind`, or of a struct in it, may have."""
    found: list[str] = []
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for each in msgspec.structs.fields(kind):
            if each.encode_name == name and get_origin(each.type) is Literal:
                found.extend(get_args(each.type))
            found.extend(_choices(each.type, name))
    for part in get_args(kind):
        found.extend(_choices(part, name))
    return found


def _field_names(kind: Any) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for each in msgspec.structs.fields(kind):
            yield each.encode_name
            yield from _field_names(each.type)
    for part in get_args(kind):
        yield from _field_names(part)


def _strict(kind: Any) -> Any:
    """Return the type with structs, it or in it, that take no unknown fields."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _strict_struct(kind)
    origin, parts = get_origin(kind), tuple(map(_strict, get_args(kind)))
    if origin is None or parts == get_args(kind):
        return kind
    return origin[parts] if origin is not types.UnionType else functools.reduce(operator.or_, parts)


def _strict_struct(body_type: type[msgspec.Struct]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for each in msgspec.structs.fields(body_type):
        kind = _strict(each.type)
        if kind != each.type:
            default = () if each.required else (each.default,)
            fields.append((each.name, kind, *default))
    return msgspec.defstruct(
        body_type.__name__, fields, bases=(body_type,), kw_only=True,
        forbid_unknown_fields=True, gc=False,
    )  # fmt: skip


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


def _field_error(message: str, name: str, body_type: type[msgspec.Struct]) -> FieldInvalid:
    """Return the decoder's `message` as an error with the field in front, in the words of JSON."""
    place = _PLACE.search(message)
    path = place[1] if place else ""
    unknown = _UNKNOWN.search(message)
    if unknown:
        field = shown_name(f"{path}.{unknown[1]}" if path else unknown[1])
        hint = suggestion(unknown[1], field_names(body_type))
        return FieldUnknown(f"unknown field '{field}'{hint}")
    missing = _MISSING.search(message)
    if missing:
        return FieldMissing(f"{path}.{missing[1]}" if path else missing[1])
    detail = (message[: place.start()] if place else message).replace(" | null", "")
    for own_word, json_word in _JSON_WORDS.items():
        detail = detail.replace(own_word, json_word)
    if _CHOICE.match(detail):
        allowed = ", ".join(_choices(body_type, path.rpartition(".")[2]))
        detail = f"{_CHOICE.sub('', detail)} is none of {allowed}"
    detail = detail[:1].lower() + detail[1:]
    return FieldInvalid(f"field '{path}': {detail}" if path else f"the {name}: {detail}")
