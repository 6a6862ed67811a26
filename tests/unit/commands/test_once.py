"""Records of requests that may be sent again: keys, fingerprints, what is kept."""

from __future__ import annotations

import msgspec
import pytest

from synap.commands.keys import Delete
from synap.commands.once import (
    MAX_RESULT_BYTES,
    Once,
    Replayed,
    encode_record,
    encode_result,
    fingerprint_of,
    record_key,
    record_of,
    replayed,
    shown_key,
)
from synap.commands.records import Record
from synap.commands.request_records import decode_record
from synap.commands.strings import Set, SetResult
from synap.commands.transactions import Executed
from synap.request_errors import IdempotencyKeyReused

ONCE = Once(record_key("ann", b"k"), b"f" * 16, "ann", Set(b"a", b"1"))


def stored(result: object, expiry_ms: int = 100) -> Record:
    return Record(7, expiry_ms, encode_record(ONCE, 2, True, encode_result(result)))


def test_key_of_another_caller_or_part_is_another() -> None:
    keys = {
        record_key("ann", b"k"), record_key("bob", b"k"), record_key("ann", b"k", 1),
        record_key("ann", b"k1"),
    }  # fmt: skip
    assert len(keys) == 4
    assert shown_key(record_key("ann", b"k", 3)) == "k part 3"


def test_longest_key_of_a_part_fits_into_the_store() -> None:
    assert len(record_key("x" * 500, b"k" * 128, 999)) <= 503


@pytest.mark.parametrize("other", [(b"ab", b""), (b"", b"ab"), (b"a", b"b", b"")])
def test_fingerprint_tells_parts_apart(other: tuple[bytes, ...]) -> None:
    assert fingerprint_of((b"a", b"b")) != fingerprint_of(other)


@pytest.mark.parametrize(
    "result",
    [3, -1, True, None, b"old", SetResult(True, 4, b"x"), Executed((("ok", 1),)), Executed(None)],
)
def test_result_is_told_again_as_it_was(result: object) -> None:
    record = record_of(stored(result), ONCE, 99)
    assert record is not None
    assert (record.replicas, record.has_changed) == (2, True)
    assert replayed(record, 7) == Replayed(result)


def test_result_that_is_too_large_is_not_kept() -> None:
    record = record_of(stored(bytes(MAX_RESULT_BYTES)), ONCE, 99)
    assert record is not None
    assert replayed(record, 7) == Replayed(is_whole=False)


def test_result_of_another_version_is_not_told() -> None:
    record = decode_record(encode_record(ONCE, 0, True, msgspec.msgpack.encode({"new": 1})))
    assert record is not None
    assert replayed(record, 7) == Replayed(is_whole=False)


def test_record_whose_time_is_over_is_none() -> None:
    assert record_of(stored(1), ONCE, 100) is None
    assert record_of(None, ONCE, 100) is None


@pytest.mark.parametrize("value", [None, b"", b"\x90", msgspec.msgpack.encode([9, b"", "", 0, 1])])
def test_key_of_another_request_or_of_an_unknown_record_is_refused(value: bytes | None) -> None:
    other = msgspec.structs.replace(ONCE, fingerprint=b"g" * 16)
    record = stored(1) if value is None else Record(7, 100, value)
    with pytest.raises(IdempotencyKeyReused, match="'k'"):
        record_of(record, other, 99)


def test_condition_that_did_not_hold_is_not_remembered_where_it_is_an_error() -> None:
    conditional = msgspec.structs.replace(ONCE, is_conditional=True)
    assert conditional.fails(SetResult(False, 1))
    assert not conditional.fails(SetResult(True, 1))
    assert not ONCE.fails(SetResult(False, 1))
    assert msgspec.structs.replace(conditional, command=Delete((b"a",))).fails(-1)


def test_replay_counts_as_no_write() -> None:
    assert ONCE.counted(SetResult(True, 1)) == (1, 0)
    assert ONCE.counted(Replayed(SetResult(True, 1))) == (0, 0)
