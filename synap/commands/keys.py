"""The commands on keys, whatever they hold: their removal, deadlines, names, and many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from synap.commands.keyspace import (
    COMMAND_BYTES,
    BaseCommand,
    Keyspace,
    Limits,
    Need,
    OneKeyChange,
    check_value,
    deleting,
    has_version,
    live,
    reading,
    stored_expiry,
    writing,
)
from synap.commands.records import NEVER, Record, check_key, check_keys
from synap.frame import ENTRY_BYTES, MAX_PAYLOAD_BYTES, Cause
from synap.place import Place
from synap.request_errors import InvalidRequest, KeyExists, KeyNotFound, ValueTooLarge

CONDITION_FAILED = -1


class Delete(BaseCommand, frozen=True, tag=2):
    """Remove keys; the result is the number of those that existed.

    With `if_version`, for a single key alone, the result is CONDITION_FAILED and nothing changes
    where the key's version (ABSENT where it is) is another place.
    """

    keys: tuple[bytes, ...]
    if_version: Place | None = None

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        keys = self.keys
        check_keys(keys)
        if self.if_version is not None:
            if len(keys) != 1:
                raise InvalidRequest("if_version goes with a single key")
            record = live(keyspace, keys[0], now_ms)
            if not has_version(keyspace, record, self.if_version):
                return CONDITION_FAILED
        removed = 0
        for key in keys:
            if live(keyspace, key, now_ms) is not None:
                keyspace.remove(key)
                removed += 1
        return removed

    def needs(self) -> Iterable[Need]:
        if self.if_version is None:
            return map(deleting, self.keys)
        return [need for key in self.keys for need in (reading(key), deleting(key))]

    def counted(self, result: int) -> tuple[int, int]:
        return 0, max(result, 0)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + sum(map(len, self.keys))


class Expire(OneKeyChange, frozen=True, tag=7):
    """Set a deadline; the result says whether the key exists. A time that has passed removes it."""

    expiry_ms: int

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        expiry_ms = stored_expiry(self.expiry_ms)
        record = live(keyspace, self.key, now_ms)
        if record is None:
            return False
        if expiry_ms <= now_ms:
            keyspace.remove(self.key)
        else:
            keyspace.put(self.key, record.value, expiry_ms)
        return True

    def counted(self, result: bool) -> tuple[int, int]:
        # A deadline that had passed counts as one, too: the result tells no difference.
        return (1, 0) if result else (0, 0)


class Persist(OneKeyChange, frozen=True, tag=8):
    """Take the deadline away; the result says whether there was one."""

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        record = live(keyspace, self.key, now_ms)
        if record is None or record.expiry_ms == NEVER:
            return False
        keyspace.put(self.key, record.value, NEVER)
        return True

    def counted(self, result: bool) -> tuple[int, int]:
        return (1, 0) if result else (0, 0)


class SetMany(BaseCommand, frozen=True, tag=9):
    """Write all pairs, the last of equal keys; with `nx` only where all are absent.

    The result says whether they were written.

    Attributes:
        deadlines: Of each pair its absolute wall clock in ms, or None for no expiry; empty where no
            pair has one.
    """

    pairs: tuple[tuple[bytes, bytes], ...]
    nx: bool = False
    deadlines: tuple[int | None, ...] = ()

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        pairs = dict(self.pairs)
        _check_all(pairs)
        check_keys(pairs)
        check_value(max(map(len, pairs.values()), default=0), limits)
        if self.nx and any(live(keyspace, key, now_ms) for key in pairs):
            return False
        if not self.deadlines:
            keyspace.put_all(list(pairs.items()))
            return True
        expiries = {
            key: stored_expiry(deadline)
            for (key, _), deadline in zip(self.pairs, self.deadlines, strict=True)
        }
        for key, value in pairs.items():
            keyspace.put(key, value, expiries[key])
        return True

    def needs(self) -> Iterable[Need]:
        written = [writing(key) for key, _ in self.pairs]
        return [reading(key) for key, _ in self.pairs] + written if self.nx else written

    def counted(self, result: bool) -> tuple[int, int]:
        return (len(self.pairs), 0) if result else (0, 0)

    @property
    def size(self) -> int:
        return sum([COMMAND_BYTES + len(key) + len(value) for key, value in self.pairs])


class Rename(BaseCommand, frozen=True, tag=10):
    """Move a key with its expiry over another one; with `nx` not over an existing one.

    The result is True. Onto itself it has no effect, and with `nx` it is KeyExists.
    """

    source: bytes
    destination: bytes
    nx: bool = False

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        record = _source(self, keyspace, now_ms)
        if self.nx and live(keyspace, self.destination, now_ms) is not None:
            raise KeyExists
        if self.source != self.destination:
            keyspace.put(self.destination, record.value, record.expiry_ms)
            keyspace.remove(self.source, Cause.RENAMED)
        return True

    def needs(self) -> Iterable[Need]:
        seen = (reading(self.destination),) if self.nx else ()
        return reading(self.source), deleting(self.source), writing(self.destination), *seen

    def counted(self, result: bool) -> tuple[int, int]:
        return (0, 0) if self.source == self.destination else (1, 1)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.source) + len(self.destination)


class Copy(BaseCommand, frozen=True, tag=11):
    """Copy a key with its expiry; with `replace` also over an existing one.

    The result is True. Onto itself it is KeyExists, or has no effect with `replace`.
    """

    source: bytes
    destination: bytes
    replace: bool = False

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        record = _source(self, keyspace, now_ms)
        if not self.replace and live(keyspace, self.destination, now_ms) is not None:
            raise KeyExists
        if self.source != self.destination:
            keyspace.put(self.destination, record.value, record.expiry_ms)
        return True

    def needs(self) -> Iterable[Need]:
        seen = () if self.replace else (reading(self.destination),)
        return reading(self.source), writing(self.destination), *seen

    def counted(self, result: bool) -> tuple[int, int]:
        return (0, 0) if self.source == self.destination else (1, 0)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.source) + len(self.destination)


class Flush(BaseCommand, frozen=True, tag=12):
    """Remove every key; the result is their number."""

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        return keyspace.clear(now_ms)

    def needs(self) -> Iterable[Need]:
        return (deleting(b"*"),)

    def counted(self, result: int) -> tuple[int, int]:
        return 0, result


def _check_all(pairs: Mapping[bytes, bytes]) -> None:
    """Raise ValueTooLarge unless all of them fit into one frame, beside what shares it."""
    size = sum(map(len, pairs)) + sum(map(len, pairs.values())) + len(pairs) * ENTRY_BYTES
    if size > MAX_PAYLOAD_BYTES // 2:
        raise ValueTooLarge(
            f"the pairs have {size} bytes together; the limit is {MAX_PAYLOAD_BYTES // 2}, "
            "for they are written at once"
        )


def _source(command: Rename | Copy, keyspace: Keyspace, now_ms: int) -> Record:
    check_key(command.source)
    check_key(command.destination)
    record = live(keyspace, command.source, now_ms)
    if record is None:
        name = command.source.decode(errors="backslashreplace")
        raise KeyNotFound(f"Key not found: {name}")
    return record
