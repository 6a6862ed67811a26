"""Payloads of the command endpoint: their fields, and the commands that they come to.

Where a REST body says the same, the payload is that body with the key beside it; the decoding and
its faults are the same (`bodies.decoder`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from synap.commands.keys import Delete, SetMany
from synap.commands.strings import Append, GetSet, Increment, SetRange
from synap.commands.values import stored_bytes
from synap.http.api.bodies import (
    AmountBody,
    DestinationBody,
    KeysBody,
    PairBody,
    PairsBody,
    RangeBody,
    SetBody,
    TtlBody,
    ValueBody,
)
from synap.request_errors import FieldInvalid, FieldMissing
from synap.service.node_facts import DEFAULT_SLOW_ENTRIES

# Long enough for any id that a client makes up, short enough to be kept for each of them.
ClientId = Annotated[str, msgspec.Meta(max_length=256)]
DEFAULT_PAGE_KEYS = 100
# No JSON text is empty.
NO_VALUE = msgspec.Raw()
# What clients send as a cursor before they have one.
_NO_CURSOR = (None, 0, "", "0")


class Nothing(msgspec.Struct, gc=False):
    """No field counts."""


class SectionPayload(msgspec.Struct, gc=False):
    """One section of what a node tells, or all."""

    section: str | None = None


class CountPayload(msgspec.Struct, gc=False):
    """How many entries of the slow log."""

    count: int = DEFAULT_SLOW_ENTRIES


class KeyPayload(msgspec.Struct, gc=False):
    """One key."""

    key: str

    def encoded(self) -> bytes:
        return self.key.encode()


class SetPayload(SetBody, gc=False):
    """`kv.set`: the REST body, and the client whose transaction it may be for."""

    client_id: ClientId | None = None

    @property
    def has_condition(self) -> bool:
        """Whether the answer must tell if the key was written."""
        return self.nx or self.xx or self.keepttl or self.get or self.if_version is not None


class GetPayload(KeyPayload, gc=False):
    """`kv.get`."""

    type: Literal["string", "bytes"] = "string"


class DeletePayload(msgspec.Struct, gc=False):
    """`kv.del`: one key, or several."""

    key: str | None = None
    keys: list[str] | None = None
    client_id: ClientId | None = None

    def command(self) -> Delete:
        """Return the command.

        Raises:
            FieldMissing: neither is given.
            FieldInvalid: both are.
        """
        if self.keys is not None:
            if self.key is not None:
                raise FieldInvalid("fields 'key' and 'keys' exclude each other")
            return Delete(tuple([key.encode() for key in self.keys]))
        if self.key is None:
            raise FieldMissing("key")
        return Delete((self.key.encode(),))


class AmountPayload(AmountBody, gc=False):
    """`kv.incr` and `kv.decr`."""

    client_id: ClientId | None = None

    def command(self, sign: int) -> Increment:
        return Increment(self.key.encode(), sign * self.checked_amount())


class PairsPayload(msgspec.Struct, gc=False):
    """`kv.mset` and `kv.msetnx`: pairs, or one key with its value."""

    pairs: list[PairBody | tuple[str, msgspec.Raw]] | None = None
    key: str | None = None
    value: msgspec.Raw = NO_VALUE

    def command(self, *, nx: bool) -> SetMany:
        """Return the command that writes all as one.

        Raises:
            FieldMissing: there is neither a list nor a pair.
        """
        pairs = self.pairs
        if pairs is None:
            if self.key is None or not self.value:
                raise FieldMissing("pairs" if self.key is None else "value")
            pairs = [PairBody(self.key, self.value)]
        return PairsBody(pairs).command(nx=nx)


class ScanPayload(msgspec.Struct, gc=False):
    """`kv.scan`."""

    prefix: str = ""
    pattern: str | None = None
    cursor: str | int | None = None
    limit: int | None = None
    count: int | None = None

    @property
    def page_keys(self) -> int:
        """How many keys are asked for."""
        limit = self.count if self.limit is None else self.limit
        return DEFAULT_PAGE_KEYS if limit is None else limit

    @property
    def place(self) -> str | None:
        """The cursor; None for the first page."""
        return None if self.cursor in _NO_CURSOR else str(self.cursor)


class PatternPayload(msgspec.Struct, gc=False):
    """`kv.keys`."""

    pattern: str = "*"


class ExpirePayload(TtlBody, gc=False, kw_only=True):
    """`kv.expire`."""

    key: str


class ValuePayload(ValueBody, gc=False, kw_only=True):
    """`kv.append` and `kv.getset`."""

    key: str

    def append(self) -> Append:
        return Append(self.key.encode(), stored_bytes(self.value))

    def get_set(self) -> GetSet:
        return GetSet(self.key.encode(), stored_bytes(self.value))


class SetRangePayload(RangeBody, gc=False, kw_only=True):
    """`kv.setrange`."""

    key: str

    def command(self) -> SetRange:
        return SetRange(self.key.encode(), self.checked_offset(), stored_bytes(self.value))


class GetRangePayload(KeyPayload, gc=False):
    """`kv.getrange`."""

    start: int
    end: int


class MovePayload(DestinationBody, gc=False, kw_only=True):
    """`key.rename`, `key.renamenx` and `key.copy`."""

    source: str


class ClientPayload(msgspec.Struct, gc=False):
    """`transaction.…`. Clients that give themselves no id share the empty one."""

    client_id: ClientId = ""


class WatchPayload(KeysBody, gc=False, kw_only=True):
    """`transaction.watch`."""

    client_id: ClientId = ""
