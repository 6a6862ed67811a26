"""Transactions: commands that clients queue and have carried out as one, and keys they watch.

A client names itself by an id, because its requests reach the log's owner over any HTTP worker.
`Multi` opens its transaction, `Queue` puts a command into it, `Exec` carries all of them out in one
frame or none. `Watch` makes an `Exec` give up where one of the keys has been changed since, by
whomever: the owner tells of every entry (`note`), and versions show a key that expired unswept.

Pure: the keys come in as a `Keyspace`, the clock is handed in. The writer owns the one
`Transactions` of a node; what is open ends with its process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from synap.commands.commands import Command, Result
from synap.commands.keys import Delete
from synap.commands.keyspace import (
    COMMAND_BYTES,
    Keyspace,
    Limits,
    Need,
    Trial,
    check_value,
    live,
)
from synap.commands.records import check_key
from synap.commands.strings import Increment, Set, SetResult
from synap.frame import DEL, KEYS, SET, Entry
from synap.request_errors import (
    CommandError,
    InvalidRequest,
    RecordCorrupt,
    ShareTaken,
    TransactionLost,
)
from synap.shares import Holder, Shares

# Clients that have a transaction open or keys watched; each user has a share of them.
MAX_CLIENTS = 10_000
# Of one transaction: what it holds up other writes by stays near a turn's bound.
MAX_QUEUED_COMMANDS = 1000
MAX_QUEUED_BYTES = 16 * 1024 * 1024
MAX_WATCHED_KEYS = 1000
# Of all clients together, of which each user has a share: what they take up in memory, by the
# figures below.
MAX_ALL_BYTES = 64 * 1024 * 1024
# Measured, rounded up: what one that has something open takes beside its id, a watched key beside
# its bytes, and each object of a queued command beside the command's own size.
_CLIENT_BYTES = 512
_WATCHED_KEY_BYTES = 448
_OBJECT_BYTES = 64


class _Held(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Who a request's client is of; `holder` stands last in the message."""

    holder: Holder = ""


class _Request(_Held, frozen=True):
    """Base of what a client asks of its transaction. Tags follow those of the commands.

    Each has a method `act` of its own, which does it and returns its result. What a client holds
    counts for the `holder` that opened it.
    """

    client: str

    def carried_out(self, transactions: Transactions) -> tuple[Command, ...]:
        """Return the commands that this would carry out on the keys at once."""
        return ()

    def counted(self, result: Any) -> tuple[int, int]:
        """Return how many keys this wrote and how many it removed, by its result."""
        return 0, 0

    @property
    def size(self) -> int:
        """About how many bytes this takes in a message."""
        return COMMAND_BYTES


class Multi(_Request, frozen=True, tag=40):
    """Open a transaction."""

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> bool:
        return transactions.open(self.client, self.holder)


class Exec(_Request, frozen=True, tag=41):
    """Carry out what was queued; the result is an Executed. The transaction ends."""

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> Executed:
        return transactions.execute(self.client, keyspace, now_ms, limits)

    def carried_out(self, transactions: Transactions) -> tuple[Command, ...]:
        return transactions.queued_of(self.client)

    def counted(self, result: Executed) -> tuple[int, int]:
        results = result.results or ()
        removed = sum([number for word, number in results if word == "deleted"])
        written = sum([number if word == "ok" else word == "value" for word, number in results])
        return written, removed


class Discard(_Request, frozen=True, tag=42):
    """End the transaction and forget the watched keys."""

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> bool:
        return transactions.discard(self.client)


class Watch(_Request, frozen=True, tag=43):
    """Have the next Exec give up where one of `keys` has been changed by then."""

    keys: tuple[bytes, ...]

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> bool:
        return transactions.watch(self, keyspace, now_ms)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + sum(map(len, self.keys))


class Unwatch(_Request, frozen=True, tag=44):
    """Forget the watched keys."""

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> bool:
        return transactions.unwatch(self.client)


class Queue(_Request, frozen=True, tag=45):
    """Queue `command`; the result is Queued.

    Without an open transaction it is refused and never carried out alone: the transaction that it
    belongs to may have ended with an earlier writer, or by its client's silence.
    """

    command: Set | Delete | Increment

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> Queued:
        return transactions.queue(self.client, self.command, limits)

    @property
    def size(self) -> int:
        return self.command.size


class Pending(_Request, frozen=True, tag=46):
    """Tell what the queued commands need; the result is a PendingNeeds. Nothing changes."""

    def act(
        self, transactions: Transactions, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> PendingNeeds:
        queued = transactions.queued_of(self.client)
        return PendingNeeds(tuple(need for command in queued for need in command.needs()))


class Queued(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The command waits for its Exec."""


class Executed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What became of an Exec.

    Attributes:
        results: Of each command, in order: `ok` (0 where a condition did not hold), `deleted`
            or `value`, and the number. None where a watched key was changed and nothing was done.
    """

    results: tuple[tuple[str, int], ...] | None


class PendingNeeds(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """What somebody needs who carries out what is queued.

    Attributes:
        needs: Of all commands, in their order; nothing where no transaction is open.
    """

    needs: tuple[Need, ...]


TransactionCommand = Multi | Exec | Discard | Watch | Unwatch | Queue | Pending


class _Open:
    """What one client has open.

    Attributes:
        holder: For whom it counts.
        held_bytes: What it takes up, without what `queued_bytes` says.
        used_seconds: When it was last heard of.
        is_multi: Whether a transaction is open; else there are watched keys alone.
        queued: The commands, in order.
        queued_bytes: What they take.
        watched: Version of each watched key when it was first watched; 0 stands for absent.
        is_touched: A watched key was changed.
        spoilt: Why this can't be carried out any more; empty where it can.
    """

    __slots__ = (
        "held_bytes", "holder", "is_multi", "is_touched", "queued", "queued_bytes", "spoilt",
        "used_seconds", "watched",
    )  # fmt: skip

    def __init__(self, holder: Holder, held_bytes: int) -> None:
        self.holder = holder
        self.held_bytes = held_bytes
        self.used_seconds = 0.0
        self.is_multi = False
        self.queued: list[Set | Delete | Increment] = []
        self.queued_bytes = 0
        self.watched: dict[bytes, int] = {}
        self.is_touched = False
        self.spoilt = ""


class Transactions:
    """Everything that clients have open on one node.

    Attributes:
        watchers: The clients that watch a key, by key; `note` is wanted while there are any.
    """

    def __init__(self, timeout_seconds: float, clock: Callable[[], float]) -> None:
        """
        Args:
            timeout_seconds: Silence after which what a client has open ends.
            clock: Seconds, monotonic.
        """
        self.watchers: dict[bytes, set[str]] = {}
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        # The one that was heard of longest ago stands first.
        self._open: dict[str, _Open] = {}
        self._clients = Shares(MAX_CLIENTS)
        self._bytes = Shares(MAX_ALL_BYTES)

    def __len__(self) -> int:
        """Return the number of clients that have something open."""
        return len(self._open)

    @property
    def held_bytes(self) -> int:
        """About what all of it takes up."""
        return self._bytes.held

    def evaluate(
        self, command: Command | TransactionCommand, keyspace: Keyspace, now_ms: int, limits: Limits
    ) -> Result | Queued | Executed | PendingNeeds:
        """Carry out a command or what a client asks of its transaction.

        See BaseCommand. The result is True where a docstring above names no other one.

        Raises:
            CommandError: it can't be done; no key was changed.
        """
        if not isinstance(command, _Request):
            return command.evaluate(keyspace, now_ms, limits)
        self.end_idle()
        return command.act(self, keyspace, now_ms, limits)

    def carried_out(self, command: Command | TransactionCommand) -> tuple[Command, ...]:
        """Return the commands that `evaluate` would carry out on the keys at once."""
        return command.carried_out(self) if isinstance(command, _Request) else (command,)

    def is_queueing(self, client: str) -> bool:
        """Say whether the client has a transaction open."""
        mine = self._open.get(client)
        return mine is not None and mine.is_multi

    def queued_of(self, client: str) -> tuple[Command, ...]:
        """Return what the client has queued."""
        mine = self._open.get(client)
        return () if mine is None else tuple(mine.queued)

    def open(self, client: str, holder: Holder) -> bool:
        """Open a transaction; see Multi."""
        if self.is_queueing(client):
            raise InvalidRequest("Transaction already in progress")
        self._touch(client, holder).is_multi = True
        return True

    def queue(self, client: str, command: Set | Delete | Increment, limits: Limits) -> Queued:
        """Queue a command of an open transaction; see Queue."""
        if not self.is_queueing(client):
            raise TransactionLost
        mine = self._seen(client, self._open[client])
        size = held_bytes(command)
        try:
            self._check(mine, command, size, limits)
            self._hold(mine.holder, size)
        except CommandError as error:
            mine.spoilt = error.message
            raise
        mine.queued.append(command)
        mine.queued_bytes += size
        return Queued()

    def execute(self, client: str, keyspace: Keyspace, now_ms: int, limits: Limits) -> Executed:
        """Carry out what is queued; see Exec."""
        self._require_open(client)
        mine = self._open[client]
        is_changed = mine.is_touched or any(
            _version(keyspace, key, now_ms) != version for key, version in mine.watched.items()
        )
        self._close(client)
        if mine.spoilt:
            raise InvalidRequest(f"Transaction discarded: {mine.spoilt}; nothing was changed")
        if is_changed:
            return Executed(None)
        trial = Trial(keyspace)
        for number, queued in enumerate(mine.queued, 1):
            try:
                queued.evaluate(trial, now_ms, limits)
            except RecordCorrupt:
                raise
            except CommandError as error:
                raise type(error)(
                    f"command {number} of the transaction: {error.message}; nothing was changed"
                ) from error
        return Executed(tuple([_told(queued, keyspace, now_ms, limits) for queued in mine.queued]))

    def discard(self, client: str) -> bool:
        """End a transaction; see Discard."""
        self._require_open(client)
        self._close(client)
        return True

    def watch(self, asked: Watch, keyspace: Keyspace, now_ms: int) -> bool:
        """Note the versions of keys; see Watch."""
        if not asked.keys:
            raise InvalidRequest("Keys list cannot be empty")
        for key in asked.keys:
            check_key(key)
        known = self._open.get(asked.client)
        watched = {} if known is None else known.watched
        new = [key for key in dict.fromkeys(asked.keys) if key not in watched]
        if len(watched) + len(new) > MAX_WATCHED_KEYS:
            raise InvalidRequest(f"a client watches at most {MAX_WATCHED_KEYS} keys")
        mine = self._touch(asked.client, asked.holder)
        size = _watched_bytes(new)
        try:
            self._hold(mine.holder, size)
        except ShareTaken:
            if known is None:
                self._close(asked.client)
            raise
        mine.held_bytes += size
        for key in new:
            mine.watched[key] = _version(keyspace, key, now_ms)
            self.watchers.setdefault(key, set()).add(asked.client)
        return True

    def unwatch(self, client: str) -> bool:
        """Forget what the client watches; see Unwatch."""
        mine = self._open.get(client)
        if mine is None:
            return True
        if mine.is_multi:
            self._forget_watched(client, self._seen(client, mine))
        else:
            self._close(client)
        return True

    def note(self, entries: Iterable[Entry]) -> None:
        """Learn of changes, so that those who watch their keys give up."""
        watchers = self.watchers
        for entry in entries:
            if entry.space != KEYS:
                continue
            if entry.operation in (SET, DEL):
                clients: Iterable[str] = watchers.get(entry.key, ())
            else:
                clients = [name for name, mine in self._open.items() if mine.watched]
            for name in clients:
                self._open[name].is_touched = True

    def end_idle(self) -> None:
        """End what belongs to clients that were not heard of for too long."""
        limit = self._clock() - self._timeout_seconds
        while self._open:
            name, mine = next(iter(self._open.items()))
            if mine.used_seconds > limit:
                return
            self._close(name)

    def turn_failed(self, commands: Iterable[Command | TransactionCommand]) -> None:
        """Learn that the changes of `commands` were undone and all of them told so.

        What was opened is closed; what was open before can't be carried out any more, because
        its client was told that a part of it failed.
        """
        for command in commands:
            name = getattr(command, "client", None)
            mine = None if name is None else self._open.get(name)
            if mine is None:
                continue
            if isinstance(command, Multi):
                self._close(command.client)
            else:
                mine.spoilt = "a part of it was refused"

    def _touch(self, name: str, holder: Holder) -> _Open:
        """Return what the client has open, which it may only just have begun."""
        mine = self._open.get(name)
        if mine is None:
            size = _CLIENT_BYTES + len(name)
            if not self._clients.take(holder, 1):
                raise ShareTaken("clients with something open", "in number", MAX_CLIENTS)
            try:
                self._hold(holder, size)
            except ShareTaken:
                self._clients.give_back(holder, 1)
                raise
            mine = _Open(holder, size)
        return self._seen(name, mine)

    def _seen(self, name: str, mine: _Open) -> _Open:
        """Note that the client was heard of just now."""
        self._open.pop(name, None)
        mine.used_seconds = self._clock()
        self._open[name] = mine
        return mine

    def _hold(self, holder: Holder, size: int) -> None:
        """Let somebody hold `size` bytes more.

        Raises:
            ShareTaken: that would be over their share.
        """
        if size and not self._bytes.take(holder, size):
            raise ShareTaken("open transactions and watched keys", "bytes", MAX_ALL_BYTES)

    def _close(self, name: str) -> None:
        mine = self._open.pop(name)
        self._forget_watched(name, mine)
        self._bytes.give_back(mine.holder, mine.held_bytes + mine.queued_bytes)
        self._clients.give_back(mine.holder, 1)

    def _forget_watched(self, name: str, mine: _Open) -> None:
        for key in mine.watched:
            clients = self.watchers[key]
            clients.discard(name)
            if not clients:
                del self.watchers[key]
        size = _watched_bytes(mine.watched)
        if size:
            self._bytes.give_back(mine.holder, size)
            mine.held_bytes -= size
        mine.watched.clear()
        mine.is_touched = False

    def _check(
        self, mine: _Open, command: Set | Delete | Increment, size: int, limits: Limits
    ) -> None:
        """Refuse what can never be carried out, or would be too much to keep."""
        for key in command.keys if isinstance(command, Delete) else (command.key,):
            check_key(key)
        if isinstance(command, Set):
            check_value(len(command.value), limits)
        if len(mine.queued) >= MAX_QUEUED_COMMANDS:
            raise InvalidRequest(f"a transaction holds at most {MAX_QUEUED_COMMANDS} commands")
        if mine.queued_bytes + size > MAX_QUEUED_BYTES:
            raise InvalidRequest(f"a transaction holds at most {MAX_QUEUED_BYTES} bytes")

    def _require_open(self, client: str) -> None:
        if not self.is_queueing(client):
            raise InvalidRequest("No transaction in progress")


def held_bytes(command: Set | Delete | Increment) -> int:
    """Return about what a queued command takes up."""
    objects = len(command.keys) if isinstance(command, Delete) else 2
    return command.size + _OBJECT_BYTES * (1 + objects)


def _watched_bytes(keys: Collection[bytes]) -> int:
    """Return about what watched keys take up."""
    return _WATCHED_KEY_BYTES * len(keys) + sum(map(len, keys))


def _told(
    command: Set | Delete | Increment, keyspace: Keyspace, now_ms: int, limits: Limits
) -> tuple[str, int]:
    result = command.evaluate(keyspace, now_ms, limits)
    if isinstance(result, SetResult):
        return "ok", int(result.written)
    return ("deleted" if isinstance(command, Delete) else "value"), result


def _version(keyspace: Keyspace, key: bytes, now_ms: int) -> int:
    record = live(keyspace, key, now_ms)
    return 0 if record is None else record.version
