"""Keys as a whole: set, get, del, and the same for several keys at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, get_args

import msgspec
import orjson

from synap.auth.permissions import Caller
from synap.commands.keys import CONDITION_FAILED, Delete, SetMany
from synap.commands.keyspace import ABSENT
from synap.commands.records import Record
from synap.commands.strings import Set, SetResult
from synap.commands.values import (
    base64_text,
    byte_list,
    readable,
    stored_bytes,
    told,
    told_all,
)
from synap.http.api.bodies import AtMostMany, Natural, checked_expiry, decoder, expiry_after
from synap.http.api.openapi.route import IF_MATCH, IF_NONE_MATCH, Parameter, delete, get, post
from synap.http.api.operations.operation import (
    ClientId,
    Context,
    LongRead,
    Look,
    Nothing,
    Write,
    named,
)
from synap.place import LogEnd, Place, parse_place
from synap.request_errors import FieldInvalid, FieldMissing, InvalidRequest
from synap.service.node_api import NodeApi, not_found
from synap.shared.node_clock import begun_ms

# Why a write on a condition of its body changed nothing.
KEY_EXISTS, VERSION_DIFFERS = "key_exists", "version_differs"
_MS_OF_UNIT = {"seconds": 1000, "milliseconds": 1}
# No JSON text is empty.
_NO_VALUE = msgspec.Raw()


class ExpiryBody(msgspec.Struct, gc=False):
    """A deadline, from now on (`seconds`, `milliseconds`) or from 1970 on (`unix_…`)."""

    type: Literal["seconds", "milliseconds", "unix_seconds", "unix_milliseconds"]
    value: Natural

    def absolute_ms(self, now_ms: int) -> int:
        """Return the wall clock in ms that this comes to."""
        unit = self.type.removeprefix("unix_")
        start_ms = 0 if unit != self.type else now_ms
        # No time from now is over already, in the part of a millisecond before it too.
        is_over = bool(start_ms) and not self.value
        return checked_expiry(start_ms + self.value * _MS_OF_UNIT[unit] - is_over, "expiry")


class SetBody(msgspec.Struct, gc=False):
    """`set`."""

    key: str
    value: msgspec.Raw
    ttl: Natural | None = None
    expiry: ExpiryBody | None = None
    nx: bool = False
    xx: bool = False
    keepttl: bool = False
    get: bool = False
    if_version: str | int | None = None

    @property
    def has_condition(self) -> bool:
        """Whether the key that is there has a say, in what is written or in the answer."""
        return self.nx or self.xx or self.keepttl or self.get or self.if_version is not None


def set_command(key: bytes, body: SetBody, now_ms: Callable[[], int] = begun_ms) -> Set:
    """Return the command of a SET.

    Args:
        key: Of no meaning: the body has it.
        now_ms: Wall clock in ms, asked only where there is a deadline.
    """
    key, value = body.key.encode(), stored_bytes(body.value)
    expiry_ms = None
    if body.expiry is not None:
        expiry_ms = body.expiry.absolute_ms(now_ms())
    elif body.ttl is not None:
        expiry_ms = expiry_after(body.ttl, now_ms())
    if body.nx and body.xx:
        raise FieldInvalid("fields 'nx' and 'xx' exclude each other")
    if_version = None if body.if_version is None else wanted_version(body.if_version)
    return Set(key, value, expiry_ms, body.nx, body.xx, body.keepttl, body.get, if_version)


def wanted_version(given: str | int, field: str = "if_version") -> Place:
    """Return the version that a field names.

    Raises:
        FieldInvalid: it names none.
    """
    if given == 0 and isinstance(given, int):
        return ABSENT
    try:
        return parse_place(str(given))
    except ValueError as error:
        raise FieldInvalid(
            f"field '{field}': {error}, as the ETag has it in its quotes, and not 0, which "
            "stands for an absent key"
        ) from error


def _unwritten(body: SetBody, result: SetResult) -> str:
    """Return the word for the condition that did not hold."""
    if body.nx and result.version:
        return KEY_EXISTS
    return "key_absent" if body.xx and not result.version else VERSION_DIFFERS


def _written(key: bytes, body: SetBody, result: SetResult) -> object:
    answer = {"success": True, "key": body.key, "written": result.written}
    if not result.written:
        answer["reason"] = _unwritten(body, result)
    if body.get:
        answer["old_value"] = None if result.old is None else told(result.old)
    return answer


def _written_by_name(key: bytes, body: SetBody, result: SetResult) -> object:
    answer: dict[str, object] = {"success": True}
    if body.has_condition:
        answer["written"] = result.written
    if not result.written:
        answer["reason"] = _unwritten(body, result)
    if body.get:
        answer["old_value"] = None if result.old is None else told(result.old)
    return answer


Shape = Literal["string", "bytes", "json", "base64"]


class GetBody(msgspec.Struct, gc=False):
    """`get`."""

    type: Shape = "string"


def shown(value: bytes, shape: Shape) -> object:
    """Return stored bytes in the shape that is asked for, for JSON.

    Raises:
        InvalidRequest: there is no such shape.
    """
    if shape == "string":
        return readable(value)
    if shape == "json":
        return _parsed(value)
    if shape == "base64":
        return base64_text(value)
    # A query has it as it was sent, and has no say where there is no value.
    if shape != "bytes":
        raise InvalidRequest("parameter 'type' is none of string, bytes, json, base64")
    return byte_list(value)


def _value(key: bytes, body: GetBody, record: Record | None) -> object:
    return not_found(key) if record is None else shown(record.value, body.type)


def _value_by_name(key: bytes, body: GetBody, record: Record | None) -> object:
    return None if record is None else _value(key, body, record)


class DeletePayload(Nothing, gc=False):
    """`kv.del`: one key, or several."""

    key: str | None = None
    keys: Annotated[list[str], AtMostMany] | None = None
    client_id: ClientId | None = None
    if_version: str | int | None = None

    def command(self) -> Delete:
        """Return the command.

        Raises:
            FieldMissing: neither is given.
            FieldInvalid: both are, or the version is none.
        """
        if_version = None if self.if_version is None else wanted_version(self.if_version)
        if self.keys is not None:
            if self.key is not None:
                raise FieldInvalid("fields 'key' and 'keys' exclude each other")
            return Delete(tuple([key.encode() for key in self.keys]), if_version)
        if self.key is None:
            raise FieldMissing("key")
        return Delete((self.key.encode(),), if_version)


def _delete(key: bytes, body: Nothing) -> Delete:
    return body.command() if isinstance(body, DeletePayload) else Delete((key,))


def _deleted(key: bytes, body: Nothing, number: int) -> object:
    return {"deleted": bool(number), "key": key.decode()}


def _deleted_by_name(key: bytes, body: Nothing, number: int) -> object:
    assert isinstance(body, DeletePayload)
    if number == CONDITION_FAILED:
        return {"deleted": 0 if body.keys is not None else False, "reason": VERSION_DIFFERS}
    return {"deleted": number if body.keys is not None else bool(number)}


class PairBody(msgspec.Struct, gc=False):
    """One key with its value."""

    key: str
    value: msgspec.Raw
    ttl: Natural | None = None


class PairsBody(msgspec.Struct, gc=False):
    """`mset` and `msetnx`: objects or two-element arrays."""

    pairs: Annotated[list[PairBody | tuple[str, msgspec.Raw]], AtMostMany]

    def command(self, *, nx: bool) -> SetMany:
        """Return the command."""
        return SetMany(tuple([_stored_pair(pair) for pair in self.pairs]), nx, _deadlines(self))


class _TextPair(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    key: str
    value: str
    ttl: Natural | None = None


class _TextPairs(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A PairsBody whose values are all strings."""

    pairs: Annotated[list[_TextPair | tuple[str, str]], AtMostMany]

    def command(self, *, nx: bool) -> SetMany:
        stored = tuple(
            [
                (pair[0].encode(), pair[1].encode())
                if isinstance(pair, tuple)
                else (pair.key.encode(), pair.value.encode())
                for pair in self.pairs
            ]
        )
        return SetMany(stored, nx, _deadlines(self))


class PairsPayload(msgspec.Struct, gc=False):
    """`kv.mset` and `kv.msetnx`: pairs, or one key with its value."""

    pairs: Annotated[list[PairBody | tuple[str, msgspec.Raw]], AtMostMany] | None = None
    key: str | None = None
    value: msgspec.Raw = _NO_VALUE
    ttl: Natural | None = None

    def command(self, *, nx: bool) -> SetMany:
        """Return the command.

        Raises:
            FieldMissing: there is neither a list nor a pair.
        """
        if self.pairs is not None:
            return PairsBody(self.pairs).command(nx=nx)
        if self.key is None or not self.value:
            raise FieldMissing("pairs" if self.key is None else "value")
        return PairsBody([PairBody(self.key, self.value, self.ttl)]).command(nx=nx)


def _deadlines(body: PairsBody | _TextPairs) -> tuple[int | None, ...]:
    """Return when each pair expires; nothing where none does."""
    ttls = [None if isinstance(pair, tuple) else pair.ttl for pair in body.pairs]
    if ttls.count(None) == len(ttls):
        return ()
    now = begun_ms()
    return tuple([None if ttl is None else expiry_after(ttl, now) for ttl in ttls])


_Pairs = PairsBody | _TextPairs | PairsPayload
_decode_text_pairs = msgspec.json.Decoder(_TextPairs).decode
_decode_pairs = decoder(PairsBody)


def decode_pairs(data: bytes, ignores_unknown: bool = False) -> PairsBody | _TextPairs:
    """Return the decoded body of mset; for its errors see `decoder`.

    Most values are strings, which are decoded in one go.
    """
    try:
        return _decode_text_pairs(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_pairs(data, ignores_unknown)


def _stored_pair(pair: PairBody | tuple[str, msgspec.Raw]) -> tuple[bytes, bytes]:
    key, value = pair if isinstance(pair, tuple) else (pair.key, pair.value)
    return key.encode(), stored_bytes(value)


def _set_many(key: bytes, body: _Pairs) -> SetMany:
    return body.command(nx=False)


def _set_many_nx(key: bytes, body: _Pairs) -> SetMany:
    return body.command(nx=True)


def _all_written(key: bytes, body: _Pairs, is_written: bool) -> object:
    if is_written:
        return {"success": True, "written": True}
    return {"success": False, "written": False, "reason": KEY_EXISTS}


class KeysBody(msgspec.Struct, gc=False):
    """`mdel`."""

    keys: Annotated[list[str], AtMostMany]

    def encoded(self) -> tuple[bytes, ...]:
        """Return the keys' bytes."""
        return tuple(map(str.encode, self.keys))


class GetManyBody(KeysBody, gc=False):
    """`mget`."""

    type: Literal["string", "json", "base64"] | None = None


async def _get_many(context: Context, key: bytes, body: GetManyBody) -> list[bytes | None]:
    values, end = await context.api.get_many(context.caller, body.encoded())
    context.saw(end)
    return values


def _look_at_few(
    api: NodeApi, caller: Caller, key: bytes, body: GetManyBody
) -> tuple[list[bytes | None], LogEnd] | None:
    return api.get_few(caller, body.encoded())


def _values(key: bytes, body: GetManyBody, values: list[bytes | None]) -> object:
    if body.type is None or body.type == "string":
        return {"values": told_all(values)}
    return {"values": [None if value is None else shown(value, body.type) for value in values]}


def _values_by_name(key: bytes, body: GetManyBody, values: list[bytes | None]) -> object:
    if body.type is not None:
        return _values(key, body, values)
    return {"values": [None if value is None else _parsed(value) for value in values]}


def _parsed(value: bytes) -> object:
    """Return a stored value as the JSON that it is, with its own text; else as it is told."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return told(value)
    return orjson.Fragment(value)


SHAPE = Parameter(
    "type", {"enum": [*get_args(Shape)], "default": "string"}, "How the value is shown"
)

SET = Write(
    "kv.set",
    post(
        "/kv/set", "Set a key", "Written",
        parameters=(IF_MATCH, IF_NONE_MATCH), statuses=(412,),
    ),
    SetBody,
    set_command,
    _written,
    show_named=_written_by_name,
    is_queued=True,
    version=lambda body, result, last: result.version,
)  # fmt: skip
GET = Look(
    "kv.get",
    get(
        "/kv/get/{key}", "Get a key's value", "Value",
        parameters=(SHAPE, IF_MATCH, IF_NONE_MATCH), statuses=(304, 404), headers=("ETag",),
    ),
    GetBody,
    NodeApi.get,
    _value,
    show_named=_value_by_name,
)  # fmt: skip
WHOLE_KEYS = (
    SET,
    GET,
    Write(
        "kv.del",
        delete(
            "/kv/del/{key}",
            "Delete a key",
            "Deleted",
            parameters=(IF_MATCH, IF_NONE_MATCH),
            statuses=(412,),
        ),
        Nothing,
        _delete,
        _deleted,
        show_named=_deleted_by_name,
        payload=DeletePayload,
        is_queued=True,
    ),
    Write(
        "kv.mset",
        post("/kv/mset", "Set several keys at once", "Success"),
        PairsBody,
        _set_many,
        named("success"),
        payload=PairsPayload,
        decode=decode_pairs,
    ),
    Write(
        "kv.msetnx",
        post("/kv/msetnx", "Set several keys where none of them exists", "AllWritten"),
        PairsBody,
        _set_many_nx,
        _all_written,
        show_named=named("success"),
        payload=PairsPayload,
        decode=decode_pairs,
    ),
    LongRead(
        "kv.mget",
        post("/kv/mget", "Get several values", "Values", kind="read"),
        GetManyBody,
        _get_many,
        _values,
        look=_look_at_few,
        show_named=_values_by_name,
        is_filtered=True,
    ),
    Write(
        "kv.mdel",
        post("/kv/mdel", "Delete several keys", "DeletedCount"),
        KeysBody,
        lambda key, body: Delete(body.encoded()),
        named("deleted"),
        action="delete",
    ),
)
