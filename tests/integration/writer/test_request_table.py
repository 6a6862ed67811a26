"""Requests that come again, at a writer with a real log and store."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from typer.testing import CliRunner

from synap.commands.keyspace import Limits
from synap.commands.once import (
    Once,
    Replayed,
    fingerprint_of,
    record_key,
    record_of,
    replayed,
)
from synap.commands.strings import Append, GetSet, Increment, Set, SetResult
from synap.commands.transactions import Transactions
from synap.errors import QuorumTimeout
from synap.frame import DEL, KEYS, REQUESTS, SET
from synap.ipc.messages import Answer, Request
from synap.request_errors import IdempotencyFull, IdempotencyKeyReused, InvalidValue, ShareTaken
from synap.slots import slot_of
from synap.store import Store
from synap.writer.quorum_answers import Quorum, QuorumAnswers
from synap.writer.request_table import RequestLimits, RequestTable
from synap.writer.turn import Pending, Turn, TurnContext, TurnTaker
from tests.integration.linked_nodes import eventually
from tests.integration.writers import TIMEOUT_MS, WritingMaster, following
from workers.cli.wal import wal_app

pytestmark = pytest.mark.usefixtures("run_dir")


def once(key: str, command: Any, holder: str = "ann", **more: Any) -> Once:
    """Return a command with a key; its fingerprint is that of the command."""
    fingerprint = fingerprint_of([msgspec.msgpack.encode(command)])
    return Once(record_key(holder, key.encode()), fingerprint, holder, command, **more)


def entries_of(master: WritingMaster) -> list[tuple[int, int, bytes]]:
    return [
        (entry.operation, entry.space, entry.key)
        for frame in master.data_dir.wal.frames_after(0)
        for entry in frame.entries()
        if entry.key
    ]


def test_second_request_gets_the_firsts_result_and_place_and_logs_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            first = await client.execute(once("k", Increment(b"n", 2)))
            await client.execute(Set(b"other", b"v"))
            again = await client.execute(once("k", Increment(b"n", 2)))
            assert (first.result, again.result) == (2, Replayed(2))
            assert again.offset == first.offset == master.data_dir.position.offset - 1
            with pytest.raises(IdempotencyKeyReused):
                await client.execute(once("k", Increment(b"n", 3)))

    uvloop.run(test())


def test_effect_and_record_stand_in_one_frame(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(once("k", Set(b"a", b"1")))
            *_, frame = master.data_dir.wal.frames_after(0)
            spaces = [(entry.operation, entry.space) for entry in frame.entries()]
            assert spaces == [(SET, KEYS), (SET, REQUESTS)]

    uvloop.run(test())


def test_two_of_one_key_in_one_turn_take_effect_once(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            done = await asyncio.gather(
                *(client.execute(once("k", Append(b"a", b"x"))) for _ in range(20))
            )
            assert sorted(map(type, [each.result for each in done]), key=str) == sorted(
                [int] + 19 * [Replayed], key=str
            )
            assert {each.offset for each in done} == {done[0].offset}

    uvloop.run(test())


def test_request_that_failed_runs_when_it_comes_again(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"n", b"text"))
            with pytest.raises(InvalidValue):
                await client.execute(once("k", Increment(b"n", 1)))
            await client.execute(Set(b"n", b"4"))
            assert (await client.execute(once("k", Increment(b"n", 1)))).result == 5

    uvloop.run(test())


def test_write_that_its_condition_refused_is_remembered_as_an_answer_and_not_as_an_error(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            version = (await client.execute(Set(b"a", b"1"))).offset
            refused = once("k", Set(b"a", b"2", nx=True))
            assert (await client.execute(refused)).result == SetResult(False, version)
            assert (await client.execute(refused)).result == Replayed(SetResult(False, version))
            error = once("e", Set(b"a", b"2", nx=True), is_conditional=True)
            for _ in range(2):
                assert (await client.execute(error)).result == SetResult(False, version)

    uvloop.run(test())


def test_large_result_is_told_once(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"a", bytes(100_000)))
            first = await client.execute(once("k", GetSet(b"a", b"new")))
            assert first.result == bytes(100_000)
            again = await client.execute(once("k", GetSet(b"a", b"new")))
            assert again.result == Replayed(is_whole=False)

    uvloop.run(test())


def test_request_whose_time_is_over_runs_as_new_and_its_record_goes(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m", requests=RequestLimits(ttl_ms=40))
        async with master.running() as client:
            await client.execute(once("k", Increment(b"n", 1)))
            await asyncio.sleep(0.05)
            assert (await client.execute(once("k", Increment(b"n", 1)))).result == 2
            key = record_key("ann", b"k")
            await eventually(lambda: entries_of(master)[-1] == (DEL, REQUESTS, key))
            table = master.writer.requests
            assert (table.entries, table.held_bytes) == (0, 0)

    uvloop.run(test())


def test_replica_removes_no_record_by_itself(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m", requests=RequestLimits(ttl_ms=1))
        async with master.running() as client, following(tmp_path / "r", master) as replica:
            await client.execute(once("k", Increment(b"n", 1)))
            await eventually(lambda: entries_of(master)[-1][0] == DEL)
            wanted = master.data_dir.position
            await eventually(lambda: replica.data_dir.position == wanted)
            assert replica.data_dir.store.reader().digest() == (
                master.data_dir.store.reader().digest()
            )

    uvloop.run(test())


def test_next_owner_of_the_log_answers_what_the_one_before_it_did(tmp_path: Path) -> None:
    async def test() -> None:
        async with WritingMaster(tmp_path / "m").running() as client:
            first = await client.execute(once("k", Increment(b"n", 1)))
        async with WritingMaster(tmp_path / "m").running() as client:
            again = await client.execute(once("k", Increment(b"n", 1)))
        assert (again.result, again.offset) == (Replayed(1), first.offset)

    uvloop.run(test())


def test_replicas_store_answers_what_the_master_did(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m", min_replicas=1)
        async with master.running() as client, following(tmp_path / "r", master) as replica:
            asked = once("k", Increment(b"n", 1))
            first = await client.execute(asked)
            reader = replica.data_dir.store.reader()
            [stored], _ = reader.get_request(asked.key)
            assert stored is not None
            assert stored.version == first.offset
            record = record_of(stored, asked, 1)
            assert record is not None
            assert replayed(record, stored.version) == Replayed(1)

    uvloop.run(test())


def test_log_shows_what_its_client_calls_a_request(tmp_path: Path) -> None:
    async def test() -> None:
        async with WritingMaster(tmp_path / "m").running() as client:
            await client.execute(once("order-7", Set(b"a", b"secret")))

    uvloop.run(test())
    shown = CliRunner().invoke(wal_app, ["show", str(tmp_path / "m"), "--values"]).stdout
    assert "SET request 'order-7'" in shown
    lines = CliRunner().invoke(wal_app, ["show", str(tmp_path / "m"), "-o", "json"]).stdout
    record = json.loads(lines.splitlines()[-1])
    assert (record["space"], record["key"]) == ("requests", "order-7")
    assert len(record["caller"]) == 32


def test_retry_waits_for_the_replicas_of_the_first(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            with pytest.raises(QuorumTimeout):
                await client.execute(once("k", Increment(b"n", 1)), min_replicas=1)
            began = time.monotonic()
            with pytest.raises(QuorumTimeout):
                await client.execute(once("k", Increment(b"n", 1)))
            assert time.monotonic() - began >= TIMEOUT_MS / 1000 - 0.01
            async with following(tmp_path / "r", master):
                again = await client.execute(once("k", Increment(b"n", 1)))
                assert again.result == Replayed(1)

    uvloop.run(test())


class Bench:
    """Turns on a store in memory's file system, one command each, without a writer around them."""

    def __init__(self, folder: Path, limits: RequestLimits) -> None:
        self.store = Store.prepare(folder, 64 * 1024 * 1024)
        self.now_ms = 1
        self.restart(limits)

    def restart(self, limits: RequestLimits) -> None:
        """Begin as another owner of the same store."""
        self.limits = limits
        self.table = RequestTable(limits)
        self._taker = TurnTaker(
            Limits(1024 * 1024), Transactions(60, lambda: 0.0),
            QuorumAnswers(Quorum(), None), None, min_replicas=0, turn_bytes=1 << 20,
            requests=self.table, clock=lambda: 0.0,
        )  # fmt: skip

    def run(self, *commands: Any, fails: bool = False) -> list[Answer]:
        """Carry commands out in one turn; one that fails changes nothing."""
        pending, turn = Pending(), Turn()
        pending.add(_Worker(), [Request(n, each) for n, each in enumerate(commands, 1)])  # type: ignore[arg-type]
        self.table.begin_turn()
        transaction = self.store.begin()
        before = self.store.applied.position.offset
        self._taker.take(pending, TurnContext(turn, transaction, self.now_ms, before))
        if fails:
            transaction.abort()
            self.table.turn_failed()
            return []
        transaction.commit()
        return [answer for share in turn.shares for answer in share.answers]

    def sweep(self) -> int:
        due = self.table.look(self.store, self.now_ms)
        transaction = self.store.begin()
        self.table.remove(transaction, due)
        transaction.commit()
        self.table.removed(due)
        return len(due)

    def stored(self) -> tuple[int, int]:
        """Return how many records there are, and what they count for."""
        sizes: list[int] = []
        self.store.look_at_requests(
            b"", 1 << 30, lambda key, expiry_ms, value: sizes.append(len(key) + len(value) + 32)
        )
        return len(sizes), sum(sizes)


class _Worker:
    is_full = False


@pytest.fixture
def turns(tmp_path: Path) -> Any:
    made: list[Bench] = []

    def make(**limits: int) -> Bench:
        made.append(Bench(tmp_path / str(len(made)), RequestLimits(**limits)))
        return made[-1]

    yield make
    for each in made:
        each.store.close(clean=False)


def errors_of(answers: list[Answer]) -> list[str]:
    return [answer.error for answer in answers]


def test_one_holder_gets_half_and_a_full_table_refuses_all_with_a_key(turns: Any) -> None:
    bench = turns(max_entries=4)
    bench.sweep()
    told = [
        errors_of(bench.run(once(f"{n}", Set(b"a", b"v"), holder)))[0]
        for n, holder in enumerate("aaabbc")
    ]
    share, full = ShareTaken.__name__, IdempotencyFull.__name__
    assert told == ["", "", share, "", share, share]
    bench.restart(RequestLimits(max_entries=3))
    bench.sweep()
    assert errors_of(bench.run(once("x", Set(b"a", b"v"), "d"))) == [full]
    assert errors_of(bench.run(Set(b"a", b"v"))) == [""]


def test_failed_turn_gives_back_what_it_took(turns: Any) -> None:
    bench = turns()
    bench.sweep()
    bench.run(once("kept", Set(b"a", b"v")))
    before = (bench.table.entries, bench.table.held_bytes)
    bench.run(*(once(str(n), Set(b"a", b"v")) for n in range(5)), fails=True)
    assert (bench.table.entries, bench.table.held_bytes) == before == bench.stored()


def test_next_owner_counts_what_it_finds_and_does_not_forget_it(turns: Any) -> None:
    bench = turns(max_entries=20_000)
    for start in range(0, 6000, 100):
        bench.run(*(once(str(n), Set(b"a", b"v")) for n in range(start, start + 100)))
    bench.restart(bench.limits)
    assert not bench.table.is_counted
    bench.run(once("0", Set(b"a", b"v")), once("new", Set(b"a", b"v")))
    while not bench.table.is_counted:
        bench.sweep()
    assert (bench.table.entries, bench.table.held_bytes) == bench.stored()
    assert bench.table.entries == 6001


class Model(RuleBasedStateMachine):
    """Requests with keys, turns that fail, owners that follow each other, time, against a dict."""

    make: Any

    @initialize()
    def begin(self) -> None:
        self.bench: Bench = type(self).make(ttl_ms=10, max_entries=1000)
        # By name: when it ends, what it was for, and its answer.
        self.known: dict[str, tuple[int, bytes, int]] = {}
        self.value = 0
        self.met: list[str] = []

    @rule(name=st.sampled_from("abcdef"), amount=st.integers(1, 2), fails=st.booleans())
    def ask(self, name: str, amount: int, fails: bool) -> None:
        command = Increment(b"n", amount)
        answers = self.bench.run(once(name, command), fails=fails)
        if fails:
            return
        (answer,) = answers
        end, asked, told = self.known.get(name, (0, b"", 0))
        if end > self.bench.now_ms:
            if asked != b"%d" % amount:
                assert answer.error == IdempotencyKeyReused.__name__
                self.met.append("reused")
            else:
                assert answer.result == Replayed(told)
                self.met.append("replayed")
            return
        self.met.append("again" if name in self.known else "first")
        self.value += amount
        assert answer.result == self.value
        self.known[name] = (self.bench.now_ms + 10, b"%d" % amount, self.value)

    @rule(passed=st.integers(1, 6))
    def wait(self, passed: int) -> None:
        self.bench.now_ms += passed

    @rule()
    def sweep(self) -> None:
        self.bench.sweep()

    @rule()
    def restart(self) -> None:
        self.bench.restart(self.bench.limits)

    @invariant()
    def sums_are_those_of_the_store(self) -> None:
        if self.bench.table.is_counted:
            assert (self.bench.table.entries, self.bench.table.held_bytes) == self.bench.stored()


def test_requests_take_effect_once_whatever_happens(turns: Any) -> None:
    Model.make = staticmethod(turns)
    run_state_machine_as_test(
        Model, settings=settings(max_examples=15, stateful_step_count=30, deadline=None)
    )


def test_model_of_requests_tells_each_kind_of_answer(turns: Any) -> None:
    Model.make = staticmethod(turns)
    model = Model()
    model.begin()
    for amount, passed in ((1, 9), (1, 0), (2, 1), (2, 0)):
        model.ask("a", amount, fails=False)
        model.wait(passed)
    assert model.met == ["first", "replayed", "reused", "again"]


def test_requests_of_a_slot_are_told_in_pieces_of_so_many_bytes(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m", has_slots=True)
        async with master.running() as client:
            for number in range(4):
                await client.execute(once(f"k{number}", GetSet(b"{t}n", bytes(1000))))
            await client.execute(once("other", Set(b"o", b"1")))
            reader = master.data_dir.store.reader()
            found, after = [], b""
            while after is not None:
                piece, after, _ = reader.requests_of_slot(
                    slot_of(b"t"), after or b"", limit=100, max_bytes=1000
                )
                assert len(piece) <= 2
                found += piece
            assert len(found) == 4

    uvloop.run(test())
