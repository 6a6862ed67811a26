"""One turn of the writer: what it takes of what the HTTP workers sent, and what it answers.

A turn takes whole shares of its connections as far as its bounds go and carries them out in their
order on one transaction. Mostly they are plain Sets, and those are carried out together, because
each on its own would cost twice as much. What the changes lead to (log, store, stream) is
`synap.writer.writer`'s business, and when answers that wait for replicas leave is
`quorum_answers`'.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from synap.commands.commands import Command
from synap.commands.confirm import Confirm
from synap.commands.keyspace import Limits
from synap.commands.once import Once, record_of, replayed
from synap.commands.records import NEVER, Record
from synap.commands.slots import BringRequests, ChangeSlot, slot_record
from synap.commands.strings import Set, SetResult
from synap.commands.transactions import TransactionCommand, Transactions
from synap.commands.txn import TxnResult
from synap.errors import MemoryLimit, SynapError, WriterUnavailable
from synap.eviction.evictor import Evictor
from synap.ipc.messages import Answer, Request, encode, failure
from synap.ipc.worker_connection import WriterConnection
from synap.request_errors import CommandError, RecordCorrupt
from synap.store import WriteTransaction
from synap.writer.quorum_answers import Held, QuorumAnswers
from synap.writer.request_table import RequestLimits, RequestTable
from synap.writer.slot_guard import SlotGuard

# Bounds of one turn, which holds up heartbeats and acks. The count is for plain Sets; what else a
# command costs its bytes don't tell, so the time counts for all others.
MAX_TURN_COMMANDS = 4096
MAX_TURN_SECONDS = 0.05
# Answers that wait for replicas. Beyond it a write that would wait is refused before it is logged.
MAX_WAITING_ANSWERS = 65_536
_TOO_MANY = (
    f"{MAX_WAITING_ANSWERS} writes wait for replicas to have them; nothing was changed, try again"
)


def let_pass(key: bytes) -> None:
    """Leave damage to whoever reads the record next."""


class Share:
    """What a turn took from one connection.

    Attributes:
        connection: Where it came from.
        requests: In order.
        tried: How many of them were carried out, or failed.
        answers: Those that leave when the turn is over; others wait for replicas.
    """

    __slots__ = ("answers", "connection", "requests", "tried")

    def __init__(self, connection: WriterConnection, requests: list[Request]) -> None:
        self.connection = connection
        self.requests = requests
        self.tried = 0
        self.answers: list[Answer] = []


class Pending:
    """Requests that arrived and that no turn has taken. Its length is their number.

    Those of one connection stay in their order.

    Those of a connection that does not read its answers wait until it does: one turn after the
    other would make more of them.
    """

    __slots__ = ("_count", "_parts")

    def __init__(self) -> None:
        self._count = 0
        self._parts: deque[tuple[WriterConnection, list[Request]]] = deque()

    def __len__(self) -> int:
        return self._count

    def add(self, connection: WriterConnection, requests: list[Request]) -> None:
        """Put `requests`, a list of this one's own from now on, after the others."""
        self._count += len(requests)
        if self._parts and self._parts[-1][0] is connection:
            self._parts[-1][1].extend(requests)
        else:
            self._parts.append((connection, requests))

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take."""
        parts = self._parts
        # The first one, mostly.
        if parts and not parts[0][0].is_full:
            return True
        return any(not connection.is_full for connection, _ in parts)

    def take(self, limit: int) -> Share | None:
        """Return up to `limit` requests of the first connection that reads; None without one."""
        parts = self._parts
        at: int | None = 0
        if not parts:
            return None
        if parts[0][0].is_full:
            ready = (at for at, (connection, _) in enumerate(parts) if not connection.is_full)
            at = next(ready, None)
        if at is None:
            return None
        connection, requests = parts[at]
        del parts[at]
        if len(requests) > limit:
            parts.insert(at, (connection, requests[limit:]))
            requests = requests[:limit]
        self._count -= len(requests)
        return Share(connection, requests)

    def take_all(self) -> list[Share]:
        """Return everything, also that of connections that don't read."""
        shares = [Share(connection, requests) for connection, requests in self._parts]
        self._parts.clear()
        self._count = 0
        return shares

    def take_back(self, share: Share) -> None:
        """Put what of a share was not tried behind what other connections wait for.

        It filled a turn, and may go on for many: a thousand deadlines for a large value do.
        """
        rest = share.requests[share.tried :]
        if not rest:
            return
        del share.requests[share.tried :]
        self._count += len(rest)
        connection, others = share.connection, deque[tuple[WriterConnection, list[Request]]]()
        for part in self._parts:
            if part[0] is connection:
                rest += part[1]
            else:
                others.append(part)
        others.append((connection, rest))
        self._parts = others


class Turn:
    """What one turn took.

    Attributes:
        shares: In the order in which they were carried out.
        held: Answers that wait for replicas.
        value_bytes: Bytes of the values that it wrote.
        answer_bytes: Bytes of the values that its answers tell.
    """

    __slots__ = ("answer_bytes", "held", "shares", "value_bytes")

    def __init__(self) -> None:
        self.shares: list[Share] = []
        self.held: list[Held] = []
        self.value_bytes = 0
        self.answer_bytes = 0

    def take_all(self, pending: Pending) -> None:
        """Take all that is pending, without carrying it out."""
        self.shares += pending.take_all()

    def commands(self) -> Iterator[Command | TransactionCommand]:
        """Yield what was asked for."""
        for share in self.shares:
            for request in share.requests:
                command = request.command
                yield command.command if isinstance(command, Once) else command

    def fail(self, offset: int, error: SynapError) -> None:
        """Answer everything by `error`: the turn changed nothing."""
        self.held.clear()
        for share in self.shares:
            share.answers = [failure(request.id, offset, error) for request in share.requests]

    def send(self) -> None:
        """Send the answers that wait for nothing, those of a share in one message."""
        for share in self.shares:
            if share.answers:
                share.connection.send(encode(share.answers))


class TurnContext:
    """What all of one turn's commands are carried out with.

    Attributes:
        turn: Gets what was taken, and its answers.
        transaction: Gets the changes; may have some already.
        now_ms: Wall clock.
        before: Where the log ends, before all of the transaction's changes.
    """

    __slots__ = ("before", "now_ms", "transaction", "turn")

    def __init__(self, turn: Turn, transaction: WriteTransaction, now_ms: int, before: int) -> None:
        self.turn = turn
        self.transaction = transaction
        self.now_ms = now_ms
        self.before = before


class TurnTaker:
    """Carries out what is pending, a turn's worth at a time."""

    def __init__(
        self,
        limits: Limits,
        transactions: Transactions,
        held: QuorumAnswers,
        evictor: Evictor | None,
        *,
        min_replicas: int,
        turn_bytes: int,
        requests: RequestTable | None = None,
        on_damage: Callable[[bytes], None] = let_pass,
        slots: SlotGuard | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            slots: Knows which slots take no writes; None where there are none.
            on_damage: Told the key of a record that a command found damaged.
            limits: What commands may do.
            transactions: What clients have open.
            held: The answers that wait for replicas already.
            evictor: Keeps the memory limit; None without one.
            min_replicas: What every write waits for; a request may ask for more.
            turn_bytes: A turn stops taking when its commands' values, or those that its answers
                tell, reach this.
            requests: Bounds what is remembered of requests that may come again.
            clock: Seconds, monotonic.
        """
        self._limits = limits
        self._transactions = transactions
        self._held = held
        self._evictor = evictor
        self._min_replicas = min_replicas
        self._turn_bytes = turn_bytes
        self._requests = requests or RequestTable(RequestLimits())
        self._slots = slots or SlotGuard()
        self._clock = clock
        self._deadline = 0.0
        self._on_damage = on_damage

    def take(self, pending: Pending, context: TurnContext) -> None:
        """Move requests from `pending` to the turn, up to its bounds, and carry them out.

        Raises:
            MemoryLimit: there is no room; the turn has what was tried, and the rest is pending.
        """
        turn = context.turn
        left = MAX_TURN_COMMANDS
        self._deadline = self._clock() + MAX_TURN_SECONDS
        while left and not self._is_over(turn) and (share := pending.take(left)) is not None:
            turn.shares.append(share)
            try:
                self._carry_out(share, context)
            finally:
                left -= share.tried
                pending.take_back(share)

    def _carry_out(self, share: Share, context: TurnContext) -> None:
        requests, turn = share.requests, context.turn
        evictor = self._evictor
        is_refusing = evictor is not None and evictor.is_refusing
        if self._slots.closed:
            self._slots.forget_old()
        takes_plain = not (is_refusing or self._min_replicas)
        while share.tried < len(requests) and not self._is_over(turn):
            at = share.tried
            # Looked at each time: a slot may be closed by the request before.
            has_plain = takes_plain and not self._slots.closed
            pairs = self._plain_pairs(requests, at, turn) if has_plain else []
            if pairs:
                share.tried += len(pairs)
                self._put(requests[at : share.tried], pairs, share, context.transaction)
            else:
                share.tried += 1
                request = requests[at]
                if isinstance(request.command, Once):
                    self._evaluate_once(request, request.command, share, context, has_plain)
                elif isinstance(request.command, BringRequests):
                    self._bring(request, request.command, share, context)
                else:
                    self._evaluate(request, request.command, share, context)

    def _is_over(self, turn: Turn) -> bool:
        is_full = turn.value_bytes >= self._turn_bytes or turn.answer_bytes >= self._turn_bytes
        return is_full or self._clock() >= self._deadline

    def _plain_pairs(
        self, requests: list[Request], at: int, turn: Turn
    ) -> list[tuple[bytes, bytes]]:
        """Return keys and values of the Sets from `at` on, up to what is no plain one."""
        limits = self._limits
        value_bytes = turn.value_bytes
        pairs: list[tuple[bytes, bytes]] = []
        for request in islice(requests, at, None):
            command = request.command
            if type(command) is not Set or request.min_replicas or not command.is_plain(limits):
                break
            value = command.value
            pairs.append((command.key, value))
            value_bytes += len(value)
            if value_bytes >= self._turn_bytes:
                break
        turn.value_bytes = value_bytes
        return pairs

    def _put(
        self,
        requests: list[Request],
        pairs: list[tuple[bytes, bytes]],
        share: Share,
        transaction: WriteTransaction,
    ) -> None:
        seen = len(transaction.effects)
        version = transaction.put_all(pairs)
        first, count = requests[0].id, len(requests)
        if requests[-1].id - first == count - 1:
            # Numbers grow, so none is missing: one answer tells of all.
            result = SetResult(True, version)
            share.answers.append(Answer(first, version, result, count=count))
        else:
            share.answers += [
                Answer(request.id, offset, SetResult(True, offset))
                for offset, request in enumerate(requests, version)
            ]
        if self._transactions.watchers:
            self._transactions.note(transaction.entries_since(seen))

    def _evaluate_once(
        self,
        request: Request,
        once: Once,
        share: Share,
        context: TurnContext,
        has_plain: bool,
    ) -> None:
        """Carry out a request that may have come before, or tell again what that came to.

        Args:
            has_plain: Whether plain Sets are refused by nothing and wait for nothing.
        """
        transaction, now_ms = context.transaction, context.now_ms
        try:
            stored = transaction.get_request(once.key)
            record = record_of(stored, once, now_ms)
            if record is None:
                self._requests.require_room(once)
        except CommandError as error:
            if isinstance(error, RecordCorrupt):
                self._on_damage(error.key)
            offset = context.before + len(transaction.effects)
            share.answers.append(failure(request.id, offset, error))
            return
        if stored is None or record is None:
            command = once.command
            can_be_plain = has_plain and not request.min_replicas
            if can_be_plain and type(command) is Set and command.is_plain(self._limits):
                self._put_once(request, once, command, share, context, stored)
            else:
                self._evaluate(request, command, share, context, once, stored)
            return
        result = replayed(record, stored.version)
        context.turn.answer_bytes += len(record.result)
        answer = Answer(request.id, stored.version, result)
        wanted = max(request.min_replicas, self._min_replicas, record.replicas)
        if wanted and not self._held.is_held(stored.version, wanted):
            context.turn.held.append((share.connection, answer, wanted))
        else:
            share.answers.append(answer)

    def _put_once(
        self,
        request: Request,
        once: Once,
        command: Set,
        share: Share,
        context: TurnContext,
        stored: Record | None,
    ) -> None:
        """Do what `_evaluate` does with a plain Set, for less."""
        transaction, effects = context.transaction, context.transaction.effects
        seen = len(effects)
        result = SetResult(True, transaction.put(command.key, command.value, NEVER))
        self._requests.remember(
            transaction, once, context.now_ms, old=stored, replicas=0,
            has_changed=True, result=result, slot=self._slots.slot_of((command,)),
        )  # fmt: skip
        context.turn.value_bytes += len(command.value)
        if self._transactions.watchers:
            self._transactions.note(transaction.entries_since(seen))
        share.answers.append(Answer(request.id, context.before + len(effects), result))

    def _evaluate(
        self,
        request: Request,
        command: Command | TransactionCommand,
        share: Share,
        context: TurnContext,
        once: Once | None = None,
        stored: Record | None = None,
    ) -> None:
        """Carry out a command.

        Args:
            once: What it came in, where it is to be remembered.
            stored: What is remembered at its key, and is out of time.
        """
        turn, transaction = context.turn, context.transaction
        transactions, effects = self._transactions, transaction.effects
        seen = len(effects)
        writes = transactions.carried_out(command)
        wanted = max(request.min_replicas, self._min_replicas) if writes else 0
        error: SynapError | None
        try:
            error = self._refusal(writes, wanted, context)
            if error is None:
                result = transactions.evaluate(command, transaction, context.now_ms, self._limits)
        except CommandError as raised:
            error = raised
            if isinstance(raised, RecordCorrupt):
                self._on_damage(raised.key)
        offset = context.before + len(effects)
        if type(command) is ChangeSlot and error is None:
            record = transaction.get_account(slot_record(command.slot))
            self._slots.note(command.slot, record)
        if error is not None:
            share.answers.append(failure(request.id, offset, error))
            return
        if once is not None and not once.fails(result):
            self._requests.remember(
                transaction, once, context.now_ms, old=stored, replicas=wanted,
                has_changed=len(effects) > seen, result=result, slot=self._slots.slot_of(writes),
            )  # fmt: skip
            offset = context.before + len(effects)
        entries = transaction.entries_since(seen)
        turn.value_bytes += sum([len(entry.value) for entry in entries])
        if transactions.watchers:
            transactions.note(entries)
        turn.answer_bytes += _told_bytes(result)
        answer = Answer(request.id, offset, result)
        if wanted and not self._is_held(command, wanted):
            turn.held.append((share.connection, answer, wanted))
        else:
            share.answers.append(answer)

    def _bring(
        self, request: Request, command: BringRequests, share: Share, context: TurnContext
    ) -> None:
        """Carry out what remembers requests of another cluster's, and count them."""
        transaction = context.transaction
        seen = len(transaction.effects)
        try:
            found = [(key, transaction.get_request(key)) for key, _, _ in command.records]
        except RecordCorrupt as error:
            self._on_damage(error.key)
            share.answers.append(failure(request.id, context.before + seen, error))
            return
        old = {key: stored.value for key, stored in found if stored is not None}
        self._evaluate(request, command, share, context)
        for entry in transaction.entries_since(seen):
            self._requests.brought(entry.key, old.get(entry.key), entry.value)
            old[entry.key] = entry.value

    def _is_held(self, command: Command | TransactionCommand, wanted: int) -> bool:
        """Say whether a command asks for what `wanted` replicas hold already."""
        return isinstance(command, Confirm) and self._held.is_held(command.offset, wanted)

    def _refusal(
        self, writes: Sequence[Command], wanted: int, context: TurnContext
    ) -> SynapError | None:
        """Return why a request is not even tried.

        Args:
            writes: What it would carry out.
            wanted: Replicas that its answer would wait for.
        """
        evictor = self._evictor
        if evictor is not None and evictor.is_refusing:
            for command in writes:
                if evictor.refuses(command, context.transaction, context.now_ms, self._limits):
                    return MemoryLimit()
        if self._slots.closed:
            refused = self._slots.refusal(writes)
            if refused is not None:
                return refused
        if wanted and len(self._held) + len(context.turn.held) >= MAX_WAITING_ANSWERS:
            return WriterUnavailable(_TOO_MANY)
        return None


def _told_bytes(result: object) -> int:
    """Return the bytes of the values that an answer tells."""
    if isinstance(result, TxnResult):
        return result.value_bytes
    old = result.old if isinstance(result, SetResult) else result
    return len(old) if isinstance(old, bytes) else 0
