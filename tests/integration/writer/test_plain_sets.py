"""The short path of a turn for plain Sets, against what each Set does on its own."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synap.commands.commands import Command
from synap.commands.keyspace import ABSENT, Limits
from synap.commands.records import MAX_KEY_BYTES, Record, is_live
from synap.commands.slots import ChangeSlot
from synap.commands.strings import Set, SetResult
from synap.commands.transactions import Transactions
from synap.errors import SlotMoving
from synap.frame import Entry
from synap.ipc.messages import Request
from synap.ipc.worker_connection import WriterConnection
from synap.ipc.writer_client import Done, WriterClient
from synap.place import Place
from synap.request_errors import CommandError
from synap.slots import slot_of
from synap.store import Store, WriteTransaction
from synap.writer.quorum_answers import Quorum, QuorumAnswers
from synap.writer.turn import Pending, Turn, TurnContext, TurnTaker

NOW = 1_000_000
LIMITS = Limits(max_value_bytes=8)
MAP_BYTES = 16 * 1024 * 1024

keys = st.sampled_from(
    [b"a", b"old", b"mortal", b"gone", b"x" * MAX_KEY_BYTES, b"x" * (MAX_KEY_BYTES + 1), b""]
)
flags = st.booleans()
seldom = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 2 * NOW))
versions = st.none() | st.just(ABSENT) | st.builds(Place, st.integers(0, 9), st.just("9f2c11aa"))
plain_sets = st.builds(Set, keys, st.binary(max_size=9))
sets = st.one_of(
    plain_sets,
    plain_sets,
    st.builds(Set, keys, st.binary(max_size=9), seldom, flags, flags, flags, flags, versions),
)


Outcome = tuple[int, object] | str


class OwnConnection:
    """Takes a turn's answers to the worker's end, with a waiter for each request."""

    is_full = False

    def __init__(self, numbers: Sequence[int]) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._client = WriterClient(Path("of no use"), 1)
        self._client.connection_made(cast(asyncio.Transport, self))
        self._client.waiting.update((n, Waits(self.outcomes, n)) for n in numbers)

    def send(self, data: bytes) -> None:
        self._client.data_received(data)
        assert not self._client.waiting


class Waits:
    """Notes what comes."""

    def __init__(self, outcomes: dict[int, Outcome], number: int) -> None:
        self._outcomes = outcomes
        self._number = number

    def done(self) -> bool:
        return False

    def set_result(self, done: Done) -> None:
        self._outcomes[self._number] = done.offset, done.result

    def set_exception(self, error: Exception) -> None:
        self._outcomes[self._number] = repr(error)


@contextmanager
def trial_of(store: Store) -> Iterator[WriteTransaction]:
    """Begin a transaction with keys of all kinds in it, and take it back in the end."""
    transaction = store.begin()
    try:
        transaction.put(b"old", b"1", 0)
        transaction.put(b"mortal", b"2", 2 * NOW)
        transaction.put(b"gone", b"3", NOW)
        yield transaction
    finally:
        transaction.abort()


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="synap-test-") as folder:
        store = Store.prepare(Path(folder), MAP_BYTES)
        yield store
        store.close(clean=False)


def by_a_turn(
    store: Store, commands: Sequence[Command], numbers: Sequence[int]
) -> tuple[dict[int, Outcome], list[Entry]]:
    """Return what the requests of one turn of the writer come to, and the turn's entries."""
    taker = TurnTaker(
        LIMITS, Transactions(60, lambda: 0.0), QuorumAnswers(Quorum(), None), None, min_replicas=0,
        turn_bytes=1024, clock=lambda: 0.0,
    )  # fmt: skip
    connection = OwnConnection(numbers)
    pending, turn = Pending(), Turn()
    requests = [Request(n, command) for n, command in zip(numbers, commands, strict=True)]
    pending.add(cast(WriterConnection, connection), requests)
    with trial_of(store) as transaction:
        taker.take(pending, TurnContext(turn, transaction, NOW, 0))
        entries = list(transaction.entries)
    turn.send()
    return connection.outcomes, entries


def one_by_one(
    store: Store, commands: list[Set], numbers: Sequence[int]
) -> tuple[dict[int, Outcome], list[Entry]]:
    """Return what evaluating each comes to, and the entries."""
    outcomes: dict[int, Outcome] = {}
    with trial_of(store) as transaction:
        for number, command in zip(numbers, commands, strict=True):
            try:
                result = command.evaluate(transaction, NOW, LIMITS)
            except CommandError as error:
                outcomes[number] = repr(error)
            else:
                outcomes[number] = len(transaction.entries), result
        return outcomes, list(transaction.entries)


@settings(max_examples=200, deadline=None)
@given(commands=st.lists(sets, max_size=12), gap_at=st.integers(0, 12))
def test_sets_of_a_turn_do_what_each_does_on_its_own(
    store: Store, commands: list[Set], gap_at: int
) -> None:
    # A request that nobody waits for any more is not sent, and leaves a gap.
    numbers = [number + (number > gap_at) for number in range(1, len(commands) + 1)]
    assert by_a_turn(store, commands, numbers) == one_by_one(store, commands, numbers)


@settings(max_examples=200, deadline=None)
@given(command=sets)
def test_plain_set_is_one_put_whatever_is_stored(store: Store, command: Set) -> None:
    assume(command.is_plain(LIMITS))
    with trial_of(store) as transaction:
        version = transaction.put_all([(command.key, command.value)])
        entry = transaction.entries[-1]
    with trial_of(store) as transaction:
        assert command.evaluate(transaction, NOW, LIMITS) == SetResult(True, version)
        assert transaction.entries[3:] == [entry]
        record: Record | None = transaction.get(command.key)
        assert is_live(record, NOW)


def test_sets_behind_the_freeze_of_their_slot_are_refused_in_its_turn_too(store: Store) -> None:
    freeze = ChangeSlot(slot_of(b"a"), "freeze", 1000)
    commands = [Set(b"a", b"1"), freeze, Set(b"a", b"2"), Set(b"b", b"3")]
    outcomes, entries = by_a_turn(store, commands, range(4))
    assert outcomes[2] == repr(SlotMoving())
    assert [(entry.key, entry.value) for entry in entries if entry.key in (b"a", b"b")] == [
        (b"a", b"1"),
        (b"b", b"3"),
    ]
