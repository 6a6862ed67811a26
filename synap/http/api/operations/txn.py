"""Several things in one request, on conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from synap.auth.permissions import Caller
from synap.commands.keys import Delete
from synap.commands.strings import Set
from synap.commands.txn import MAX_PARTS, Condition, Get, Part, PartResult, Txn, TxnResult
from synap.commands.values import base64_text, stored_bytes
from synap.http.api.bodies import Natural, expiry_after
from synap.http.api.openapi.route import post
from synap.http.api.operations.operation import Write
from synap.http.api.operations.values import AmountBody, exact
from synap.http.api.operations.whole_keys import wanted_version
from synap.request_errors import CommandError, FieldInvalid
from synap.shared.node_clock import begun_ms

_OF_CONDITION = "version, exists or value"
_OF_PART = "set, del, incr or get"


class ConditionBody(msgspec.Struct, gc=False):
    """What must hold of a key: its version, whether it exists, or its value."""

    key: str
    version: str | int | None = None
    exists: bool | None = None
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def condition(self) -> Condition:
        """Return it.

        Raises:
            FieldInvalid: none of the three is given, or several are.
        """
        value = None if self.value is msgspec.UNSET else stored_bytes(self.value)
        given = (self.version is not None) + (self.exists is not None) + (value is not None)
        if given != 1:
            raise FieldInvalid(f"give {'one' if given else 'any'} of {_OF_CONDITION}")
        return Condition(
            self.key.encode(),
            None if self.version is None else wanted_version(self.version, "version"),
            self.exists,
            value,
        )


class TxnKeyBody(msgspec.Struct, gc=False):
    """`get` and `del` in a transaction."""

    key: str


class TxnSetBody(msgspec.Struct, gc=False):
    """`set` in a transaction."""

    key: str
    value: msgspec.Raw
    ttl: Natural | None = None


class PartBody(msgspec.Struct, gc=False, rename={"delete": "del"}):
    """One thing to do: an object with one field, which says what."""

    set: TxnSetBody | None = None
    delete: TxnKeyBody | None = None
    incr: AmountBody | None = None
    get: TxnKeyBody | None = None

    def part(self) -> Part:
        """Return it.

        Raises:
            FieldInvalid: nothing is given, or several things are.
            InvalidValue: an amount is beyond 64 bits.
        """
        given = [each for each in (self.set, self.delete, self.incr, self.get) if each is not None]
        if len(given) != 1:
            raise FieldInvalid(f"give {'one' if given else 'any'} of {_OF_PART}")
        if self.set is not None:
            return _set(self.set)
        if self.delete is not None:
            return Delete((self.delete.key.encode(),))
        if self.incr is not None:
            return self.incr.command(1)
        assert self.get is not None
        return Get(self.get.key.encode())


class TxnBody(msgspec.Struct, gc=False, rename={"if_": "if", "else_": "else"}):
    """`txn`: conditions, what to do where all hold, and what where one does not."""

    if_: tuple[ConditionBody, ...] = ()
    then: tuple[PartBody, ...] = ()
    else_: tuple[PartBody, ...] = ()

    def command(self) -> Txn:
        """Return the command.

        Raises:
            FieldInvalid: there is nothing to do, or too much, or one of the parts is none.
        """
        if not (self.then or self.else_):
            raise FieldInvalid("fields 'then' and 'else': nothing is to be done by either")
        if len(self.if_) + len(self.then) + len(self.else_) > MAX_PARTS:
            raise FieldInvalid(
                f"fields 'if', 'then' and 'else': more than {MAX_PARTS} elements together; "
                "split the transaction"
            )
        return Txn(
            tuple(_each("if", self.if_, ConditionBody.condition)),
            tuple(_each("then", self.then, PartBody.part)),
            tuple(_each("else", self.else_, PartBody.part)),
        )


def _each(name: str, bodies: tuple[Any, ...], make: Callable[[Any], Any]) -> list[Any]:
    """Return what `make` makes of each element of a field; its errors name the element."""
    made = []
    for number, body in enumerate(bodies):
        try:
            made.append(make(body))
        except CommandError as error:
            raise type(error)(f"field '{name}[{number}]': {error.message}") from error
    return made


def _set(body: TxnSetBody) -> Set:
    expiry_ms = None if body.ttl is None else expiry_after(body.ttl, begun_ms())
    return Set(body.key.encode(), stored_bytes(body.value), expiry_ms)


def _shown(key: bytes, body: TxnBody, result: TxnResult) -> object:
    return {"succeeded": result.succeeded, "results": [_part(each) for each in result.results]}


def _part(result: PartResult) -> dict[str, object]:
    word, told, version = result
    if word == "set":
        return {"set": True, "version": version}
    if word == "got":
        if not isinstance(told, bytes):
            return {"value": None}
        return {**shown_value(told), "version": version}
    return {word: exact(told) if word == "value" and isinstance(told, int) else told}


def shown_value(value: bytes) -> dict[str, object]:
    """Return a value as text where it is UTF-8, and as base64 where it is not."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64_text(value)}


class _Txn(Write[TxnBody]):
    """A transaction, which may do anything with keys."""

    def admit(self, caller: Caller, key: bytes) -> None:
        caller.require_any_key()


TXN = _Txn(
    "kv.txn",
    post("/kv/txn", "Do several things at once where conditions hold", "Txn"),
    TxnBody,
    lambda key, body: body.command(),
    _shown,
)
