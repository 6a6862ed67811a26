"""Transactions on a dict and a clock that the test moves."""

from collections.abc import Callable

import pytest

from synap.commands import transactions
from synap.commands.commands import Command
from synap.commands.keys import Delete, Flush
from synap.commands.keyspace import Limits
from synap.commands.strings import Append, Increment, Set
from synap.commands.transactions import (
    MAX_QUEUED_COMMANDS,
    MAX_WATCHED_KEYS,
    Discard,
    Exec,
    Executed,
    Multi,
    Queue,
    Queued,
    TransactionCommand,
    Transactions,
    Unwatch,
    Watch,
)
from synap.frame import ACCOUNTS, DEL, FLUSH, SET, Entry
from synap.request_errors import (
    InvalidRequest,
    InvalidValue,
    KeyInvalid,
    ShareTaken,
    TransactionLost,
    ValueTooLarge,
)
from tests.unit.commands.test_commands import LATER, LIMITS, NOW, Keys

ABORTED = Executed(None)


class Desk:
    """Transactions over keys. `change` writes as somebody else, whom the owner tells of."""

    def __init__(self, **values: bytes) -> None:
        self.keys = Keys(**values)
        self.seconds = 0.0
        self.limits = LIMITS
        self.transactions = Transactions(60, lambda: self.seconds)

    def ask(self, command: Command | TransactionCommand, now_ms: int = NOW) -> object:
        return self.transactions.evaluate(command, self.keys, now_ms, self.limits)

    def queue(self, *commands: Set | Delete | Increment) -> None:
        for command in commands:
            assert self.ask(Queue("c", command)) == Queued()

    def change(self, key: bytes, value: bytes) -> None:
        self.keys.put(key, value, 0)
        self.transactions.note([Entry(SET, key, value)])

    def values(self) -> dict[bytes, bytes]:
        return {key: record.value for key, record in self.keys.records.items()}


def test_exec_carries_out_what_was_queued_in_order() -> None:
    hooks = Desk(gone=b"x")
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"n", b"1"), Increment(b"n", 4), Delete((b"gone", b"none")))
    assert hooks.values() == {b"gone": b"x"}
    assert hooks.ask(Exec("c")) == Executed((("ok", 1), ("value", 5), ("deleted", 1)))
    assert hooks.values() == {b"n": b"5"}
    assert len(hooks.transactions) == 0


def test_exec_with_a_command_that_fails_changes_nothing_and_ends() -> None:
    hooks = Desk(text=b"abc")
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"n", b"1"), Increment(b"text", 1))
    with pytest.raises(InvalidValue, match=r"command 2 of the transaction: .*nothing was changed"):
        hooks.ask(Exec("c"))
    assert hooks.values() == {b"text": b"abc"}
    with pytest.raises(InvalidRequest, match="No transaction in progress"):
        hooks.ask(Exec("c"))


def test_exec_tells_of_a_condition_that_did_not_hold() -> None:
    hooks = Desk(a=b"1")
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"a", b"2", nx=True))
    assert hooks.ask(Exec("c")) == Executed((("ok", 0),))


def test_queue_without_a_transaction_is_refused_and_changes_nothing() -> None:
    hooks = Desk(a=b"1")
    with pytest.raises(TransactionLost):
        hooks.ask(Queue("c", Set(b"a", b"2")))
    hooks.ask(Watch("c", (b"a",)))
    with pytest.raises(TransactionLost):
        hooks.ask(Queue("c", Increment(b"a", 1)))
    assert hooks.values() == {b"a": b"1"}


def test_queue_after_silence_ended_the_transaction_is_refused() -> None:
    hooks = Desk()
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"a", b"1"))
    hooks.seconds = 61
    with pytest.raises(TransactionLost):
        hooks.ask(Queue("c", Set(b"b", b"1")))


def test_transactions_of_two_clients_are_apart() -> None:
    hooks = Desk()
    hooks.ask(Multi("c"))
    hooks.ask(Multi("d"))
    hooks.queue(Set(b"a", b"c"))
    hooks.ask(Queue("d", Set(b"a", b"d")))
    hooks.ask(Exec("d"))
    assert hooks.values() == {b"a": b"d"}
    hooks.ask(Discard("c"))
    assert hooks.values() == {b"a": b"d"}


@pytest.mark.parametrize("end", [Exec("c"), Discard("c")])
def test_end_of_no_transaction_is_refused(end: TransactionCommand) -> None:
    hooks = Desk()
    hooks.ask(Watch("c", (b"a",)))
    with pytest.raises(InvalidRequest, match="No transaction in progress"):
        hooks.ask(end)


def test_multi_inside_a_transaction_is_refused_and_leaves_it() -> None:
    hooks = Desk()
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"a", b"1"))
    with pytest.raises(InvalidRequest, match="Transaction already in progress"):
        hooks.ask(Multi("c"))
    assert hooks.ask(Exec("c")) == Executed((("ok", 1),))


@pytest.mark.parametrize("watch_first", [True, False])
def test_exec_with_a_watched_key_changed_gives_up(watch_first: bool) -> None:
    hooks = Desk(a=b"1")
    opening = [Watch("c", (b"a", b"b")), Multi("c")]
    for command in opening if watch_first else reversed(opening):
        hooks.ask(command)
    hooks.queue(Set(b"b", b"2"))
    hooks.change(b"a", b"1")
    assert hooks.ask(Exec("c")) == ABORTED
    assert hooks.values() == {b"a": b"1"}
    assert hooks.transactions.watchers == {}


def test_watched_key_that_came_and_went_counts_as_changed() -> None:
    hooks = Desk()
    hooks.ask(Watch("c", (b"a",)))
    hooks.ask(Multi("c"))
    hooks.transactions.note([Entry(SET, b"a", b"1"), Entry(DEL, b"a")])
    assert hooks.ask(Exec("c")) == ABORTED


def test_watched_key_that_expired_unswept_counts_as_changed() -> None:
    hooks = Desk()
    hooks.keys.put(b"a", b"1", LATER)
    hooks.ask(Watch("c", (b"a",)))
    hooks.ask(Multi("c"))
    assert hooks.ask(Exec("c"), LATER) == ABORTED


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        (Entry(FLUSH), ABORTED),
        (Entry(FLUSH, space=ACCOUNTS), Executed(())),
        (Entry(SET, b"a", b"1", 0, ACCOUNTS), Executed(())),
        (Entry(SET, b"other", b"1"), Executed(())),
    ],
)
def test_watch_heeds_what_touches_its_keys_alone(entry: Entry, outcome: Executed) -> None:
    hooks = Desk(a=b"1")
    hooks.ask(Watch("c", (b"a",)))
    hooks.ask(Multi("c"))
    hooks.transactions.note([entry])
    assert hooks.ask(Exec("c")) == outcome


@pytest.mark.parametrize("is_multi", [True, False])
def test_unwatch_forgets_a_change(is_multi: bool) -> None:
    hooks = Desk()
    if is_multi:
        hooks.ask(Multi("c"))
    hooks.ask(Watch("c", (b"a",)))
    hooks.change(b"a", b"1")
    assert hooks.ask(Unwatch("c")) is True
    assert hooks.transactions.watchers == {}
    if not is_multi:
        assert len(hooks.transactions) == 0
        hooks.ask(Multi("c"))
    assert hooks.ask(Exec("c")) == Executed(())


def test_watch_of_no_keys_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Keys list cannot be empty"):
        Desk().ask(Watch("c", ()))


def test_silence_ends_what_is_open() -> None:
    hooks = Desk()
    for client in "cd":
        hooks.ask(Multi(client))
    hooks.ask(Watch("c", (b"a",)))
    hooks.seconds = 59
    hooks.queue(Set(b"a", b"1"))
    hooks.seconds = 60
    hooks.transactions.end_idle()
    assert len(hooks.transactions) == 1
    hooks.seconds = 119
    with pytest.raises(InvalidRequest, match="No transaction in progress"):
        hooks.ask(Exec("c"))
    assert hooks.transactions.watchers == {}


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Set(b"k", bytes(LIMITS.max_value_bytes + 1)), ValueTooLarge),
        (Set(b"", b"v"), KeyInvalid),
        (Delete((b"k", b"x" * 504)), KeyInvalid),
    ],
)
def test_command_that_can_never_be_carried_out_spoils_its_transaction(
    command: Set | Delete, error: type[Exception]
) -> None:
    hooks = Desk()
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"a", b"1"))
    with pytest.raises(error):
        hooks.ask(Queue("c", command))
    with pytest.raises(InvalidRequest, match=r"Transaction discarded: the .* nothing was changed"):
        hooks.ask(Exec("c"))
    assert hooks.values() == {}


def test_number_of_queued_commands_is_bounded() -> None:
    hooks = Desk()
    hooks.ask(Multi("c"))
    hooks.queue(*[Set(b"a", b"1")] * MAX_QUEUED_COMMANDS)
    with pytest.raises(InvalidRequest, match=f"at most {MAX_QUEUED_COMMANDS} commands"):
        hooks.ask(Queue("c", Set(b"a", b"1")))


def test_bytes_of_one_transaction_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "MAX_QUEUED_BYTES", 4096)
    hooks = Desk()
    hooks.limits = Limits(8192)
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"a", bytes(3072)))
    with pytest.raises(InvalidRequest, match="at most 4096 bytes"):
        hooks.ask(Queue("c", Set(b"a", bytes(1024))))
    hooks.ask(Discard("c"))
    hooks.ask(Multi("c"))
    hooks.queue(Set(b"a", bytes(3072)))


def _open_many(hooks: Desk, holder: str) -> None:
    for number in range(100):
        hooks.ask(Multi(f"{holder}{number}", holder=holder))


def _queue_much(hooks: Desk, holder: str) -> None:
    hooks.ask(Multi(holder, holder=holder))
    for _ in range(100):
        hooks.ask(Queue(holder, Set(b"a", bytes(1024)), holder=holder))


def _queue_many_keys(hooks: Desk, holder: str) -> None:
    hooks.ask(Multi(holder, holder=holder))
    hooks.ask(Queue(holder, Delete(tuple([b"%d" % each for each in range(1000)])), holder=holder))


def _watch_much(hooks: Desk, holder: str) -> None:
    for number in range(100):
        keys = tuple([b"%d-%d" % (number, each) for each in range(10)])
        hooks.ask(Watch(holder, keys, holder=holder))


@pytest.mark.parametrize("fill", [_open_many, _queue_much, _queue_many_keys, _watch_much])
def test_one_who_takes_all_they_get_leaves_room_for_another(
    fill: Callable[[Desk, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the number of clients, and of the bytes of queued commands, keys and watched keys."""
    monkeypatch.setattr(transactions, "MAX_CLIENTS", 20)
    monkeypatch.setattr(transactions, "MAX_ALL_BYTES", 40_000)
    hooks = Desk()
    hooks.limits = Limits(8192)
    with pytest.raises(ShareTaken, match=r"at most (20 in number|40000 bytes) together"):
        fill(hooks, "eve")
    hooks.ask(Watch("a", (b"k",), holder="ann"))
    hooks.ask(Multi("a", holder="ann"))
    hooks.ask(Queue("a", Set(b"k", bytes(1024)), holder="ann"))
    assert hooks.ask(Exec("a", holder="ann")) == Executed((("ok", 1),))


@pytest.mark.parametrize("command", [Exec("a"), Discard("a"), None])
def test_whatever_ends_gives_back_what_it_held(command: TransactionCommand | None) -> None:
    hooks = Desk()
    hooks.ask(Watch("a", (b"k", b"l"), holder="ann"))
    hooks.ask(Multi("a", holder="ann"))
    hooks.ask(Queue("a", Set(b"k", b"v"), holder="ann"))
    hooks.ask(Watch("b", (b"m",), holder="ann"))
    hooks.ask(Unwatch("b", holder="ann"))
    assert hooks.transactions.held_bytes > 1000
    if command is None:
        hooks.seconds = 61
        hooks.transactions.end_idle()
    else:
        hooks.ask(command)
    assert hooks.transactions.held_bytes == 0


def test_refused_watch_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "MAX_ALL_BYTES", 5000)
    hooks = Desk()
    with pytest.raises(ShareTaken):
        hooks.ask(Watch("c", tuple([b"%d" % number for number in range(20)])))
    assert (len(hooks.transactions), hooks.transactions.held_bytes) == (0, 0)


def test_number_of_watched_keys_is_bounded() -> None:
    hooks = Desk()
    hooks.ask(Watch("c", tuple([b"%d" % number for number in range(MAX_WATCHED_KEYS)])))
    hooks.ask(Watch("c", (b"1", b"2")))
    with pytest.raises(InvalidRequest, match="keys"):
        hooks.ask(Watch("c", (b"more",)))


def test_failed_turn_closes_what_it_opened_and_spoils_what_was_open() -> None:
    hooks = Desk()
    hooks.ask(Watch("c", (b"a",)))
    hooks.ask(Multi("d"))
    hooks.transactions.turn_failed([Set(b"x", b"1"), Queue("c", Set(b"b", b"1")), Multi("d")])
    hooks.ask(Multi("d"))
    assert hooks.ask(Exec("d")) == Executed(())
    hooks.ask(Multi("c"))
    with pytest.raises(InvalidRequest, match="Transaction discarded"):
        hooks.ask(Exec("c"))


def test_carried_out_names_the_commands_that_touch_keys_now() -> None:
    hooks = Desk()
    command = Set(b"a", b"1")
    assert hooks.transactions.carried_out(Append(b"a", b"1")) == (Append(b"a", b"1"),)
    assert hooks.transactions.carried_out(Flush()) == (Flush(),)
    assert hooks.transactions.carried_out(Queue("c", command)) == ()
    assert hooks.transactions.carried_out(Exec("c")) == ()
    hooks.ask(Multi("c"))
    assert hooks.transactions.carried_out(Queue("c", command)) == ()
    hooks.queue(command)
    assert hooks.transactions.carried_out(Exec("c")) == (command,)
    assert hooks.transactions.carried_out(Multi("d")) == ()
