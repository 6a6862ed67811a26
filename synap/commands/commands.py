"""The commands that change keys.

A command is what a client wants; evaluating it against the keys as they are gives its effects
(puts and removals) and its result. Only the effects are logged, so that replay is idempotent. The
keys come in as a `Keyspace` and the time as `now_ms`: no store, no socket, no clock. The writer
evaluates commands inside its LMDB transaction, HTTP workers build them. What a key holds, and when
it is gone, is in `records`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from synap.commands.records import NEVER, Record, check_key, check_keys, is_live
from synap.frame import ENTRY_BYTES, MAX_PAYLOAD_BYTES
from synap.request_errors import (
    InvalidRequest,
    InvalidValue,
    KeyExists,
    KeyNotFound,
    ValueTooLarge,
)

# Half of what the log's unsigned 64 bits hold: such a deadline still fits every signed reader.
MAX_EXPIRY_MS = 2**63 - 1
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What the node's configuration allows.

    Attributes:
        max_value_bytes: The longest value that a command that writes bytes may leave behind.
    """

    max_value_bytes: int


class Keyspace(Protocol):
    """The keys that a command is evaluated against; the store's write transaction is one."""

    def get(self, key: bytes) -> Record | None:
        """Return what is stored, expired or not."""

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Write the key and return its new version."""

    def put_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        """Write keys without an expiry, in order; return the version of the first."""

    def remove(self, key: bytes) -> None:
        """Remove the key; no effect where it is not stored."""

    def clear(self, now_ms: int) -> int:
        """Remove every key; return how many of them were not expired."""

    def get_account(self, key: bytes) -> Record | None:
        """Return an account's record; accounts are a space of their own and never expire."""

    def put_account(self, key: bytes, value: bytes) -> None:
        """Write an account's record."""

    def remove_account(self, key: bytes) -> None:
        """Remove an account's record; no effect where it is not stored."""


class _Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of the commands. Their tags are part of the local channel's messages."""


class Set(_Command, frozen=True, tag=1):
    """Write a key, where the conditions hold; the result is a SetResult.

    Attributes:
        expiry_ms: Absolute wall clock in ms; None for no expiry. A time that has passed writes a
            key that is already gone.
        nx: Only where the key is absent.
        xx: Only where the key exists.
        keepttl: Where `expiry_ms` is None, keep the expiry that the key has.
        get: Report the old value, written or not.
        if_version: Only where the key's version is this one; 0 stands for an absent key.
    """

    key: bytes
    value: bytes
    expiry_ms: int | None = None
    nx: bool = False
    xx: bool = False
    keepttl: bool = False
    get: bool = False
    if_version: int | None = None

    @property
    def has_condition(self) -> bool:
        """Whether the key that is there has a say, in what is written or in the answer."""
        return self.nx or self.xx or self.keepttl or self.get or self.if_version is not None


class Delete(_Command, frozen=True, tag=2):
    """Remove keys; the result is the number of those that existed.

    With `if_version`, for a single key alone, the result is CONDITION_FAILED and nothing changes
    where the key's version (0 where absent) is another one.
    """

    keys: tuple[bytes, ...]
    if_version: int | None = None


class Increment(_Command, frozen=True, tag=3):
    """Add to an integer (0 where absent), keeping its TTL; the result is the sum."""

    key: bytes
    amount: int


class Append(_Command, frozen=True, tag=4):
    """Add bytes at the end (of nothing where absent), keeping the TTL; the result is the length."""

    key: bytes
    value: bytes


class SetRange(_Command, frozen=True, tag=5):
    """Overwrite from byte `at` on, padding with NUL, keeping the TTL; the result is the length.

    An empty `value` has no effect.
    """

    key: bytes
    at: int
    value: bytes


class GetSet(_Command, frozen=True, tag=6):
    """Write a key without a TTL; the result is the old value or None."""

    key: bytes
    value: bytes


class Expire(_Command, frozen=True, tag=7):
    """Set a deadline; the result says whether the key exists. A time that has passed removes it."""

    key: bytes
    expiry_ms: int


class Persist(_Command, frozen=True, tag=8):
    """Take the deadline away; the result says whether there was one."""

    key: bytes


class SetMany(_Command, frozen=True, tag=9):
    """Write all pairs without a TTL, the last of equal keys; with `nx` only where all are absent.

    The result says whether they were written.
    """

    pairs: tuple[tuple[bytes, bytes], ...]
    nx: bool = False


class Rename(_Command, frozen=True, tag=10):
    """Move a key with its expiry over another one; with `nx` not over an existing one.

    The result is True. Onto itself it has no effect, and with `nx` it is KeyExists.
    """

    source: bytes
    destination: bytes
    nx: bool = False


class Copy(_Command, frozen=True, tag=11):
    """Copy a key with its expiry; with `replace` also over an existing one.

    The result is True. Onto itself it is KeyExists, or has no effect with `replace`.
    """

    source: bytes
    destination: bytes
    replace: bool = False


class Flush(_Command, frozen=True, tag=12):
    """Remove every key; the result is their number."""


class ChangeAccounts(_Command, frozen=True, tag=32):
    """Change records of accounts; the result is False, and nothing changes, where one has moved.

    Attributes:
        seen: Keys of records with the version that whoever asks has seen, 0 for an absent one.
        puts: Records to write.
        removes: Records to remove.
    """

    seen: tuple[tuple[bytes, int], ...]
    puts: tuple[tuple[bytes, bytes], ...] = ()
    removes: tuple[bytes, ...] = ()


class SetResult(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """What became of a Set.

    Attributes:
        written: Whether the conditions held.
        version: The key's version now; 0 where it is absent.
        old: The value before, where `get` asked for it and the key existed.
    """

    written: bool
    version: int
    old: bytes | None = None


CONDITION_FAILED = -1

Command = (
    Set | Delete | Increment | Append | SetRange | GetSet
    | Expire | Persist | SetMany | Rename | Copy | Flush | ChangeAccounts
)  # fmt: skip
Result = SetResult | int | bool | bytes | None


def evaluate(command: Command, keyspace: Keyspace, now_ms: int, limits: Limits) -> Result:
    """Carry out `command` on `keyspace`.

    Args:
        now_ms: Wall clock in ms, at least 0.

    Returns:
        The result that the command's docstring names.

    Raises:
        CommandError: it can't be carried out; nothing was changed.
    """
    return _EVALUATE[type(command)](command, keyspace, now_ms, limits)


def sweep(keys: Iterable[bytes], keyspace: Keyspace, now_ms: int) -> int:
    """Remove those of `keys` that are stored and have expired; return their number.

    No command can do this: for a command an expired key is absent, and needs no removal.
    """
    removed = 0
    for key in keys:
        record = keyspace.get(key)
        if record is not None and not is_live(record, now_ms):
            keyspace.remove(key)
            removed += 1
    return removed


def _live(keyspace: Keyspace, key: bytes, now_ms: int) -> Record | None:
    record = keyspace.get(key)
    return record if is_live(record, now_ms) else None


def check_value(size: int, limits: Limits) -> None:
    """Raise ValueTooLarge, naming the limit, unless a value of `size` bytes may be stored."""
    if size > limits.max_value_bytes:
        raise ValueTooLarge(
            f"the value has {size} bytes; the limit is {limits.max_value_bytes} bytes "
            "(kv_store.max_value_size_bytes)"
        )


def _check_all(pairs: Mapping[bytes, bytes]) -> None:
    """Raise ValueTooLarge unless all of them fit into one frame, beside what shares it."""
    size = sum(map(len, pairs)) + sum(map(len, pairs.values())) + len(pairs) * ENTRY_BYTES
    if size > MAX_PAYLOAD_BYTES // 2:
        raise ValueTooLarge(
            f"the pairs have {size} bytes together; the limit is {MAX_PAYLOAD_BYTES // 2}, "
            "for they are written at once"
        )


def _stored_expiry(expiry_ms: int | None) -> int:
    """Return the expiry as it is stored; a passed time of 0 must not be taken for NEVER."""
    if expiry_ms is None:
        return NEVER
    if expiry_ms > MAX_EXPIRY_MS:
        raise InvalidValue(f"the expiry {expiry_ms} ms is beyond 64 bits")
    return max(expiry_ms, 1)


def _set(command: Set, keyspace: Keyspace, now_ms: int, limits: Limits) -> SetResult:
    key, value = command.key, command.value
    check_key(key)
    check_value(len(value), limits)
    expiry_ms = _stored_expiry(command.expiry_ms)
    nx, xx, if_version = command.nx, command.xx, command.if_version
    if not command.has_condition:
        return SetResult(True, keyspace.put(key, value, expiry_ms))
    if nx and xx:
        raise InvalidRequest("nx and xx exclude each other")
    record = _live(keyspace, key, now_ms)
    old = record.value if record is not None and command.get else None
    version = 0 if record is None else record.version
    refused = (nx and record) or (xx and not record)
    if refused or (if_version is not None and if_version != version):
        return SetResult(False, version, old)
    if command.keepttl and record is not None and command.expiry_ms is None:
        expiry_ms = record.expiry_ms
    return SetResult(True, keyspace.put(key, value, expiry_ms), old)


def _delete(command: Delete, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
    keys = command.keys
    check_keys(keys)
    if command.if_version is not None:
        if len(keys) != 1:
            raise InvalidRequest("if_version goes with a single key")
        record = _live(keyspace, keys[0], now_ms)
        if command.if_version != (0 if record is None else record.version):
            return CONDITION_FAILED
    removed = 0
    for key in keys:
        if _live(keyspace, key, now_ms) is not None:
            keyspace.remove(key)
            removed += 1
    return removed


def _increment(command: Increment, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
    check_key(command.key)
    record = _live(keyspace, command.key, now_ms)
    total = command.amount
    if record is not None:
        total += _parse_integer(record.value)
    if not INTEGER_MIN <= total <= INTEGER_MAX or abs(command.amount) > -INTEGER_MIN:
        raise InvalidValue("the sum is beyond 64 bits")
    keyspace.put(command.key, b"%d" % total, NEVER if record is None else record.expiry_ms)
    return total


def _parse_integer(text: bytes) -> int:
    if _INTEGER.fullmatch(text) is None or not INTEGER_MIN <= int(text) <= INTEGER_MAX:
        raise InvalidValue("the value is not a decimal integer of 64 bits")
    return int(text)


def _append(command: Append, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
    check_key(command.key)
    record = _live(keyspace, command.key, now_ms)
    old, expiry_ms = (b"", NEVER) if record is None else (record.value, record.expiry_ms)
    check_value(len(old) + len(command.value), limits)
    keyspace.put(command.key, old + command.value, expiry_ms)
    return len(old) + len(command.value)


def _set_range(command: SetRange, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
    check_key(command.key)
    at, value = command.at, command.value
    if at < 0:
        raise InvalidRequest("the offset is negative")
    record = _live(keyspace, command.key, now_ms)
    old, expiry_ms = (b"", NEVER) if record is None else (record.value, record.expiry_ms)
    if not value:
        return len(old)
    check_value(max(at + len(value), len(old)), limits)
    new = old[:at].ljust(at, b"\0") + value + old[at + len(value) :]
    keyspace.put(command.key, new, expiry_ms)
    return len(new)


def _get_set(command: GetSet, keyspace: Keyspace, now_ms: int, limits: Limits) -> bytes | None:
    check_key(command.key)
    check_value(len(command.value), limits)
    record = _live(keyspace, command.key, now_ms)
    keyspace.put(command.key, command.value, NEVER)
    return None if record is None else record.value


def _expire(command: Expire, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
    check_key(command.key)
    expiry_ms = _stored_expiry(command.expiry_ms)
    record = _live(keyspace, command.key, now_ms)
    if record is None:
        return False
    if expiry_ms <= now_ms:
        keyspace.remove(command.key)
    else:
        keyspace.put(command.key, record.value, expiry_ms)
    return True


def _persist(command: Persist, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
    check_key(command.key)
    record = _live(keyspace, command.key, now_ms)
    if record is None or record.expiry_ms == NEVER:
        return False
    keyspace.put(command.key, record.value, NEVER)
    return True


def _set_many(command: SetMany, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
    pairs = dict(command.pairs)
    _check_all(pairs)
    check_keys(pairs)
    check_value(max(map(len, pairs.values()), default=0), limits)
    if command.nx and any(_live(keyspace, key, now_ms) for key in pairs):
        return False
    keyspace.put_all(list(pairs.items()))
    return True


def _rename(command: Rename, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
    record = _source(command, keyspace, now_ms)
    if command.nx and _live(keyspace, command.destination, now_ms) is not None:
        raise KeyExists
    if command.source != command.destination:
        keyspace.put(command.destination, record.value, record.expiry_ms)
        keyspace.remove(command.source)
    return True


def _copy(command: Copy, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
    record = _source(command, keyspace, now_ms)
    if not command.replace and _live(keyspace, command.destination, now_ms) is not None:
        raise KeyExists
    if command.source != command.destination:
        keyspace.put(command.destination, record.value, record.expiry_ms)
    return True


def _source(command: Rename | Copy, keyspace: Keyspace, now_ms: int) -> Record:
    check_key(command.source)
    check_key(command.destination)
    record = _live(keyspace, command.source, now_ms)
    if record is None:
        name = command.source.decode(errors="backslashreplace")
        raise KeyNotFound(f"Key not found: {name}")
    return record


def _flush(command: Flush, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
    return keyspace.clear(now_ms)


def _change_accounts(
    command: ChangeAccounts, keyspace: Keyspace, now_ms: int, limits: Limits
) -> bool:
    for key in (*[key for key, _ in command.puts], *command.removes):
        check_key(key)
    for key, version in command.seen:
        record = keyspace.get_account(key)
        if version != (0 if record is None else record.version):
            return False
    for _, value in command.puts:
        check_value(len(value), limits)
    for key, value in command.puts:
        keyspace.put_account(key, value)
    for key in command.removes:
        keyspace.remove_account(key)
    return True


_EVALUATE: dict[type, Callable[[Any, Keyspace, int, Limits], Result]] = {
    Set: _set,
    Delete: _delete,
    Increment: _increment,
    Append: _append,
    SetRange: _set_range,
    GetSet: _get_set,
    Expire: _expire,
    Persist: _persist,
    SetMany: _set_many,
    Rename: _rename,
    Copy: _copy,
    Flush: _flush,
    ChangeAccounts: _change_accounts,
}
