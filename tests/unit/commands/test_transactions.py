"""Transactions on a dict and a clock that the test moves."""

from collections.abc import Callable

import pytest

from synap.commands import transactions
from synap.commands.commands import (
    Append,
    Command,
    Delete,
    Flush,
    Increment,
    Limits,
    Set,
    SetResult,
)
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
from synap.request_errors import InvalidRequest, InvalidValue, KeyInvalid, ValueTooLarge
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
    desk = Desk(gone=b"x")
    desk.ask(Multi("c"))
    desk.queue(Set(b"n", b"1"), Increment(b"n", 4), Delete((b"gone", b"none")))
    assert desk.values() == {b"gone": b"x"}
    assert desk.ask(Exec("c")) == Executed((("ok", 1), ("value", 5), ("deleted", 1)))
    assert desk.values() == {b"n": b"5"}
    assert len(desk.transactions) == 0


def test_exec_with_a_command_that_fails_changes_nothing_and_ends() -> None:
    desk = Desk(text=b"abc")
    desk.ask(Multi("c"))
    desk.queue(Set(b"n", b"1"), Increment(b"text", 1))
    with pytest.raises(InvalidValue, match=r"command 2 of the transaction: .*nothing was changed"):
        desk.ask(Exec("c"))
    assert desk.values() == {b"text": b"abc"}
    with pytest.raises(InvalidRequest, match="No transaction in progress"):
        desk.ask(Exec("c"))


def test_exec_tells_of_a_condition_that_did_not_hold() -> None:
    desk = Desk(a=b"1")
    desk.ask(Multi("c"))
    desk.queue(Set(b"a", b"2", nx=True))
    assert desk.ask(Exec("c")) == Executed((("ok", 0),))


def test_queue_without_a_transaction_carries_the_command_out() -> None:
    desk = Desk()
    assert desk.ask(Queue("c", Set(b"a", b"1"))) == SetResult(True, 101)
    desk.ask(Watch("c", (b"a",)))
    assert desk.ask(Queue("c", Increment(b"a", 1))) == 2


def test_transactions_of_two_clients_are_apart() -> None:
    desk = Desk()
    desk.ask(Multi("c"))
    desk.ask(Multi("d"))
    desk.queue(Set(b"a", b"c"))
    desk.ask(Queue("d", Set(b"a", b"d")))
    desk.ask(Exec("d"))
    assert desk.values() == {b"a": b"d"}
    desk.ask(Discard("c"))
    assert desk.values() == {b"a": b"d"}


@pytest.mark.parametrize("end", [Exec("c"), Discard("c")])
def test_end_of_no_transaction_is_refused(end: TransactionCommand) -> None:
    desk = Desk()
    desk.ask(Watch("c", (b"a",)))
    with pytest.raises(InvalidRequest, match="No transaction in progress"):
        desk.ask(end)


def test_multi_inside_a_transaction_is_refused_and_leaves_it() -> None:
    desk = Desk()
    desk.ask(Multi("c"))
    desk.queue(Set(b"a", b"1"))
    with pytest.raises(InvalidRequest, match="Transaction already in progress"):
        desk.ask(Multi("c"))
    assert desk.ask(Exec("c")) == Executed((("ok", 1),))


@pytest.mark.parametrize("watch_first", [True, False])
def test_exec_with_a_watched_key_changed_gives_up(watch_first: bool) -> None:
    desk = Desk(a=b"1")
    opening = [Watch("c", (b"a", b"b")), Multi("c")]
    for command in opening if watch_first else reversed(opening):
        desk.ask(command)
    desk.queue(Set(b"b", b"2"))
    desk.change(b"a", b"1")
    assert desk.ask(Exec("c")) == ABORTED
    assert desk.values() == {b"a": b"1"}
    assert desk.transactions.watchers == {}


def test_watched_key_that_came_and_went_counts_as_changed() -> None:
    desk = Desk()
    desk.ask(Watch("c", (b"a",)))
    desk.ask(Multi("c"))
    desk.transactions.note([Entry(SET, b"a", b"1"), Entry(DEL, b"a")])
    assert desk.ask(Exec("c")) == ABORTED


def test_watched_key_that_expired_unswept_counts_as_changed() -> None:
    desk = Desk()
    desk.keys.put(b"a", b"1", LATER)
    desk.ask(Watch("c", (b"a",)))
    desk.ask(Multi("c"))
    assert desk.ask(Exec("c"), LATER) == ABORTED


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
    desk = Desk(a=b"1")
    desk.ask(Watch("c", (b"a",)))
    desk.ask(Multi("c"))
    desk.transactions.note([entry])
    assert desk.ask(Exec("c")) == outcome


@pytest.mark.parametrize("is_multi", [True, False])
def test_unwatch_forgets_a_change(is_multi: bool) -> None:
    desk = Desk()
    if is_multi:
        desk.ask(Multi("c"))
    desk.ask(Watch("c", (b"a",)))
    desk.change(b"a", b"1")
    assert desk.ask(Unwatch("c")) is True
    assert desk.transactions.watchers == {}
    if not is_multi:
        assert len(desk.transactions) == 0
        desk.ask(Multi("c"))
    assert desk.ask(Exec("c")) == Executed(())


def test_watch_of_no_keys_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Keys list cannot be empty"):
        Desk().ask(Watch("c", ()))


def test_silence_ends_what_is_open() -> None:
    desk = Desk()
    for client in "cd":
        desk.ask(Multi(client))
    desk.ask(Watch("c", (b"a",)))
    desk.seconds = 59
    desk.queue(Set(b"a", b"1"))
    desk.seconds = 60
    desk.transactions.end_idle()
    assert len(desk.transactions) == 1
    desk.seconds = 119
    with pytest.raises(InvalidRequest, match="No transaction in progress"):
        desk.ask(Exec("c"))
    assert desk.transactions.watchers == {}


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
    desk = Desk()
    desk.ask(Multi("c"))
    desk.queue(Set(b"a", b"1"))
    with pytest.raises(error):
        desk.ask(Queue("c", command))
    with pytest.raises(InvalidRequest, match=r"Transaction discarded: the .* nothing was changed"):
        desk.ask(Exec("c"))
    assert desk.values() == {}


def test_number_of_queued_commands_is_bounded() -> None:
    desk = Desk()
    desk.ask(Multi("c"))
    desk.queue(*[Set(b"a", b"1")] * MAX_QUEUED_COMMANDS)
    with pytest.raises(InvalidRequest, match=f"at most {MAX_QUEUED_COMMANDS} commands"):
        desk.ask(Queue("c", Set(b"a", b"1")))


def _fill_own(desk: Desk) -> None:
    desk.ask(Multi("c"))
    desk.queue(*[Set(b"a", bytes(1024))] * 3)


def _fill_others(desk: Desk) -> None:
    for client in "de":
        desk.ask(Multi(client))
        desk.ask(Queue(client, Set(b"a", bytes(2048))))
    desk.ask(Multi("c"))


@pytest.mark.parametrize(("fill", "message"), [(_fill_own, "bytes$"), (_fill_others, "together")])
def test_bytes_of_queued_commands_are_bounded(
    fill: Callable[[Desk], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MAX_QUEUED_BYTES", 4096)
    monkeypatch.setattr(transactions, "MAX_ALL_QUEUED_BYTES", 5000)
    desk = Desk()
    desk.limits = Limits(8192)
    fill(desk)
    with pytest.raises(InvalidRequest, match=message):
        desk.ask(Queue("c", Set(b"a", bytes(1024))))
    for client in "de":
        desk.transactions.turn_failed([Multi(client)])
    desk.ask(Discard("c"))
    desk.ask(Multi("c"))
    desk.queue(Set(b"a", bytes(2048)))


def test_number_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "MAX_CLIENTS", 2)
    desk = Desk()
    desk.ask(Multi("c"))
    desk.ask(Watch("d", (b"a",)))
    with pytest.raises(InvalidRequest, match="2 clients"):
        desk.ask(Multi("e"))
    desk.ask(Multi("d"))


def test_number_of_watched_keys_is_bounded() -> None:
    desk = Desk()
    desk.ask(Watch("c", tuple([b"%d" % number for number in range(MAX_WATCHED_KEYS)])))
    desk.ask(Watch("c", (b"1", b"2")))
    with pytest.raises(InvalidRequest, match="keys"):
        desk.ask(Watch("c", (b"more",)))


def test_failed_turn_closes_what_it_opened_and_spoils_what_was_open() -> None:
    desk = Desk()
    desk.ask(Watch("c", (b"a",)))
    desk.ask(Multi("d"))
    desk.transactions.turn_failed([Set(b"x", b"1"), Queue("c", Set(b"b", b"1")), Multi("d")])
    desk.ask(Multi("d"))
    assert desk.ask(Exec("d")) == Executed(())
    desk.ask(Multi("c"))
    with pytest.raises(InvalidRequest, match="Transaction discarded"):
        desk.ask(Exec("c"))


def test_carried_out_names_the_commands_that_touch_keys_now() -> None:
    desk = Desk()
    command = Set(b"a", b"1")
    assert desk.transactions.carried_out(Append(b"a", b"1")) == (Append(b"a", b"1"),)
    assert desk.transactions.carried_out(Flush()) == (Flush(),)
    assert desk.transactions.carried_out(Queue("c", command)) == (command,)
    assert desk.transactions.carried_out(Exec("c")) == ()
    desk.ask(Multi("c"))
    assert desk.transactions.carried_out(Queue("c", command)) == ()
    desk.queue(command)
    assert desk.transactions.carried_out(Exec("c")) == (command,)
    assert desk.transactions.carried_out(Multi("d")) == ()
