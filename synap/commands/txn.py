"""Conditions on keys, and what to do where they hold or do not: several things in one frame.

Pure, as all commands. Where the conditions hold the first branch is carried out, else the second.
What a branch gets is what the conditions saw, before anything of it is written. All of a branch
takes effect, or nothing.

Source: etcd, the transaction of its key-value API.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from synap.commands.keys import Delete
from synap.commands.keyspace import (
    COMMAND_BYTES,
    BaseCommand,
    Keyspace,
    Limits,
    Need,
    Trial,
    has_version,
    live,
    reading,
)
from synap.commands.records import Record, check_key
from synap.commands.strings import Increment, Set, SetResult
from synap.place import Place
from synap.request_errors import (
    AnswerTooLarge,
    CommandError,
    InvalidRequest,
    RecordCorrupt,
    ValueTooLarge,
)

MAX_PARTS = 1000
MAX_BYTES = 16 * 1024 * 1024

PartResult = tuple[str, int | bytes | None, str]
"""What a part came to, its number or value, and the key's version as clients read it, or empty."""


class Condition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must hold of a key; one of the fields is given.

    Attributes:
        key: The key.
        version: Its version is this one; ABSENT stands for an absent key.
        exists: It exists, or does not.
        value: It has this value.
    """

    key: bytes
    version: Place | None = None
    exists: bool | None = None
    value: bytes | None = None

    def holds(self, keyspace: Keyspace, now_ms: int) -> bool:
        """Say whether it does."""
        record = live(keyspace, self.key, now_ms)
        if self.version is not None:
            return has_version(keyspace, record, self.version)
        if self.exists is not None:
            return self.exists == (record is not None)
        return record is not None and record.value == self.value

    @property
    def size(self) -> int:
        """As that of a command."""
        return COMMAND_BYTES + len(self.key) + len(self.value or b"")


class Get(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=61):
    """A part that reads a key."""

    key: bytes

    def needs(self) -> Iterable[Need]:
        return (reading(self.key),)

    @property
    def size(self) -> int:
        """As that of a command."""
        return COMMAND_BYTES + len(self.key)


Part = Set | Delete | Increment | Get


class TxnResult(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What became of a Txn.

    Attributes:
        succeeded: Whether the conditions held.
        results: Of each part of the branch that was carried out, in their order.
    """

    succeeded: bool
    results: tuple[PartResult, ...]

    @property
    def value_bytes(self) -> int:
        """Bytes of the values that it tells."""
        return sum([len(told) for _, told, _ in self.results if isinstance(told, bytes)])


class Txn(BaseCommand, frozen=True, tag=14):
    """Carry out one of two branches; the result is a TxnResult.

    Attributes:
        conditions: All must hold.
        then: What is done where they do.
        otherwise: What is done where one does not.
    """

    conditions: tuple[Condition, ...]
    then: tuple[Part, ...]
    otherwise: tuple[Part, ...] = ()

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> TxnResult:
        """Carry it out; see BaseCommand."""
        self._check()
        succeeded = all(each.holds(keyspace, now_ms) for each in self.conditions)
        branch, name = (self.then, "then") if succeeded else (self.otherwise, "else")
        seen = _seen(branch, keyspace, now_ms)
        trial = Trial(keyspace)
        for number, part in enumerate(branch):
            if isinstance(part, Get):
                continue
            try:
                part.evaluate(trial, now_ms, limits)
            except RecordCorrupt:
                raise
            except CommandError as error:
                told = f"part '{name}[{number}]': {error.message}; nothing was changed"
                raise type(error)(told) from error
        results = [
            _got(seen[part.key], keyspace)
            if isinstance(part, Get)
            else _done(part, keyspace, now_ms, limits)
            for part in branch
        ]
        return TxnResult(succeeded, tuple(results))

    def needs(self) -> Iterable[Need]:
        """Return what all of both branches need, whichever is carried out."""
        needs = [reading(each.key) for each in self.conditions]
        for part in (*self.then, *self.otherwise):
            needs += part.needs()
        return needs

    def counted(self, result: TxnResult) -> tuple[int, int]:
        words = [word for word, _, _ in result.results]
        removed = sum([n for word, n, _ in result.results if word == "deleted"])  # type: ignore[misc]
        return words.count("set") + words.count("value"), removed

    @property
    def size(self) -> int:
        parts = (*self.conditions, *self.then, *self.otherwise)
        return COMMAND_BYTES + sum([each.size for each in parts])

    def _check(self) -> None:
        """Refuse what can never be carried out, in whichever branch it stands."""
        parts = (*self.then, *self.otherwise)
        if len(self.conditions) + len(parts) > MAX_PARTS:
            raise InvalidRequest(f"a transaction has at most {MAX_PARTS} conditions and parts")
        if self.size > MAX_BYTES:
            raise ValueTooLarge(f"a transaction has at most {MAX_BYTES} bytes")
        for each in (*self.conditions, *parts):
            for key in each.keys if isinstance(each, Delete) else (each.key,):
                check_key(key)


def _seen(branch: tuple[Part, ...], keyspace: Keyspace, now_ms: int) -> dict[bytes, Record | None]:
    """Return what the parts that read find.

    Raises:
        AnswerTooLarge: they find more than MAX_BYTES together.
    """
    seen: dict[bytes, Record | None] = {}
    left = MAX_BYTES
    for part in branch:
        if not isinstance(part, Get):
            continue
        if part.key not in seen:
            seen[part.key] = live(keyspace, part.key, now_ms)
        record = seen[part.key]
        left -= 0 if record is None else len(record.value)
        if left < 0:
            raise AnswerTooLarge
    return seen


def _got(record: Record | None, keyspace: Keyspace) -> PartResult:
    if record is None:
        return "got", None, ""
    return "got", record.value, _version(record.version, keyspace)


def _done(
    part: Set | Delete | Increment, keyspace: Keyspace, now_ms: int, limits: Limits
) -> PartResult:
    result = part.evaluate(keyspace, now_ms, limits)
    if isinstance(result, SetResult):
        return "set", None, _version(result.version, keyspace)
    return ("deleted" if isinstance(part, Delete) else "value"), result, ""


def _version(offset: int, keyspace: Keyspace) -> str:
    return str(Place(offset, keyspace.tag_of(offset)))
