"""Commands evaluated on a dict: one behaviour a test."""

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
import pytest

from synap.commands.accounts import ChangeAccounts
from synap.commands.commands import Command, Result
from synap.commands.keys import (
    CONDITION_FAILED,
    Copy,
    Delete,
    Expire,
    Flush,
    Persist,
    Rename,
    SetMany,
)
from synap.commands.keyspace import ABSENT, COMMAND_BYTES, MAX_EXPIRY_MS, Limits
from synap.commands.records import MAX_KEY_BYTES, NEVER, Record, is_live
from synap.commands.strings import (
    Append,
    GetSet,
    Increment,
    IncrementFloat,
    Set,
    SetRange,
    SetResult,
)
from synap.frame import Cause
from synap.place import UNKNOWN_TAG, Place
from synap.request_errors import (
    CommandError,
    InvalidRequest,
    InvalidValue,
    KeyExists,
    KeyInvalid,
    KeyNotFound,
    ValueTooLarge,
)

NOW = 1_000_000
LATER = NOW + 60_000
LIMITS = Limits(max_value_bytes=32)
TAG, OTHER_TAG = "9f2c11aa", "9f2c11ab"


class Keys:
    """A Keyspace on a dict, whose versions count up from 101."""

    def __init__(self, **values: bytes) -> None:
        self.records: dict[bytes, Record] = {}
        self.accounts: dict[bytes, Record] = {}
        self.requests: dict[bytes, Record] = {}
        self._versions: Iterator[int] = count(101)
        for name, value in values.items():
            self.put(name.encode(), value, NEVER)

    def get(self, key: bytes) -> Record | None:
        return self.records.get(key)

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        version = next(self._versions)
        self.records[key] = Record(version, expiry_ms, value)
        return version

    def put_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        versions = [self.put(key, value, NEVER) for key, value in pairs]
        return versions[0] if versions else 0

    def remove(self, key: bytes, cause: Cause = Cause.CLIENT) -> None:
        self.records.pop(key, None)

    def clear(self, now_ms: int) -> int:
        live = sum(is_live(record, now_ms) for record in self.records.values())
        self.records.clear()
        return live

    def get_account(self, key: bytes) -> Record | None:
        return self.accounts.get(key)

    def put_account(self, key: bytes, value: bytes) -> None:
        self.accounts[key] = Record(next(self._versions), NEVER, value)

    def remove_account(self, key: bytes) -> None:
        self.accounts.pop(key, None)

    def get_request(self, key: bytes) -> Record | None:
        return self.requests.get(key)

    def put_request(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        version = next(self._versions)
        self.requests[key] = Record(version, expiry_ms, value)
        return version

    def tag_of(self, version: int) -> str:
        return TAG

    def run(self, command: Command, now_ms: int = NOW) -> Result:
        return command.evaluate(self, now_ms, LIMITS)

    def value(self, key: bytes) -> bytes:
        return self.records[key].value

    def expiry_ms(self, key: bytes) -> int:
        return self.records[key].expiry_ms


def keys_with_ttl() -> Keys:
    """Return `k` = 7 that expires LATER."""
    keys = Keys()
    keys.put(b"k", b"7", LATER)
    return keys


def test_set_plain_writes_without_expiry() -> None:
    keys = keys_with_ttl()
    assert keys.run(Set(b"k", b"v")) == SetResult(True, 102)
    assert keys.records == {b"k": Record(102, NEVER, b"v")}


def test_set_with_expiry_in_the_past_writes_a_gone_key() -> None:
    keys = Keys()
    keys.run(Set(b"k", b"v", expiry_ms=0))
    assert not is_live(keys.get(b"k"), NOW)


def test_set_with_expiry_beyond_64_bits_is_refused() -> None:
    with pytest.raises(InvalidValue):
        Keys().run(Set(b"k", b"v", expiry_ms=MAX_EXPIRY_MS + 1))


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (Set(b"k", b"v", nx=True), False),
        (Set(b"new", b"v", nx=True), True),
        (Set(b"k", b"v", xx=True), True),
        (Set(b"new", b"v", xx=True), False),
        (Set(b"k", b"v", if_version=Place(101, TAG)), True),
        (Set(b"k", b"v", if_version=Place(100, TAG)), False),
        (Set(b"k", b"v", if_version=Place(101, OTHER_TAG)), False),
        (Set(b"k", b"v", if_version=Place(101, UNKNOWN_TAG)), False),
        (Set(b"k", b"v", if_version=ABSENT), False),
        (Set(b"new", b"v", if_version=ABSENT), True),
        (Set(b"new", b"v", if_version=Place(101, TAG)), False),
    ],
)
def test_set_with_a_condition_writes_only_where_it_holds(command: Set, written: bool) -> None:
    keys = Keys(k=b"old")
    result = keys.run(command)
    assert isinstance(result, SetResult)
    assert result.written is written
    assert (command.key in keys.records and keys.value(command.key) == b"v") is written


def test_set_with_a_condition_takes_an_expired_key_for_absent() -> None:
    keys = keys_with_ttl()
    assert keys.run(Set(b"k", b"v", xx=True), LATER) == SetResult(False, 0)
    assert keys.run(Set(b"k", b"v", nx=True), LATER) == SetResult(True, 102)


def test_set_not_written_reports_the_version_that_stays() -> None:
    assert Keys(k=b"old").run(Set(b"k", b"v", nx=True)) == SetResult(False, 101)


def test_set_with_get_reports_the_old_value_written_or_not() -> None:
    keys = Keys(k=b"old")
    assert keys.run(Set(b"k", b"v", nx=True, get=True)) == SetResult(False, 101, b"old")
    assert keys.run(Set(b"k", b"v", get=True)) == SetResult(True, 102, b"old")
    assert keys.run(Set(b"new", b"v", get=True)) == SetResult(True, 103, None)


def test_set_with_keepttl_keeps_the_deadline() -> None:
    keys = keys_with_ttl()
    keys.run(Set(b"k", b"v", keepttl=True))
    assert keys.expiry_ms(b"k") == LATER


def test_set_with_keepttl_does_not_revive_an_expired_deadline() -> None:
    keys = keys_with_ttl()
    keys.run(Set(b"k", b"v", keepttl=True), LATER)
    assert keys.expiry_ms(b"k") == NEVER


def test_set_with_keepttl_and_expiry_takes_the_expiry() -> None:
    keys = keys_with_ttl()
    keys.run(Set(b"k", b"v", keepttl=True, expiry_ms=LATER + 1))
    assert keys.expiry_ms(b"k") == LATER + 1


def test_set_with_nx_and_xx_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Keys().run(Set(b"k", b"v", nx=True, xx=True))


def test_delete_counts_each_live_key_once() -> None:
    keys = Keys(a=b"1", b=b"2")
    assert keys.run(Delete((b"a", b"a", b"b", b"c"))) == 2
    assert keys.records == {}


def test_delete_of_an_expired_key_removes_nothing() -> None:
    assert keys_with_ttl().run(Delete((b"k",)), LATER) == 0


@pytest.mark.parametrize(
    ("version", "result"),
    [
        (Place(101, TAG), 1),
        (Place(100, TAG), CONDITION_FAILED),
        (Place(101, OTHER_TAG), CONDITION_FAILED),
        (ABSENT, CONDITION_FAILED),
    ],
)
def test_delete_if_version_needs_that_version(version: Place, result: int) -> None:
    keys = Keys(k=b"v")
    assert keys.run(Delete((b"k",), if_version=version)) == result
    assert (b"k" in keys.records) is (result == CONDITION_FAILED)


def test_delete_if_version_of_several_keys_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Keys().run(Delete((b"a", b"b"), if_version=ABSENT))


def test_increment_adds_and_keeps_the_ttl() -> None:
    keys = keys_with_ttl()
    assert keys.run(Increment(b"k", -10)) == -3
    assert keys.records[b"k"] == Record(102, LATER, b"-3")


def test_increment_of_an_absent_or_expired_key_starts_at_zero() -> None:
    keys = keys_with_ttl()
    assert keys.run(Increment(b"new", 5)) == 5
    assert keys.run(Increment(b"k", 5), LATER) == 5
    assert keys.expiry_ms(b"k") == NEVER


@pytest.mark.parametrize(
    "text", [b"", b"x", b"1.0", b" 1", b"+1", b"01", b"-0", b"1\n", b"9223372036854775808"]
)
def test_increment_of_what_is_no_integer_is_refused(text: bytes) -> None:
    keys = Keys(k=text)
    with pytest.raises(InvalidValue):
        keys.run(Increment(b"k", 1))
    assert keys.value(b"k") == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [(b"9223372036854775807", 1), (b"-9223372036854775808", -1), (b"-1", 2**63 + 1)],
)
def test_increment_beyond_64_bits_is_refused(text: bytes, amount: int) -> None:
    with pytest.raises(InvalidValue):
        Keys(k=text).run(Increment(b"k", amount))


def test_increment_reaches_both_ends_of_64_bits() -> None:
    keys = Keys(high=b"9223372036854775806", low=b"-9223372036854775807")
    assert keys.run(Increment(b"high", 1)) == 2**63 - 1
    assert keys.run(Increment(b"low", -1)) == -(2**63)


def test_append_adds_at_the_end_and_keeps_the_ttl() -> None:
    keys = keys_with_ttl()
    assert keys.run(Append(b"k", b"89")) == 3
    assert keys.records[b"k"] == Record(102, LATER, b"789")


def test_append_to_an_absent_key_creates_it() -> None:
    keys = Keys()
    assert keys.run(Append(b"k", b"ab")) == 2
    assert keys.value(b"k") == b"ab"


@pytest.mark.parametrize(
    ("at", "value", "expected"),
    [
        (0, b"J", b"Jello"),
        (4, b"ight", b"hellight"),
        (5, b"!", b"hello!"),
        (7, b"!", b"hello\0\0!"),
        (1, b"", b"hello"),
    ],
)
def test_set_range_overwrites_and_pads(at: int, value: bytes, expected: bytes) -> None:
    keys = Keys(k=b"hello")
    assert keys.run(SetRange(b"k", at, value)) == len(expected)
    assert keys.value(b"k") == expected


def test_set_range_of_nothing_on_an_absent_key_creates_none() -> None:
    keys = Keys()
    assert keys.run(SetRange(b"k", 3, b"")) == 0
    assert keys.records == {}


def test_set_range_at_a_negative_offset_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Keys().run(SetRange(b"k", -1, b"v"))


def test_get_set_returns_the_old_value_and_clears_the_ttl() -> None:
    keys = keys_with_ttl()
    assert keys.run(GetSet(b"k", b"new")) == b"7"
    assert keys.expiry_ms(b"k") == NEVER
    assert keys.run(GetSet(b"absent", b"new")) is None


def test_expire_sets_the_deadline_of_an_existing_key() -> None:
    keys = Keys(k=b"v")
    assert keys.run(Expire(b"k", LATER)) is True
    assert keys.expiry_ms(b"k") == LATER
    assert keys.run(Expire(b"absent", LATER)) is False


def test_expire_now_removes_the_key() -> None:
    keys = Keys(k=b"v")
    assert keys.run(Expire(b"k", NOW)) is True
    assert keys.records == {}


def test_persist_takes_a_deadline_away_once() -> None:
    keys = keys_with_ttl()
    assert keys.run(Persist(b"k")) is True
    assert keys.expiry_ms(b"k") == NEVER
    assert keys.run(Persist(b"k")) is False
    assert keys.run(Persist(b"absent")) is False


def test_set_many_writes_the_last_of_equal_keys() -> None:
    keys = keys_with_ttl()
    assert keys.run(SetMany(((b"k", b"1"), (b"j", b"2"), (b"k", b"3")))) is True
    assert keys.records == {b"k": Record(102, NEVER, b"3"), b"j": Record(103, NEVER, b"2")}


def test_set_many_with_more_than_one_frame_may_hold_is_refused() -> None:
    keys = Keys()
    value = bytes(1 << 20)
    with pytest.raises(ValueTooLarge, match="together"):
        keys.run(SetMany(tuple((b"%d" % number, value) for number in range(128))))
    assert keys.run(SetMany(((b"few", b"1"),))) is True


def test_set_many_nx_with_one_existing_key_writes_nothing() -> None:
    keys = Keys(b=b"old")
    assert keys.run(SetMany(((b"a", b"1"), (b"b", b"2")), nx=True)) is False
    assert list(keys.records) == [b"b"]


def test_rename_moves_value_and_deadline_over_the_destination() -> None:
    keys = keys_with_ttl()
    keys.put(b"j", b"old", NEVER)
    assert keys.run(Rename(b"k", b"j")) is True
    assert keys.records == {b"j": Record(103, LATER, b"7")}


def test_rename_onto_itself_changes_nothing() -> None:
    keys = Keys(k=b"v")
    assert keys.run(Rename(b"k", b"k")) is True
    assert keys.records == {b"k": Record(101, NEVER, b"v")}


@pytest.mark.parametrize("destination", [b"j", b"k"])
def test_rename_nx_onto_an_existing_key_is_refused(destination: bytes) -> None:
    keys = Keys(k=b"v", j=b"w")
    with pytest.raises(KeyExists):
        keys.run(Rename(b"k", destination, nx=True))
    assert keys.value(b"j") == b"w"


def test_rename_nx_onto_an_expired_key_moves() -> None:
    keys = keys_with_ttl()
    keys.put(b"source", b"v", NEVER)
    assert keys.run(Rename(b"source", b"k", nx=True), LATER) is True
    assert keys.records == {b"k": Record(103, NEVER, b"v")}


@pytest.mark.parametrize("command", [Rename(b"k", b"j"), Copy(b"k", b"j")])
def test_move_of_an_expired_source_finds_no_key(command: Command) -> None:
    with pytest.raises(KeyNotFound):
        keys_with_ttl().run(command, LATER)


def test_missing_source_that_is_no_text_is_named_all_the_same() -> None:
    with pytest.raises(KeyNotFound, match=r"Key not found: \\xff"):
        Keys().run(Rename(b"\xff", b"a"))


def test_copy_takes_the_deadline_along_and_keeps_the_source() -> None:
    keys = keys_with_ttl()
    assert keys.run(Copy(b"k", b"j")) is True
    assert keys.records == {b"k": Record(101, LATER, b"7"), b"j": Record(102, LATER, b"7")}


def test_copy_onto_an_existing_key_needs_replace() -> None:
    keys = Keys(k=b"v", j=b"w")
    with pytest.raises(KeyExists):
        keys.run(Copy(b"k", b"j"))
    assert keys.run(Copy(b"k", b"j", replace=True)) is True
    assert keys.value(b"j") == b"v"


def test_flush_counts_the_live_keys_and_removes_all() -> None:
    keys = keys_with_ttl()
    keys.put(b"j", b"v", NEVER)
    assert keys.run(Flush(), LATER) == 1
    assert keys.records == {}


@pytest.mark.parametrize(
    "command",
    [
        Set(b"k", bytes(33)),
        Append(b"k", bytes(32)),
        SetRange(b"k", 32, b"v"),
        GetSet(b"k", bytes(33)),
        SetMany(((b"j", b"v"), (b"k", bytes(33)))),
    ],
)
def test_value_over_the_limit_is_refused_with_nothing_changed(command: Command) -> None:
    keys = Keys(k=b"v")
    with pytest.raises(ValueTooLarge, match="32 bytes"):
        keys.run(command)
    assert keys.records == {b"k": Record(101, NEVER, b"v")}


def test_set_range_inside_a_value_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueTooLarge):
        Keys(k=bytes(33)).run(SetRange(b"k", 0, b"v"))


@pytest.mark.parametrize("key", [b"", bytes(MAX_KEY_BYTES + 1)])
@pytest.mark.parametrize(
    "make",
    [
        lambda key: Set(key, b"v"),
        lambda key: Delete((b"k", key)),
        lambda key: Increment(key, 1),
        lambda key: Append(key, b"v"),
        lambda key: SetRange(key, 0, b"v"),
        lambda key: GetSet(key, b"v"),
        lambda key: Expire(key, LATER),
        lambda key: Persist(key),
        lambda key: SetMany(((b"j", b"v"), (key, b"v"))),
        lambda key: Rename(b"k", key),
        lambda key: Copy(key, b"k"),
    ],
)
def test_command_with_an_invalid_key_changes_nothing(make, key: bytes) -> None:  # type: ignore[no-untyped-def]
    keys = Keys(k=b"v")
    with pytest.raises(KeyInvalid, match="503 bytes"):
        keys.run(make(key))
    assert keys.records == {b"k": Record(101, NEVER, b"v")}


def test_command_survives_the_channels_encoding() -> None:
    commands = [Set(b"k", b"\xff", if_version=Place(3, TAG)), Delete((b"a", b"b")), Flush()]
    encoded = msgspec.msgpack.encode(commands)
    assert msgspec.msgpack.decode(encoded, type=list[Command]) == commands


@pytest.mark.parametrize("result", [SetResult(True, 2**63, b"v"), 7, True, False, b"v", None])
def test_result_survives_the_channels_encoding(result: Result) -> None:
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=Result)
    assert decoded == result
    assert type(decoded) is type(result)


def test_every_error_of_a_command_is_a_command_error() -> None:
    for error in (InvalidRequest, InvalidValue, KeyExists, KeyInvalid, KeyNotFound, ValueTooLarge):
        assert issubclass(error, CommandError)


def test_change_accounts_happens_whole_or_not_at_all() -> None:
    keys = Keys(a=b"1")
    assert keys.run(ChangeAccounts(((b"a", 0),), puts=((b"a", b"ann"), (b"b", b"bob")))) is True
    version = keys.accounts[b"a"].version
    moved = ChangeAccounts(((b"b", keys.accounts[b"b"].version), (b"a", 0)), removes=(b"b",))
    assert keys.run(moved) is False
    assert keys.run(ChangeAccounts(((b"a", version),), ((b"c", b"cid"),), (b"a",))) is True
    assert {key: record.value for key, record in keys.accounts.items()} == {
        b"b": b"bob",
        b"c": b"cid",
    }
    assert keys.value(b"a") == b"1"


def test_change_accounts_of_too_long_a_record_changes_nothing() -> None:
    keys = Keys()
    with pytest.raises(ValueTooLarge):
        keys.run(ChangeAccounts((), puts=((b"a", b""), (b"b", b"x" * 33))))
    assert keys.accounts == {}


@pytest.mark.parametrize(
    ("command", "counted"),
    [
        (Set(b"k", b"v"), (1, 0)),
        (Set(b"k", b"v", nx=True), (0, 0)),
        (Delete((b"k", b"none", b"j")), (0, 2)),
        (Delete((b"k",), if_version=Place(7, TAG)), (0, 0)),
        (Increment(b"k", 1), (1, 0)),
        (IncrementFloat(b"k", 1.5), (1, 0)),
        (Append(b"k", b"v"), (1, 0)),
        (SetRange(b"k", 1, b"v"), (1, 0)),
        (SetRange(b"k", 1, b""), (0, 0)),
        (GetSet(b"k", b"v"), (1, 0)),
        (Expire(b"k", LATER), (1, 0)),
        (Expire(b"none", LATER), (0, 0)),
        (Persist(b"k"), (1, 0)),
        (Persist(b"j"), (0, 0)),
        (SetMany(((b"a", b"v"), (b"b", b"v"))), (2, 0)),
        (SetMany(((b"a", b"v"), (b"k", b"v")), nx=True), (0, 0)),
        (Rename(b"k", b"j"), (1, 1)),
        (Rename(b"k", b"k"), (0, 0)),
        (Copy(b"k", b"new"), (1, 0)),
        (Copy(b"k", b"k", replace=True), (0, 0)),
        (Flush(), (0, 2)),
        (ChangeAccounts((), ((b"user:a", b"v"),)), (0, 0)),
    ],
)
def test_command_counts_the_keys_that_it_wrote_and_removed(
    command: Command, counted: tuple[int, int]
) -> None:
    keys = keys_with_ttl()
    keys.put(b"j", b"v", NEVER)
    result: Any = keys.run(command)
    assert command.counted(result) == counted


@pytest.mark.parametrize(
    ("command", "payload_bytes"),
    [
        (Set(b"key", b"value"), 8),
        (Delete((b"a", b"bc")), 3),
        (Increment(b"key", 1), 3),
        (SetRange(b"key", 1, b"v"), 4),
        (Rename(b"key", b"other"), 8),
        (SetMany(((b"a", b"12"), (b"b", b"3"))), COMMAND_BYTES + 5),
        (ChangeAccounts((), ((b"user:a", b"v"),)), 7),
    ],
)
def test_size_of_a_command_is_that_of_its_keys_and_values(
    command: Command, payload_bytes: int
) -> None:
    assert command.size == COMMAND_BYTES + payload_bytes


@pytest.mark.parametrize(
    ("stored", "amount", "total"),
    [
        (b"10.50", 0.1, b"10.6"),
        (b"0.1", 0.2, b"0.3"),
        (b"5.0e3", 200.0, b"5200"),
        (b"3", 1.5, b"4.5"),
        (b"-3", 3.0, b"0"),
        (b"-0", -0.0, b"0"),
        (b".5", 0.5, b"1"),
        (b"+1.", 1e-7, b"1.0000001"),
        (b"0", 1e22, b"10000000000000000000000"),
        (b"0", 5e-324, b"0." + b"0" * 323 + b"5"),
    ],
)
def test_increment_float_stores_the_shortest_decimal(
    stored: bytes, amount: float, total: bytes
) -> None:
    keys = Keys(k=stored)
    limits = Limits(max_value_bytes=400)
    assert IncrementFloat(b"k", amount).evaluate(keys, NOW, limits) == total
    assert keys.value(b"k") == total
    assert IncrementFloat(b"k", 0.0).evaluate(keys, NOW, limits) == total


def test_increment_float_keeps_the_deadline_and_counts_from_0() -> None:
    keys = keys_with_ttl()
    assert keys.run(IncrementFloat(b"k", 0.5)) == b"7.5"
    assert keys.expiry_ms(b"k") == LATER
    assert keys.run(IncrementFloat(b"new", 2.5)) == b"2.5"
    assert keys.expiry_ms(b"new") == NEVER


@pytest.mark.parametrize(
    ("stored", "amount"),
    [
        *[
            (text, 1.0)
            for text in (b"", b"x", b" 1", b"1 ", b"1\n", b"1_0", b"0x1", b"nan", b"inf", b"1e999")
        ],
        (b"1", math.nan),
        (b"1", math.inf),
        (b"1e308", 1.7e308),
        (b"1" * 513, 1.0),
    ],
)
def test_increment_float_of_no_number_or_to_none_is_refused(stored: bytes, amount: float) -> None:
    keys = Keys(k=stored)
    with pytest.raises(InvalidValue):
        keys.run(IncrementFloat(b"k", amount))
    assert keys.value(b"k") == stored


def test_increment_float_to_a_decimal_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueTooLarge):
        Keys(k=b"1").run(IncrementFloat(b"k", 1e300))
