"""The commands on one key's value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from synap.commands.keyspace import (
    COMMAND_BYTES,
    BaseCommand,
    Keyspace,
    Limits,
    Need,
    OneKeyChange,
    check_value,
    has_version,
    live,
    reading,
    stored_expiry,
    writing,
)
from synap.commands.records import MAX_KEY_BYTES, NEVER, check_key
from synap.place import Place
from synap.request_errors import InvalidRequest, InvalidValue

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Above what any float takes that was stored here, 327 bytes.
_MAX_FLOAT_BYTES = 512


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


class Set(BaseCommand, frozen=True, tag=1):
    """Write a key, where the conditions hold; the result is a SetResult.

    Attributes:
        expiry_ms: Absolute wall clock in ms; None for no expiry. A time that has passed writes a
            key that is already gone.
        nx: Only where the key is absent.
        xx: Only where the key exists.
        keepttl: Where `expiry_ms` is None, keep the expiry that the key has.
        get: Report the old value, written or not.
        if_version: Only where the key's version is this place; ABSENT stands for an absent key.
    """

    key: bytes
    value: bytes
    expiry_ms: int | None = None
    nx: bool = False
    xx: bool = False
    keepttl: bool = False
    get: bool = False
    if_version: Place | None = None

    def is_plain(self, limits: Limits) -> bool:
        """Say whether `evaluate` would do nothing but put the value without an expiry.

        Plain ones may be put together, by `put_all`; their results are SetResults with its versions
        and without an old value. What can be refused is not plain.
        """
        return (
            self.expiry_ms is None
            and not (self.nx or self.xx or self.keepttl or self.get)
            and self.if_version is None
            and 0 < len(self.key) <= MAX_KEY_BYTES
            and len(self.value) <= limits.max_value_bytes
        )

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> SetResult:
        """Carry it out; see BaseCommand."""
        key, value = self.key, self.value
        check_key(key)
        check_value(len(value), limits)
        expiry_ms = stored_expiry(self.expiry_ms)
        nx, xx, if_version = self.nx, self.xx, self.if_version
        if not (nx or xx or self.keepttl or self.get) and if_version is None:
            # The key that is there has no say, and is not read.
            return SetResult(True, keyspace.put(key, value, expiry_ms))
        if nx and xx:
            raise InvalidRequest("nx and xx exclude each other")
        record = live(keyspace, key, now_ms)
        old = record.value if record is not None and self.get else None
        version = 0 if record is None else record.version
        refused = (nx and record) or (xx and not record)
        if refused or (if_version is not None and not has_version(keyspace, record, if_version)):
            return SetResult(False, version, old)
        if self.keepttl and record is not None and self.expiry_ms is None:
            expiry_ms = record.expiry_ms
        return SetResult(True, keyspace.put(key, value, expiry_ms), old)

    def needs(self) -> Iterable[Need]:
        tells = self.get or self.nx or self.xx or self.if_version is not None
        return (reading(self.key), writing(self.key)) if tells else (writing(self.key),)

    def counted(self, result: SetResult) -> tuple[int, int]:
        return (1, 0) if result.written else (0, 0)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.key) + len(self.value)


class Increment(OneKeyChange, frozen=True, tag=3):
    """Add to an integer (0 where absent), keeping its TTL; the result is the sum."""

    amount: int

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        record = live(keyspace, self.key, now_ms)
        total = self.amount
        if record is not None:
            total += _parse_integer(record.value)
        if not INTEGER_MIN <= total <= INTEGER_MAX or abs(self.amount) > -INTEGER_MIN:
            raise InvalidValue("the sum is beyond 64 bits")
        keyspace.put(self.key, b"%d" % total, NEVER if record is None else record.expiry_ms)
        return total


class IncrementFloat(OneKeyChange, frozen=True, tag=13):
    """Add to a number (0 where absent), keeping its TTL; the result is the sum as it is stored.

    That is the shortest decimal which stands for the sum, without an exponent and without zeros at
    its end.

    Source: Redis, INCRBYFLOAT. Numbers have 64 bits here; what is added are the decimals that they
    are written as, so that 0.1 and 0.2 make 0.3.
    """

    amount: float

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bytes:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        record = live(keyspace, self.key, now_ms)
        old = 0.0 if record is None else _parse_float(record.value)
        total = math.nan
        if math.isfinite(self.amount):
            total = float(Decimal(repr(old)) + Decimal(repr(self.amount)))
        if not math.isfinite(total):
            raise InvalidValue("the sum is not a number of 64 bits")
        text = _float_text(total)
        check_value(len(text), limits)
        keyspace.put(self.key, text, NEVER if record is None else record.expiry_ms)
        return text


class Append(OneKeyChange, frozen=True, tag=4):
    """Add bytes at the end (of nothing where absent), keeping the TTL; the result is the length."""

    value: bytes

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        record = live(keyspace, self.key, now_ms)
        old, expiry_ms = (b"", NEVER) if record is None else (record.value, record.expiry_ms)
        check_value(len(old) + len(self.value), limits)
        keyspace.put(self.key, old + self.value, expiry_ms)
        return len(old) + len(self.value)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.key) + len(self.value)


class SetRange(OneKeyChange, frozen=True, tag=5):
    """Overwrite from byte `at` on, padding with NUL, keeping the TTL; the result is the length.

    An empty `value` has no effect.
    """

    at: int
    value: bytes

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> int:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        at, value = self.at, self.value
        if at < 0:
            raise InvalidRequest("the offset is negative")
        record = live(keyspace, self.key, now_ms)
        old, expiry_ms = (b"", NEVER) if record is None else (record.value, record.expiry_ms)
        if not value:
            return len(old)
        check_value(max(at + len(value), len(old)), limits)
        new = old[:at].ljust(at, b"\0") + value + old[at + len(value) :]
        keyspace.put(self.key, new, expiry_ms)
        return len(new)

    def counted(self, result: int) -> tuple[int, int]:
        return (1, 0) if self.value else (0, 0)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.key) + len(self.value)


class GetSet(OneKeyChange, frozen=True, tag=6):
    """Write a key without a TTL; the result is the old value or None."""

    value: bytes

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bytes | None:
        """Carry it out; see BaseCommand."""
        check_key(self.key)
        check_value(len(self.value), limits)
        record = live(keyspace, self.key, now_ms)
        keyspace.put(self.key, self.value, NEVER)
        return None if record is None else record.value

    @property
    def size(self) -> int:
        return COMMAND_BYTES + len(self.key) + len(self.value)


def _parse_integer(text: bytes) -> int:
    if _INTEGER.fullmatch(text) is None or not INTEGER_MIN <= int(text) <= INTEGER_MAX:
        raise InvalidValue("the value is not a decimal integer of 64 bits")
    return int(text)


def _parse_float(text: bytes) -> float:
    if len(text) <= _MAX_FLOAT_BYTES and _FLOAT.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
    raise InvalidValue("the value is not a decimal number of 64 bits")


def _float_text(number: float) -> bytes:
    text = format(Decimal(repr(number)), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return b"0" if text == "-0" else text.encode()
