"""Changes to a value, and its parts."""

from __future__ import annotations

import msgspec
import orjson

from synap.commands.records import Record, slice_range
from synap.commands.strings import (
    INTEGER_MAX,
    INTEGER_MIN,
    Append,
    GetSet,
    Increment,
    IncrementFloat,
    SetRange,
)
from synap.commands.values import stored_bytes, told
from synap.http.api.bodies import Natural
from synap.http.api.openapi.answer_schemas import INTEGER
from synap.http.api.openapi.route import Parameter, get, post
from synap.http.api.operations.operation import Look, Nothing, Write, named
from synap.http.api.operations.whole_keys import SHAPE, Shape, shown
from synap.request_errors import InvalidValue
from synap.service.node_api import NodeApi, not_found

# JavaScript's numbers, and those of what is made like it, are exact below this.
_EXACT = 2**53


class AmountBody(msgspec.Struct, gc=False):
    """`incr` and `decr`."""

    key: str
    amount: int = 1

    def command(self, sign: int) -> Increment:
        """Return the command that adds the amount, or takes it away.

        Raises:
            InvalidValue: it is beyond 64 bits.
        """
        if not INTEGER_MIN <= self.amount <= INTEGER_MAX:
            raise InvalidValue("field 'amount': beyond 64 bits")
        return Increment(self.key.encode(), sign * self.amount)


def exact(number: int) -> int | str:
    """Return an integer for JSON: as a string where many clients would round it."""
    return number if -_EXACT < number < _EXACT else str(number)


def _sum(key: bytes, body: AmountBody, number: int) -> object:
    return {"value": exact(number)}


class FloatAmountBody(msgspec.Struct, gc=False):
    """`incrbyfloat`."""

    key: str
    amount: float


def _number(key: bytes, body: FloatAmountBody, text: bytes) -> object:
    return {"value": orjson.Fragment(text)}


class ValueBody(msgspec.Struct, gc=False):
    """`append` and `getset`."""

    value: msgspec.Raw


class RangeBody(msgspec.Struct, gc=False):
    """`setrange`."""

    offset: Natural
    value: msgspec.Raw

    def command(self, key: bytes) -> SetRange:
        """Return the command.

        Raises:
            InvalidValue: the offset is beyond 64 bits.
        """
        if self.offset > INTEGER_MAX:
            raise InvalidValue("field 'offset': beyond 64 bits")
        return SetRange(key, self.offset, stored_bytes(self.value))


class SliceBody(msgspec.Struct, gc=False):
    """`getrange`."""

    start: int
    end: int
    type: Shape = "string"


def _slice(key: bytes, body: SliceBody, record: Record | None) -> object:
    if record is None:
        return not_found(key)
    return shown(slice_range(record.value, body.start, body.end), body.type)


def _slice_by_name(key: bytes, body: SliceBody, record: Record | None) -> object:
    return None if record is None else _slice(key, body, record)


def _length(key: bytes, body: Nothing, record: Record | None) -> object:
    return {"length": 0 if record is None else len(record.value)}


def _old_value(key: bytes, body: ValueBody, old: bytes | None) -> object:
    return None if old is None else told(old)


def _last(body: object, result: object, last: int) -> int:
    return last


_RANGE = (
    Parameter("start", INTEGER, "First byte; below 0 from the end", is_required=True),
    Parameter("end", INTEGER, "Last byte, inclusive; below 0 from the end", is_required=True),
)

VALUES = (
    Write(
        "kv.incr kv.incrby",
        post("/kv/incr", "Add to an integer", "Number"),
        AmountBody,
        lambda key, body: body.command(1),
        _sum,
        show_named=named("value"),
        is_queued=True,
        version=_last,
    ),
    Write(
        "kv.decr kv.decrby",
        post("/kv/decr", "Subtract from an integer", "Number"),
        AmountBody,
        lambda key, body: body.command(-1),
        _sum,
        show_named=named("value"),
        is_queued=True,
        version=_last,
    ),
    Write(
        "kv.incrbyfloat",
        post("/kv/incrbyfloat", "Add to a number", "Float"),
        FloatAmountBody,
        lambda key, body: IncrementFloat(body.key.encode(), body.amount),
        _number,
        version=_last,
    ),
    Write(
        "kv.append",
        post("/kv/{key}/append", "Append to a value", "Length"),
        ValueBody,
        lambda key, body: Append(key, stored_bytes(body.value)),
        named("length"),
        version=_last,
    ),
    Look(
        "kv.getrange",
        get(
            "/kv/{key}/getrange", "Get a part of a value", "Value",
            parameters=(*_RANGE, SHAPE), statuses=(404,),
        ),
        SliceBody,
        NodeApi.get,
        _slice,
        show_named=_slice_by_name,
    ),
    Write(
        "kv.setrange",
        post("/kv/{key}/setrange", "Overwrite a part of a value", "Length"),
        RangeBody,
        lambda key, body: body.command(key),
        named("length"),
        # An empty piece changes nothing.
        version=lambda body, length, last: last if bytes(body.value) != b'""' else 0,
    ),
    Look(
        "kv.strlen",
        get("/kv/{key}/strlen", "Get a value's length in bytes", "Length"),
        Nothing,
        NodeApi.look,
        _length,
    ),
    Write(
        "kv.getset",
        post("/kv/{key}/getset", "Set a key and get its old value", "OldValue"),
        ValueBody,
        lambda key, body: GetSet(key, stored_bytes(body.value)),
        _old_value,
    ),
)  # fmt: skip
