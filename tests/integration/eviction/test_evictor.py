"""The memory limit with a real log, store, writer, table of access times and clients."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random

import pytest
import uvloop

from synap.commands.commands import Command
from synap.commands.keys import Delete, Flush, SetMany
from synap.commands.strings import Set
from synap.config.loading import load_config
from synap.errors import MemoryLimit
from synap.eviction.access_table import AccessTable
from synap.eviction.evictor import Evictor
from synap.eviction.rules import POLICIES
from synap.frame import DEL
from synap.ipc.writer_client import Done, WriterClient
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.shared.board import Board
from synap.shared.series import EVICTED, EXPIRED
from synap.store import Store
from tests.integration.linked_nodes import Counted
from tests.integration.writers import Listener, build_writer, running

MIB = 1024 * 1024
LIMIT_BYTES = 2 * MIB
TURN_BYTES = 16 * 1024
# What docs/operations.md states: a hundredth, and what one turn can write.
SLACK_BYTES = LIMIT_BYTES // 100 + 4 * TURN_BYTES
VALUE = b"v" * 200
VOLATILE = [name for name in POLICIES if name.startswith("volatile")]
# With these, an evictor that closes holes only in sparse pages stands above the bound.
SPLITTING_SEEDS = [8, 10, 15, 19]
EVICTING = [name for name in POLICIES if name != "noeviction"]


class Bench(Listener):
    """A writer with a memory limit, on a clock of its own, and what it published."""

    def __init__(self, folder: Path, policy: str) -> None:
        super().__init__()
        config = load_config(
            None, {"data_dir": str(folder / "data"), "replication.role": "master"}, environ={}
        )
        self.paths = NodePaths.of(config)
        self.paths.create()
        self.data_dir = DataDir.open(
            config, self.paths, Node.load_or_create(config, self.paths), _fail
        )
        self.board = Board(self.paths.board_file)
        self.access = AccessTable.of(POLICIES[policy], self.paths.run_dir, LIMIT_BYTES)
        self.evictor = Evictor(
            self.data_dir.store, POLICIES[policy], LIMIT_BYTES, access=self.access, random=Random(1)
        )
        self.now = 1_000_000.0
        self.counted = Counted()
        self.writer = build_writer(
            self.data_dir, self.board, publisher=self, turn_bytes=TURN_BYTES, on_failure=_fail,
            evictor=self.evictor, clock=lambda: self.now, count=self.counted.count,
        )  # fmt: skip

    def used_bytes(self) -> int:
        return self.data_dir.store.facts().used_bytes

    def removed(self) -> list[bytes]:
        """The keys of all DEL entries that were published."""
        entries = (entry for frame in self.frames for entry in frame.entries())
        return [entry.key for entry in entries if entry.operation == DEL]

    def close(self) -> None:
        if self.access is not None:
            self.access.close()
        self.board.close()
        self.data_dir.close(clean=True)

    def running(self) -> AbstractAsyncContextManager[WriterClient]:
        return running(self.writer, self.paths.writer_socket)


def _fail(error: BaseException) -> None:
    pytest.fail(f"the writer failed: {error}")


@pytest.fixture
def bench(tmp_path: Path, run_dir: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(tmp_path, getattr(request, "param", "noeviction"))
    yield bench
    bench.close()


def new_key(number: int) -> bytes:
    """A key that comes in no order of the keys' bytes."""
    return b"%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)


async def together(client: WriterClient, commands: list[Command]) -> list[Done | BaseException]:
    waits = [client.execute(command) for command in commands]
    return await asyncio.gather(*waits, return_exceptions=True)


async def fill(client: WriterClient, bench: Bench, *, expiry_ms: int | None = None) -> list[bytes]:
    """Set new keys until the first is refused; return those that were written."""
    written: list[bytes] = []
    for start in itertools.count(0, 50):
        keys = [new_key(number) for number in range(start, start + 50)]
        outcomes = await together(client, [Set(key, VALUE, expiry_ms) for key in keys])
        written += [key for key, done in zip(keys, outcomes, strict=True) if isinstance(done, Done)]
        refused = [error for error in outcomes if not isinstance(error, Done)]
        assert all(isinstance(error, MemoryLimit) for error in refused)
        if refused:
            return written
        assert bench.used_bytes() <= LIMIT_BYTES + SLACK_BYTES
    raise AssertionError


async def until_writable(bench: Bench) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while bench.board.view().read_only:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("bench", EVICTING, indirect=True)
def test_limit_holds_under_a_stream_of_new_keys(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> int:
        highest = 0
        async with bench.running() as client:
            for start in range(0, 10_000, 50):
                expiry_ms = 2_000_000_000 + start
                sets = [Set(new_key(n), VALUE, expiry_ms) for n in range(start, start + 50)]
                outcomes = await together(client, list(sets))
                assert all(isinstance(outcome, Done) for outcome in outcomes)
                highest = max(highest, bench.used_bytes())
        return highest

    highest = uvloop.run(scenario())
    assert LIMIT_BYTES * 0.95 < highest <= LIMIT_BYTES + SLACK_BYTES
    assert bench.counted[EVICTED] == len(bench.removed()) > 3000
    # A key, its deadline and what is around them take 276 bytes: half of the pages is in use.
    assert bench.data_dir.store.facts().keys * 276 > LIMIT_BYTES * 0.5
    assert bench.board.details().limit_bytes == LIMIT_BYTES
    replica = Store.create(tmp_path / "replica", 1 << 30)
    transaction = replica.begin()
    for frame in bench.frames:
        transaction.apply(frame.entries(), frame.first_offset)
    transaction.commit()
    assert replica.reader().digest()[1:] == bench.data_dir.store.reader().digest()[1:]
    replica.close(clean=False)


@pytest.mark.parametrize("bench", VOLATILE, indirect=True)
def test_volatile_policy_spares_keys_without_a_ttl_and_then_refuses(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            expiring = [Set(b"ttl%d" % n, VALUE, 2_000_000_000) for n in range(1000)]
            await together(client, list(expiring))
            kept = await fill(client, bench)
            assert isinstance((await together(client, [Delete((kept[0],))]))[0], Done)
            assert bench.counted[EVICTED] == 1000
            assert {key[:3] for key in bench.removed()[:-1]} == {b"ttl"}
            found, _ = bench.data_dir.store.reader().get_many(kept[1:], 0)
            assert None not in found
            assert bench.board.view().read_only == "memory_limit"

    uvloop.run(scenario())


def test_noeviction_refuses_growth_alone_and_reads_go_on(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            kept = await fill(client, bench)
            outcomes = await together(
                client,
                [
                    Set(b"new", b"v"),
                    Set(kept[0], b"shorter"),
                    Set(kept[1], VALUE + b"longer"),
                    Delete((kept[2],)),
                    Set(b"absent", b"v", xx=True),
                ],
            )
            refused = [isinstance(outcome, MemoryLimit) for outcome in outcomes]
            assert refused == [True, False, True, False, False]
            assert bench.data_dir.store.reader().get(kept[1])[0] is not None
            assert bench.counted[EVICTED] == 0
            assert bench.used_bytes() <= LIMIT_BYTES + SLACK_BYTES

    uvloop.run(scenario())


def test_noeviction_goes_on_by_itself_after_scattered_deletes(bench: Bench) -> None:
    """Deletes that leave every page half full free none of them; the holes are closed."""

    async def scenario() -> None:
        async with bench.running() as client:
            kept = await fill(client, bench)
            assert bench.board.view().read_only == "memory_limit"
            gone = Random(2).sample(kept, len(kept) // 4)
            keys = bench.data_dir.store.facts().keys
            await together(client, [Delete((key,)) for key in gone])
            await until_writable(bench)
            assert bench.data_dir.store.facts().keys == keys - len(gone)
            assert bench.used_bytes() <= LIMIT_BYTES * 0.98
            (outcome,) = await together(client, [Set(b"new", VALUE)])
            assert isinstance(outcome, Done)

    uvloop.run(scenario())


def test_noeviction_goes_on_by_itself_when_keys_expire(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            await fill(client, bench, expiry_ms=int(bench.now * 1000) + 60_000)
            bench.now += 61
            await until_writable(bench)
            (outcome,) = await together(client, [Set(b"new", VALUE)])
            assert isinstance(outcome, Done)

    uvloop.run(scenario())


def test_noeviction_flush_ends_the_refusal(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            await fill(client, bench)
            assert bench.board.view().read_only == "memory_limit"
            await together(client, [Flush()])
            await until_writable(bench)
            (done,) = await together(client, [Set(b"key", b"value")])
            assert isinstance(done, Done)

    uvloop.run(scenario())


@pytest.mark.parametrize("bench", ["allkeys-lru"], indirect=True)
def test_expired_keys_go_before_others(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            deadline_ms = int(bench.now * 1000) + 1000
            await together(client, [Set(b"ttl%d" % n, VALUE, deadline_ms) for n in range(3000)])
            bench.now += 2
            for start in range(0, 4000, 50):
                await together(client, [Set(new_key(n), VALUE) for n in range(start, start + 50)])

    uvloop.run(scenario())
    assert {key[:3] for key in bench.removed()} == {b"ttl"}
    assert bench.counted[EVICTED] == 0


def test_large_values_are_evicted_by_their_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    bench = Bench(tmp_path, "allkeys-lru")

    async def scenario() -> None:
        async with bench.running() as client:
            for number in range(200):
                await client.execute(Set(new_key(number), bytes(50_000)))
                assert bench.used_bytes() <= LIMIT_BYTES + LIMIT_BYTES // 100 + 2 * 50_000

    uvloop.run(scenario())
    assert bench.data_dir.store.facts().keys > 30
    bench.close()


@pytest.mark.parametrize("bench", ["allkeys-lru", "allkeys-random"], indirect=True)
def test_limit_is_reached_again_while_nobody_writes(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            await client.execute(SetMany(tuple((new_key(n), VALUE) for n in range(12_000))))
            assert bench.used_bytes() > LIMIT_BYTES * 1.3
            await _until(lambda: bench.used_bytes() <= LIMIT_BYTES)
            assert bench.data_dir.store.facts().keys * 240 > LIMIT_BYTES * 0.5

    uvloop.run(scenario())


@pytest.mark.parametrize("seed", SPLITTING_SEEDS)
def test_limit_holds_where_keys_split_pages_in_waves(tmp_path: Path, seed: int) -> None:
    """Keys in a steady order fill all pages alike, so that many must be split at the same time."""
    store, random = Store.create(tmp_path / "store", 1 << 30), Random(seed)
    evictor = Evictor(store, POLICIES["allkeys-random"], LIMIT_BYTES, random=random)
    highest = number = 0
    while number < 8000:
        removal = evictor.before_turn(0).evicted if evictor.is_tight else ()
        transaction = store.begin()
        for key in removal:
            transaction.remove(key)
        first, number = number, number + random.randint(1, TURN_BYTES // 276)
        for each in range(first, number):
            transaction.put(new_key(each), VALUE, 2_000_000_000 + each)
        transaction.commit()
        evictor.after_turn(transaction.entries, (number - first) * len(VALUE))
        highest = max(highest, store.facts().used_bytes)
    store.close(clean=False)
    assert LIMIT_BYTES * 0.95 < highest <= LIMIT_BYTES + SLACK_BYTES


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_refusal_begins_where_a_turn_still_fits(tmp_path: Path, policy: str) -> None:
    """Where nothing may go, the room that a turn can take beyond its bytes is kept free."""
    store = Store.create(tmp_path / "store", 1 << 30)
    evictor = Evictor(store, POLICIES[policy], LIMIT_BYTES, random=Random(1))
    for number in itertools.count():
        if evictor.is_tight:
            assert not evictor.before_turn(0)
        if evictor.is_refusing:
            break
        transaction = store.begin()
        transaction.put(new_key(number), VALUE, 0)
        transaction.commit()
        evictor.after_turn(transaction.entries, len(VALUE))
    assert LIMIT_BYTES * 0.98 < store.facts().used_bytes <= LIMIT_BYTES
    store.close(clean=False)


@pytest.mark.parametrize(("skew", "seed"), [(1.0, 1), (0.8, 2)])
def test_lru_hit_rate_is_near_that_of_an_exact_one(tmp_path: Path, skew: float, seed: int) -> None:
    """A cache that reads, and writes what it missed, under a Zipf load: within 5 points."""
    store = Store.create(tmp_path / "store", 1 << 30)
    random, clock = Random(seed), itertools.count(1)
    access = AccessTable.open(tmp_path, "recency", LIMIT_BYTES)
    evictor = Evictor(
        store,
        POLICIES["allkeys-lru"],
        LIMIT_BYTES,
        access=access,
        random=random,
        clock_ns=lambda: next(clock) * 10_000_000,
    )
    weights = list(itertools.accumulate(1 / rank**skew for rank in range(1, 40_001)))
    asked = random.choices(range(40_000), cum_weights=weights, k=100_000)
    hits = evicted = 0
    held: list[int] = []
    for number in asked:
        key = new_key(number)
        if store.reader().get(key)[0] is not None:
            hits += 1
            access.touch(key)
            continue
        removal = evictor.before_turn(0).evicted if evictor.is_tight else ()
        evicted += len(removal)
        transaction = store.begin()
        for each in removal:
            transaction.remove(each)
        transaction.put(key, VALUE[:64], 0)
        transaction.commit()
        evictor.after_turn(transaction.entries, 64)
        held.append(store.room(random).size().keys)
    exact = _exact_lru_hits(asked, capacity=sum(held[-2000:]) // 2000)
    assert evicted > 5000
    assert abs(hits - exact) / len(asked) < 0.05
    access.close()
    store.close(clean=False)


def _exact_lru_hits(asked: list[int], capacity: int) -> int:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for number in asked:
        if number in kept:
            hits += 1
            kept.move_to_end(number)
            continue
        kept[number] = None
        if len(kept) > capacity:
            kept.popitem(last=False)
    return hits


def test_clock_set_back_expires_nothing_early_and_freezes_nothing(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            now_ms = int(bench.now * 1000)
            await client.execute(Set(b"minute", VALUE, now_ms + 60_000))
            bench.now -= 7200
            tick_ns = bench.board.view().tick_ns
            # Due by the clock as it is now: the sweep goes on, and takes this one alone.
            await client.execute(Set(b"due", VALUE, now_ms - 7_300_000))
            await _until(lambda: bench.removed() == [b"due"])
            await _until(lambda: bench.board.view().tick_ns > tick_ns)
            bench.now += 7200 + 59
            await asyncio.sleep(0.05)
            assert bench.removed() == [b"due"]
            bench.now += 1
            await _until(lambda: bench.removed() == [b"due", b"minute"])

    uvloop.run(scenario())


def test_clock_set_ahead_expires_what_is_due_and_nothing_else(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            now_ms = int(bench.now * 1000)
            await client.execute(Set(b"hour", VALUE, now_ms + 3_600_000))
            await client.execute(Set(b"day", VALUE, now_ms + 86_400_000))
            await client.execute(Set(b"stays", VALUE))
            bench.now += 3600
            await _until(lambda: bench.removed() == [b"hour"])
            bench.now -= 3600
            (done,) = await together(client, [Set(b"hour", VALUE, now_ms + 3_600_000)])
            assert isinstance(done, Done)
            await asyncio.sleep(0.05)
            assert bench.removed() == [b"hour"]
            assert bench.counted == {EXPIRED: 1, EVICTED: 0}
            assert bench.data_dir.store.facts().keys == 3

    uvloop.run(scenario())


async def _until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
