"""Keyspaces: what commands read and change, and what every command is and knows.

The store's write transaction is one keyspace. `Trial` is one beside it, on which a command is tried
without an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from synap.commands.records import NEVER, Record, is_live
from synap.frame import Cause
from synap.place import UNKNOWN_TAG, Place
from synap.request_errors import InvalidValue, ValueTooLarge

ABSENT = Place(0, UNKNOWN_TAG)
"""The version of a key that is not there."""
# Half of what the log's unsigned 64 bits hold: such a deadline still fits every signed reader.
MAX_EXPIRY_MS = 2**63 - 1
# What a command takes beside its keys and its values: tags, lengths, its answer.
COMMAND_BYTES = 64

Need = tuple[Literal["read", "write", "delete", "admin"], bytes]
"""An action with its resource; see `synap.auth.permissions`."""


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

    def remove(self, key: bytes, cause: Cause = Cause.CLIENT) -> None:
        """Remove the key, for a reason that the log keeps; no effect where it is not stored."""

    def clear(self, now_ms: int) -> int:
        """Remove every key; return how many of them were not expired."""

    def get_account(self, key: bytes) -> Record | None:
        """Return an account's record; accounts are a space of their own and never expire."""

    def put_account(self, key: bytes, value: bytes) -> None:
        """Write an account's record."""

    def remove_account(self, key: bytes) -> None:
        """Remove an account's record; no effect where it is not stored."""

    def get_request(self, key: bytes) -> Record | None:
        """Return the record of a request, in time or not; see `once`."""

    def put_request(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Write the record of a request; return its version."""

    def remove_request(self, key: bytes) -> None:
        """Remove the record of a request whose time is over; no effect where there is none."""

    def tag_of(self, version: int) -> str:
        """Return the tag of the reign that wrote a version; see `Reigns.tag_of`."""


class BaseCommand(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of the commands. Their tags are part of the local channel's messages.

    Each has a method `evaluate` of its own, which carries it out:

        def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> Result

    `now_ms` is the wall clock in ms, at least 0. It returns the result that the command's docstring
    names. Where it raises a CommandError, nothing was changed.
    """

    def needs(self) -> Iterable[Need]:
        """Return the actions that this takes, each with its resource.

        A command reads what its result tells of the old value. One that does not say what it needs
        is for those alone who may do everything with the node: it is forbidden until somebody has
        thought of it.
        """
        return (("admin", b"node:command"),)

    def counted(self, result: Any) -> tuple[int, int]:
        """Return how many keys this wrote and how many it removed, by its result."""
        return 0, 0

    @property
    def size(self) -> int:
        """About how many bytes this takes in memory and in a message."""
        return COMMAND_BYTES


class OneKeyChange(BaseCommand, frozen=True):
    """Base of the commands whose new value at one key comes from, or whose result tells, the old.

    Attributes:
        key: The key.
    """

    key: bytes

    def needs(self) -> Iterable[Need]:
        return reading(self.key), writing(self.key)

    def counted(self, result: Any) -> tuple[int, int]:
        return 1, 0

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.key)


class Trial:
    """Keys on which a command is tried without an effect, to see whether it makes them larger."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._changed: dict[bytes, Record | None] = {}
        self.growth_bytes = 0

    def get(self, key: bytes) -> Record | None:
        """Return what the command would find."""
        return self._changed[key] if key in self._changed else self._keyspace.get(key)

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Note a write; there is no version to tell."""
        self._replace(key, Record(0, expiry_ms, value))
        return 0

    def put_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        """Note writes; see `put`."""
        for key, value in pairs:
            self.put(key, value, NEVER)
        return 0

    def remove(self, key: bytes, cause: Cause = Cause.CLIENT) -> None:
        """Note a removal."""
        self._replace(key, None)

    def clear(self, now_ms: int) -> int:
        """Note that everything goes, which is never a growth; later writes are not looked at."""
        self.growth_bytes = -(1 << 62)
        return 0

    def get_account(self, key: bytes) -> Record | None:
        """Return what the command would find."""
        return self._keyspace.get_account(key)

    def put_account(self, key: bytes, value: bytes) -> None:
        """Note nothing: accounts are few, and one must be stopped also where memory is full."""

    def remove_account(self, key: bytes) -> None:
        """Note nothing."""

    def get_request(self, key: bytes) -> Record | None:
        """Return what the command would find."""
        return self._keyspace.get_request(key)

    def put_request(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Note nothing: what these take up has a bound of its own."""
        return 0

    def remove_request(self, key: bytes) -> None:
        """Note nothing."""

    def tag_of(self, version: int) -> str:
        """Return what the command would be told."""
        return self._keyspace.tag_of(version)

    def _replace(self, key: bytes, record: Record | None) -> None:
        self.growth_bytes += _bytes_of(key, record) - _bytes_of(key, self.get(key))
        self._changed[key] = record


def _bytes_of(key: bytes, record: Record | None) -> int:
    return 0 if record is None else len(key) + len(record.value)


def live(keyspace: Keyspace, key: bytes, now_ms: int) -> Record | None:
    """Return what a key holds; None where it is absent or has expired."""
    record = keyspace.get(key)
    return record if is_live(record, now_ms) else None


def has_version(keyspace: Keyspace, record: Record | None, wanted: Place) -> bool:
    """Say whether `wanted` is what a key's version is; ABSENT stands for one that is not there."""
    if record is None:
        return wanted == ABSENT
    is_offset = wanted.offset == record.version
    return is_offset and wanted.is_known and keyspace.tag_of(record.version) == wanted.tag


def check_value(size: int, limits: Limits) -> None:
    """Raise ValueTooLarge, naming the limit, unless a value of `size` bytes may be stored."""
    if size > limits.max_value_bytes:
        raise ValueTooLarge(
            f"the value has {size} bytes; the limit is {limits.max_value_bytes} bytes "
            "(kv_store.max_value_size_bytes)"
        )


def stored_expiry(expiry_ms: int | None) -> int:
    """Return the expiry as it is stored; a passed time of 0 must not be taken for NEVER.

    Raises:
        InvalidValue: it is beyond MAX_EXPIRY_MS.
    """
    if expiry_ms is None:
        return NEVER
    if expiry_ms > MAX_EXPIRY_MS:
        raise InvalidValue(f"the expiry {expiry_ms} ms is beyond 64 bits")
    return max(expiry_ms, 1)


def reading(key: bytes) -> Need:
    """Return what it needs to learn of a key's value."""
    return "read", b"kv:" + key


def writing(key: bytes) -> Need:
    """Return what it needs to write a key."""
    return "write", b"kv:" + key


def deleting(key: bytes) -> Need:
    """Return what it needs to remove a key."""
    return "delete", b"kv:" + key
