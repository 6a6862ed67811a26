"""The writer: takes the commands of all HTTP workers and makes them one log.

One turn: everything that arrived becomes one LMDB transaction and one frame. Each command is
evaluated on the keys as the ones before it left them; the frame goes to the WAL, then the
transaction is committed, then the frame is published, then everybody is answered. There is no
timer: a turn takes what is there, so a single write does not wait and many share the cost.

The engine runs on one asyncio loop and never waits but for the disk. `workers/writer.py` is the
process around it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from synap.commands.keyspace import Limits
from synap.commands.slots import RECORDS
from synap.commands.transactions import Transactions
from synap.errors import (
    NO_LONGER_MASTER,
    DiskFull,
    LeaseLost,
    MemoryLimit,
    ReadOnlyReplica,
    Recovering,
    ReignEnded,
    WriteRefused,
    WriterUnavailable,
)
from synap.eviction.evictor import NOTHING, Evictor, Removal
from synap.frame import Cause
from synap.ipc.admin_messages import PauseCommand, PauseState
from synap.ipc.worker_connection import WriterConnection
from synap.node.data_dir import DataDir
from synap.shared.series import EVICTED, EXPIRED, Count
from synap.store import WriteTransaction
from synap.writer.inbox import Inbox
from synap.writer.lease import FOR_EVER_NS, Lease
from synap.writer.pause import Pause
from synap.writer.pause_handler import PauseHandler
from synap.writer.quorum_answers import Quorum, QuorumAnswers
from synap.writer.request_table import RequestLimits, RequestTable
from synap.writer.slot_guard import SlotGuard
from synap.writer.sweeper import Sweeper
from synap.writer.turn import Turn, TurnContext, TurnTaker, let_pass
from synap.writer.write_gate import Reason, WriteGate
from synap.writer.writer_status import FramePublisher, WriterStatus

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_DETAILS_EVERY_TICKS = 5
# Looks whether a full disk has room again.
_ROOM_EVERY_TICKS = 5
# Room that ends the refusal of writes: for the log and for the store, each, and so much that the
# next few writes don't begin it anew.
ROOM_TO_RESUME_BYTES = 4 * 1024 * 1024


class WriterOptions(msgspec.Struct, frozen=True):
    """How a writer works.

    Attributes:
        limits: What commands may do.
        turn_bytes: A turn stops collecting when its commands' values reach this.
        sweep_interval_ms: Time between two looks for expired keys.
        quorum: How many replicas a write waits for.
        transaction_timeout_seconds: Silence after which a client's transaction ends.
        requests: How many requests are remembered that may be sent again.
        hold_seconds: How long a write waits in a pause before it is refused; well below what
            HTTP workers wait for its answer.
        has_slots: Whether the cluster has some of the keys alone.
    """

    limits: Limits
    turn_bytes: int
    sweep_interval_ms: int
    quorum: Quorum = Quorum()
    transaction_timeout_seconds: float = 60.0
    requests: RequestLimits = RequestLimits()
    hold_seconds: float = 2.5
    has_slots: bool = False


class Writer:
    """The engine. All methods belong to the loop that `start` was called on.

    Attributes:
        transactions: What clients have open.
        requests: What bounds the records of requests that may be sent again.
    """

    def __init__(
        self,
        data_dir: DataDir,
        status: WriterStatus,
        options: WriterOptions,
        *,
        publisher: FramePublisher | None,
        evictor: Evictor | None,
        on_failure: Callable[[BaseException], None],
        count: Count,
        clock: Callable[[], float] = time.time,
        on_damage: Callable[[bytes], None] = let_pass,
        lease: Lease | None = None,
    ) -> None:
        """
        Args:
            on_damage: Told the key of a record that is damaged, or of which the index of deadlines
                says something else.
            data_dir: Open, and this process's own.
            status: Where the writer shows how it stands.
            options: How to work.
            publisher: Where frames go; None on a standalone node.
            evictor: Keeps the memory limit; None without one.
            on_failure: Called once when the writer can't go on: the process must end.
            count: Counts the keys that go by themselves.
            clock: Wall clock in seconds.
            lease: Until when writes may be taken; None for one without end.
        """
        self._lease = lease or Lease()
        self._alone_until_ns = 0
        self._data_dir = data_dir
        self._status = status
        self._publisher = publisher
        self._evictor = evictor
        self._on_failure = on_failure
        self._count = count
        self._clock = clock
        self._on_damage = on_damage
        self.transactions = Transactions(options.transaction_timeout_seconds, time.monotonic)
        self.requests = RequestTable(options.requests)
        self._slots = SlotGuard(has_slots=options.has_slots)
        self._has_slots = options.has_slots
        self._read_slots()
        self._held = QuorumAnswers(options.quorum, publisher)
        self._taker = TurnTaker(
            options.limits, self.transactions, self._held, evictor,
            min_replicas=options.quorum.min_replicas, turn_bytes=options.turn_bytes,
            requests=self.requests, on_damage=on_damage, slots=self._slots,
        )  # fmt: skip
        pause = Pause(options.hold_seconds)
        self._gate = WriteGate(
            pause, self._show, data_dir.node.identity.ended_by_epoch,
            lease=self._lease,
        )  # fmt: skip
        self._pauses = PauseHandler(
            pause, self._gate, data_dir, on_change=self._show, run_turn=self._run_turn
        )
        self._sweeper = Sweeper(
            data_dir, self._gate, evictor, remove=self._commit_turn,
            forget=self._forget_requests, on_failure=self._fail,
            interval_ms=options.sweep_interval_ms, clock=clock,
        )  # fmt: skip
        self._inbox = Inbox(self._run_turn, lambda: data_dir.reigns.history)
        # A reign is to begin: on a log that lost its end, after its replicas were heard.
        self._begins_reign = publisher is not None and not data_dir.is_recovering
        if data_dir.is_recovering:
            self._gate.refuse(self._waiting())
        self._has_failed = False
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None

    async def start(self, socket_path: Path) -> None:
        """Listen for HTTP workers and begin to sweep and to tick."""
        self._loop = asyncio.get_running_loop()
        socket_path.unlink(missing_ok=True)
        self._server = await self._loop.create_unix_server(
            lambda: WriterConnection(self._inbox), str(socket_path)
        )
        if not self._gate.ended_by_epoch:
            self._begin_reign()
        self._tick()
        self._sweeper.start()

    async def stop(self) -> None:
        """Take no new commands, carry out those that arrived, answer, and end."""
        if self._server is None:
            return
        self._server.close()
        if self._gate.heir_url:
            self._refuse_pending(ReadOnlyReplica(NO_LONGER_MASTER))
        while self._inbox.pending.is_ready and not self._has_failed:
            self._take_turn()
        if not self._has_failed:
            # Whoever does not even read gets no more done.
            self._refuse_pending(WriterUnavailable())
        self._held.close()
        self._sweeper.stop()
        self._pauses.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._inbox.close()
        await asyncio.sleep(0)
        self._show()

    def end_reign(self, epoch: int, heir_url: str = "") -> None:
        """Take no writes any more, for good: `epoch` reigns in this master's place.

        Args:
            heir_url: Where clients reach its master; empty where that is unknown.
        """
        if epoch <= self._gate.ended_by_epoch:
            if heir_url and epoch == self._gate.ended_by_epoch:
                self._gate.end_reign(epoch, heir_url)
            return
        logger.error(
            "writes are refused: %s", ReignEnded(epoch),
            extra={"action": "stale_epoch", "epoch": epoch},
        )  # fmt: skip
        self._gate.end_reign(epoch, heir_url)
        self._note_end()

    def end_recovery(self) -> None:
        """Begin a reign and take writes: whoever may hold what the log had lost was asked."""
        if self._gate.ended_by_epoch:
            return
        self._begins_reign = True
        self._begin_reign()

    def _begin_reign(self) -> None:
        """Begin what is to begin; where there is no room, the next tick tries."""
        if not self._begins_reign:
            return
        data_dir = self._data_dir
        try:
            if data_dir.is_recovering:
                reign = data_dir.begin_reign()
                logger.warning(
                    "epoch %d begins after offset %d", reign.epoch, data_dir.position.offset,
                    extra={"action": "recovered", "epoch": reign.epoch},
                )  # fmt: skip
            frame = data_dir.mark_reign(int(self._clock() * 1000))
        except (DiskFull, MemoryLimit) as error:
            self._gate.refuse(error)
            return
        except Exception as error:
            self._fail(error)
            return
        self._begins_reign = False
        if frame is not None and self._publisher is not None:
            self._publisher.publish(frame)
        self._gate.lift(Reason.RECOVERING)

    def _waiting(self) -> Recovering:
        awaited = self._publisher.awaited() if self._publisher is not None else ()
        names = ", ".join(f"{each.id} ({each.note})" if each.note else each.id for each in awaited)
        return Recovering(names or "its replicas")

    def _note_end(self) -> None:
        """Make it durable that the reign has ended; where the disk refuses, the next tick tries."""
        try:
            self._data_dir.node.end_reign(self._gate.ended_by_epoch)
        except (DiskFull, OSError) as error:
            logger.error("%s", error, extra={"action": "stale_epoch"})

    def handle_pause(self, command: PauseCommand) -> PauseState:
        """Pause the writes, end a pause, or give up the reign in one.

        Raises:
            ReignEnded: this master takes no writes as it is.
            NotPaused: it can't step down so.
        """
        return self._pauses.handle(command)

    def refuse(self, error: WriteRefused) -> None:
        """Take no writes any more, for `error`."""
        self._gate.refuse(error)

    def look_at_acks(self) -> None:
        """Send the answers for which enough replicas have acknowledged by now.

        Without a lease none is sent: they end as late ones do.
        """
        if not self._lease.is_over():
            self._held.look_at_acks()

    def grant(self, until_ns: int, alone_until_ns: int) -> None:
        """Take writes until then (CLOCK_BOOTTIME); 0 takes a lease away.

        Args:
            until_ns: For writes.
            alone_until_ns: Until when no other node can be the master, for strong reads.

        Raises:
            ReignEnded: this master takes none whatever its lease.
        """
        if self._gate.ended_by_epoch and until_ns:
            raise ReignEnded(self._gate.ended_by_epoch)
        had_none = self._lease.is_over()
        self._lease.until_ns = until_ns
        self._alone_until_ns = alone_until_ns
        if had_none != self._lease.is_over():
            self.look_at_acks()
        # Before the agent goes on: what it takes away, it may give to another node.
        self._show()

    def _run_turn(self) -> None:
        inbox = self._inbox
        inbox.begin_turn()
        if not inbox.pending.is_ready or self._has_failed or self._gate.is_holding():
            return
        self._take_turn()
        inbox.end_turn()

    def _take_turn(self) -> None:
        refusal = self._gate.refusal()
        if refusal is not None:
            self._refuse_pending(refusal)
            return
        now_ms = int(self._clock() * 1000)
        turn = Turn()
        try:
            self._change(turn, now_ms)
        except (DiskFull, MemoryLimit) as error:
            if not turn.shares:
                turn.take_all(self._inbox.pending)
            turn.fail(self._data_dir.position.offset, error)
            self.transactions.turn_failed(turn.commands())
            self.requests.turn_failed()
            self._read_slots()
            self._gate.refuse(error)
        except Exception as error:
            self._fail(error)
            return
        if self._lease.is_over():
            # Another master may have answered meanwhile; what became of these writes nobody knows.
            self._fail(LeaseLost())
            return
        if turn.held:
            self._held.hold(turn.held)
        turn.send()

    def _read_slots(self) -> None:
        if self._has_slots:
            self._slots.read(self._data_dir.store.reader().list_accounts(RECORDS)[0])

    def _refuse_pending(self, error: WriteRefused) -> None:
        turn = Turn()
        turn.take_all(self._inbox.pending)
        turn.fail(self._data_dir.position.offset, error)
        turn.send()

    def _change(self, turn: Turn, now_ms: int) -> None:
        """Carry out what is pending, log it, and show it to readers."""
        self.requests.begin_turn()
        evictor = self._evictor
        removal = NOTHING
        self._data_dir.replay_rest()
        if evictor is not None and evictor.is_tight:
            removal = evictor.before_turn(now_ms)
        before = self._data_dir.position.offset

        def take(transaction: WriteTransaction) -> int:
            self._taker.take(self._inbox.pending, TurnContext(turn, transaction, now_ms, before))
            return turn.value_bytes

        self._commit_turn(removal, now_ms, take)
        if evictor is not None and (evictor.is_refusing or self._gate.has_reasons):
            self._gate.show_memory(evictor.is_refusing)

    def _commit_turn(
        self, removal: Removal, now_ms: int, take: Callable[[WriteTransaction], int] | None = None
    ) -> None:
        """Carry out a removal and then what `take` takes, log both, and show them to readers.

        Args:
            removal: Keys that go first.
            now_ms: Wall clock.
            take: Carries out what else the transaction is to hold, and returns its values' bytes;
                None for nothing.
        """
        transaction = self._data_dir.store.begin(self._data_dir.reigns)
        try:
            expired, evicted = self._remove(transaction, removal, now_ms) if removal else (0, 0)
            value_bytes = take(transaction) if take is not None else 0
        except BaseException:
            transaction.abort()
            raise
        self._end(transaction, now_ms)
        if removal:
            self._count(EXPIRED, expired)
            self._count(EVICTED, evicted)
        if self._evictor is not None:
            self._evictor.after_turn(transaction.effects, value_bytes)

    def _forget_requests(self, now_ms: int) -> bool:
        """Remove the records of requests whose time is over; return whether to go on at once."""
        table = self.requests
        due = table.look(self._data_dir.store, now_ms)
        if due:

            def take(transaction: WriteTransaction) -> int:
                table.remove(transaction, due)
                return 0

            self._commit_turn(NOTHING, now_ms, take)
            table.removed(due)
        return not table.is_counted

    def _end_freezes(self) -> None:
        """End the freezes of slots whose movers are gone."""
        if not self._slots.has_lapsed or self._gate.refusal() is not None or self._has_failed:
            return
        now_ms = int(self._clock() * 1000)

        def take(transaction: WriteTransaction) -> int:
            self._slots.thaw_lapsed(transaction, now_ms)
            return 0

        try:
            self._data_dir.replay_rest()
            self._commit_turn(NOTHING, now_ms, take)
        except (DiskFull, MemoryLimit) as error:
            self._read_slots()
            self._gate.refuse(error)
        except Exception as error:
            self._fail(error)

    def _remove(
        self, transaction: WriteTransaction, removal: Removal, now_ms: int
    ) -> tuple[int, int]:
        """Remove keys as a DEL entry each; return how many expired and evicted ones were there."""
        for key in removal.expired:
            if not transaction.remove_expired(key, now_ms):
                self._on_damage(key)
        before = len(transaction.effects)
        for key in removal.evicted:
            transaction.remove(key, Cause.EVICTED)
        if self.transactions.watchers:
            self.transactions.note(transaction.entries)
        return before, len(transaction.effects) - before

    def _end(self, transaction: WriteTransaction, now_ms: int) -> None:
        if not transaction.effects:
            transaction.abort()
            return
        frame = self._data_dir.commit(transaction, now_ms)
        if self._publisher is not None:
            self._publisher.publish(frame)
        # Room for this one is no room for the next: a full disk is looked at by `_tick`.
        is_refusing = self._evictor is not None and self._evictor.is_refusing
        if self._gate.has_reasons and not is_refusing:
            self._gate.lift(Reason.MEMORY_LIMIT)

    def _fail(self, error: BaseException) -> None:
        self._has_failed = True
        self._sweeper.stop()
        self._inbox.close()
        self._on_failure(error)

    def show_details(self) -> None:
        """Show what the status endpoints tell, which is shown every second anyway."""
        self._status.show_details(self.requests.entries, self.requests.held_bytes)

    def _tick(self) -> None:
        self.transactions.end_idle()
        if self._ticks % _DETAILS_EVERY_TICKS == 0:
            self.show_details()
        if self._ticks % _ROOM_EVERY_TICKS == 0 and self._gate.shown() is Reason.DISK_FULL:
            self._look_for_room()
        self._ticks += 1
        self._end_freezes()
        if self._gate.ended_by_epoch:
            self._note_end()
        elif self._begins_reign:
            self._begin_reign()
        elif self._data_dir.is_recovering:
            self._gate.refuse(self._waiting())
        self._show()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    def _look_for_room(self) -> None:
        """End the refusal for a full disk where there is room again, before any client tries."""
        try:
            if self._data_dir.has_room(ROOM_TO_RESUME_BYTES):
                self._data_dir.replay_rest()
                self._gate.lift(Reason.DISK_FULL)
        except (DiskFull, MemoryLimit) as error:
            self._gate.refuse(error)
        except Exception as error:
            self._fail(error)

    def _show(self) -> None:
        reason = self._gate.shown()
        until_ns = self._lease.until_ns
        self._status.show(
            "" if reason is None else reason.error.reason,
            self._gate.heir_url,
            0 if until_ns == FOR_EVER_NS else max(until_ns, 1),
            self._alone_until_ns,
        )
