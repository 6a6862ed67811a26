"""What one turn of the writer may cost: answers that tell much, commands that take long."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from synap.commands.keys import Copy, Delete, Expire, Persist, Rename
from synap.commands.keyspace import Limits
from synap.commands.strings import Append, GetSet, Increment, Set, SetRange
from synap.commands.transactions import Transactions, held_bytes
from synap.frame import ENTRY_BYTES
from synap.ipc.messages import Answer, Decoder, Request, encode
from synap.store import Store, WriteTransaction
from synap.writer.quorum_answers import Quorum, QuorumAnswers
from synap.writer.turn import Pending, Turn, TurnContext, TurnTaker
from tests.integration.linked_nodes import eventually
from tests.integration.writers import WritingMaster

TURN_BYTES = 1024
BIG = b"x" * 4096
ASKED = 64


class Worker:
    """A connection of which only its being full counts."""

    def __init__(self, is_full: bool = False) -> None:
        self.is_full = is_full


pytestmark = pytest.mark.usefixtures("run_dir")


@pytest.fixture
def transaction() -> Iterator[WriteTransaction]:
    with tempfile.TemporaryDirectory(prefix="synap-test-") as folder:
        store = Store.prepare(Path(folder), 64 * 1024 * 1024)
        begun = store.begin()
        begun.put(b"big", BIG, 0)
        yield begun
        begun.abort()
        store.close(clean=False)


def taker(clock: Any = lambda: 0.0) -> TurnTaker:
    return TurnTaker(
        Limits(1024 * 1024), Transactions(60, lambda: 0.0), QuorumAnswers(Quorum(), None), None,
        min_replicas=0, turn_bytes=TURN_BYTES, clock=clock,
    )  # fmt: skip


def taken(transaction: WriteTransaction, pending: Pending, clock: Any = lambda: 0.0) -> Turn:
    turn = Turn()
    taker(clock).take(pending, TurnContext(turn, transaction, 1, 0))
    return turn


def pending_of(*commands: Any, connection: Any = None) -> Pending:
    pending = Pending()
    requests = [Request(number, command) for number, command in enumerate(commands, 1)]
    pending.add(connection or Worker(), requests)
    return pending


@pytest.mark.parametrize(
    "command", [Set(b"big", b"y", nx=True, get=True), GetSet(b"big", BIG)], ids=["set", "getset"]
)
def test_turn_ends_with_an_answer_that_tells_a_large_value(
    transaction: WriteTransaction, command: Any
) -> None:
    pending = pending_of(command, command, command)
    turn = taken(transaction, pending)
    assert [share.tried for share in turn.shares] == [1]
    assert len(pending) == 2


@pytest.mark.parametrize(
    "command",
    [
        Expire(b"big", 9), Persist(b"dated"), Copy(b"big", b"other", replace=True),
        Rename(b"big", b"other"), Append(b"big", b"y"), SetRange(b"big", 0, b"y"),
    ],
    ids=lambda command: type(command).__name__,
)  # fmt: skip
def test_turn_ends_with_a_command_that_writes_a_large_value_anew(
    transaction: WriteTransaction, command: Any
) -> None:
    transaction.put(b"dated", BIG, 9)
    pending = pending_of(command, command, command)
    turn = taken(transaction, pending)
    assert [share.tried for share in turn.shares] == [1]
    assert turn.value_bytes >= len(BIG)


def test_rest_of_a_worker_whose_writes_are_large_waits_behind_others(
    transaction: WriteTransaction,
) -> None:
    large, other = Worker(), Worker()
    pending = pending_of(*[Expire(b"big", 9)] * 3, connection=large)
    for number, connection in ((7, other), (4, large), (8, other)):
        pending.add(connection, [Request(number, Expire(b"big", 9))])
    turns = [taken(transaction, pending) for _ in range(6)]
    ids = [request.id for turn in turns for share in turn.shares for request in share.requests]
    assert ids == [1, 7, 8, 2, 3, 4]
    assert len(pending) == 0


def test_exec_logs_no_more_than_its_commands_counted_for_in_the_queue(
    transaction: WriteTransaction,
) -> None:
    """So what an Exec writes is bounded, and refused, before it begins."""
    names = [b"%d" % number for number in range(100)]
    for name in names:
        transaction.put(name, BIG, 0)
    commands = (
        Set(b"k", bytes(900)), Set(b"k" * 500, b""), Increment(b"n", 10**18), Delete(tuple(names))
    )  # fmt: skip
    for command in commands:
        seen = len(transaction.entries)
        command.evaluate(transaction, 1, Limits(1024))
        new = transaction.entries[seen:]
        logged = sum(ENTRY_BYTES + len(entry.key) + len(entry.value) for entry in new)
        assert logged <= held_bytes(command)


def test_turn_ends_when_its_time_is_over(transaction: WriteTransaction) -> None:
    times = iter(number / 100 for number in range(1000))
    pending = pending_of(*[Delete((b"absent",))] * 100)
    turn = taken(transaction, pending, lambda: next(times))
    assert 1 <= sum(share.tried for share in turn.shares) < 10
    assert len(pending) > 90


def test_turn_takes_a_command_that_takes_longer_than_a_turn(transaction: WriteTransaction) -> None:
    times = iter((0.0, 0.0, 0.0, 9.0, 9.0))
    pending = pending_of(Delete((b"absent",)))
    assert len(taken(transaction, pending, lambda: next(times)).shares[0].answers) == 1


def test_requests_of_a_worker_that_does_not_read_wait_in_their_order(
    transaction: WriteTransaction,
) -> None:
    mute: Any = Worker(is_full=True)
    other: Any = Worker()
    pending = pending_of(Set(b"k", b"1"), connection=mute)
    pending.add(other, [Request(1, Set(b"k", b"2"))])
    pending.add(mute, [Request(2, Set(b"k", b"3"))])
    assert [share.connection for share in taken(transaction, pending).shares] == [other]
    assert not pending.is_ready
    mute.is_full = False
    turn = taken(transaction, pending)
    assert [request.id for share in turn.shares for request in share.requests] == [1, 2]


def test_worker_that_does_not_read_large_answers_is_asked_for_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            value = bytes(256 * 1024)
            await client.execute(Set(b"big", value))
            path = str(master.paths.writer_socket)
            reader, writer = await asyncio.open_unix_connection(path, limit=1024)
            asked = [Request(number, GetSet(b"big", value)) for number in range(1, ASKED + 1)]
            writer.write(encode(asked))
            await eventually(lambda: master.data_dir.position.offset > 8)
            for _ in range(ASKED):
                done = await client.execute(Set(b"other", b"v"))
            assert done.offset < 2 * ASKED - 20
            decoder, answers = Decoder(Answer), list[Answer]()
            async with asyncio.timeout(30):
                while len(answers) <= ASKED:
                    answers += decoder.feed(await reader.read(65536))
            # The first one names the reign.
            assert [answer.id for answer in answers[1:]] == [request.id for request in asked]
            writer.close()

    uvloop.run(test())
