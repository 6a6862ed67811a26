"""The rules of the memory limit, without a store, a clock or shared memory."""

from collections.abc import Sequence
from random import Random

import pytest

from synap.commands.commands import Command
from synap.commands.keys import Delete, Expire, Flush, Persist, Rename, SetMany
from synap.commands.keyspace import Limits
from synap.commands.records import Record
from synap.commands.strings import Append, Increment, Set
from synap.config.loading import load_config
from synap.eviction.rules import (
    COUNT_CHANCES,
    FIRST_COUNT,
    MAX_COUNT,
    POLICIES,
    Ceiling,
    Pool,
    decayed_count,
    grows,
)

MINUTE = 1 << 8
LIMITS = Limits(1000)


class Keys:
    """A keyspace that refuses every change: a trial must not make one."""

    def __init__(self, **values: bytes) -> None:
        self._records = {
            key.encode(): Record(number, 0, value)
            for number, (key, value) in enumerate(values.items(), 1)
        }

    def get(self, key: bytes) -> Record | None:
        return self._records.get(key)

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        raise AssertionError("the trial wrote a key")

    def put_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        raise AssertionError("the trial wrote keys")

    def remove(self, key: bytes) -> None:
        raise AssertionError("the trial removed a key")

    def clear(self, now_ms: int) -> int:
        raise AssertionError("the trial cleared the keys")

    def get_account(self, key: bytes) -> Record | None:
        return None

    def put_account(self, key: bytes, value: bytes) -> None:
        raise AssertionError("the trial wrote an account")

    def remove_account(self, key: bytes) -> None:
        raise AssertionError("the trial removed an account")


def test_count_falls_by_one_a_minute() -> None:
    cell = 100 * MINUTE | 10
    counts = [decayed_count(cell, (100 + minutes) * MINUTE) for minutes in (0, 1, 9, 10, 500)]
    assert counts == [10, 9, 1, 0, 0]


def test_count_decays_over_the_clocks_end() -> None:
    assert decayed_count((2**24 - 1) * MINUTE | 7, 1 * MINUTE) == 5


def test_count_grows_by_the_logarithm_of_uses() -> None:
    random = Random(1)
    reached = {}
    count = FIRST_COUNT
    for use in range(1, 100_001):
        count += random.random() < COUNT_CHANCES[count]
        if use in (100, 1000, 100_000):
            reached[use] = count
    # Redis's own table for a factor of 10: 10, 18 and 142, within the spread of chance.
    assert 7 <= reached[100] <= 13
    assert 15 <= reached[1000] <= 23
    assert 130 <= reached[100_000] <= 160
    assert COUNT_CHANCES[MAX_COUNT] == 0


def test_pool_keeps_the_coldest_over_samples() -> None:
    pool = Pool(size=3)
    scores = {b"%d" % number: number for number in (5, 1, 9, 7, 3, 8)}
    assert pool.coldest([b"5", b"1", b"9", b"7"], 1, scores.__getitem__) == [b"9"]
    assert pool.coldest([b"3", b"8"], 2, scores.__getitem__) == [b"8", b"7"]
    assert pool.coldest([], 9, scores.__getitem__) == [b"5", b"3", b"1"]
    assert len(pool) == 0


def test_pool_drops_a_key_that_was_used_since() -> None:
    pool = Pool()
    pool.coldest(
        [b"gone", b"used", b"cold"], 1, {b"gone": 60, b"used": 50, b"cold": 40}.__getitem__
    )
    assert pool.coldest([], 2, {b"used": 0, b"cold": 45}.__getitem__) == [b"cold"]


def test_ceiling_lets_go_what_came_while_holes_are_closed() -> None:
    ceiling = Ceiling(1_000_000)
    assert ceiling.goal_bytes(4096, 500, is_sparse=True) == 500
    assert ceiling.goal_bytes(4096, 500, is_sparse=False) == 4596
    assert ceiling.goal_bytes(40_960, -500, is_sparse=True) == 40_960


@pytest.mark.parametrize(
    ("command", "is_growing"),
    [
        (Set(b"new", b"v"), True),
        (Set(b"k", b"12"), False),
        (Set(b"k", b"1234"), True),
        (Set(b"k", b"12345", nx=True), False),
        (SetMany(((b"k", b"1"), (b"n", b"98"))), False),
        (SetMany(((b"k", b"1"), (b"n", b"9876"))), True),
        (SetMany(((b"k", b""), (b"n", b"x"))), False),
        (SetMany(((b"k", b""), (b"n", b"x"), (b"long", b"x"))), True),
        (Increment(b"k", 1), False),
        (Increment(b"n", 5), True),
        (Append(b"k", b"x"), True),
        (Append(b"k", b""), False),
        (Append(b"k", bytes(1001)), False),
        (Delete((b"k", b"none")), False),
        (Expire(b"k", 10_000), False),
        (Persist(b"k"), False),
        (Rename(b"k", b"j"), False),
        (Rename(b"k", b"longer"), True),
        (Flush(), False),
    ],
)
def test_command_grows_where_it_leaves_more_bytes(command: Command, is_growing: bool) -> None:
    assert grows(command, Keys(k=b"123", n=b"9"), 1000, LIMITS) is is_growing


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("none", "noeviction"),
        ("lru", "allkeys-lru"),
        ("lfu", "allkeys-lfu"),
        ("ttl", "volatile-ttl"),
        *((name, name) for name in POLICIES),
    ],
)
def test_policy_is_read_by_either_name(given: str, meant: str) -> None:
    config = load_config(None, {"kv_store.eviction_policy": given}, environ={})
    assert config.kv_store.eviction_policy == meant
