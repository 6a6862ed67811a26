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

from synap.commands.commands import Limits
from synap.commands.transactions import Transactions
from synap.errors import (
    NO_LONGER_MASTER,
    DiskFull,
    MemoryLimit,
    NotPaused,
    ReadOnlyReplica,
    ReignEnded,
    WriteRefused,
    WritesPaused,
)
from synap.eviction.evictor import NOTHING, Evictor, Removal
from synap.ipc.admin_messages import PauseCommand, PauseState, PauseWrites, StepDown
from synap.ipc.messages import Request
from synap.ipc.worker_connection import WriterConnection
from synap.node.data_dir import DataDir
from synap.shared.board import Board, BoardView, SnapshotFacts
from synap.store import WriteTransaction
from synap.writer.pause import Pause
from synap.writer.quorum_answers import Quorum, QuorumAnswers
from synap.writer.turn import Pending, Turn, TurnTaker
from synap.writer.writer_status import FramePublisher, WriterStatus

logger = logging.getLogger(__name__)

# Above this many waiting commands the workers are not read from, so that theirs wait with them.
MAX_PENDING_COMMANDS = 16_384
# Expired keys are removed at most so many at a time; clients' writes go between.
SWEEP_KEYS = 1000
_TICK_SECONDS = 0.1
_DETAILS_EVERY_TICKS = 5
# Looks whether a full disk has room again.
_ROOM_EVERY_TICKS = 5
# Room that ends the refusal of writes: for the log and for the store, each, and so much that the
# next few writes don't begin it anew.
ROOM_TO_RESUME_BYTES = 4 * 1024 * 1024


class Writer:
    """The engine. All methods belong to the loop that `start` was called on.

    Attributes:
        transactions: What clients have open.
    """

    def __init__(
        self,
        data_dir: DataDir,
        board: Board,
        limits: Limits,
        *,
        publisher: FramePublisher | None,
        turn_bytes: int,
        sweep_interval_ms: int,
        view: BoardView,
        on_failure: Callable[[BaseException], None],
        evictor: Evictor | None = None,
        snapshots: Callable[[], SnapshotFacts] = SnapshotFacts,
        quorum: Quorum = Quorum(),  # noqa: B008 - it is frozen
        transaction_timeout_seconds: float = 60.0,
        hold_seconds: float = 2.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            data_dir: Open, and this process's own.
            board: Where the writer shows how it stands.
            limits: What commands may do.
            publisher: Where frames go; None on a standalone node.
            turn_bytes: A turn stops collecting when its commands' values reach this.
            sweep_interval_ms: Time between two looks for expired keys.
            view: What the board says beyond what the writer itself knows: role, owner, URL.
            on_failure: Called once when the writer can't go on: the process must end.
            evictor: Keeps the memory limit; None without one.
            snapshots: Tells how the node's snapshots stand.
            quorum: How many replicas a write waits for.
            transaction_timeout_seconds: Silence after which a client's transaction ends.
            hold_seconds: How long a write waits in a pause before it is refused; well below what
                HTTP workers wait for its answer.
            clock: Wall clock in seconds.
        """
        self._data_dir = data_dir
        self._publisher = publisher
        self._sweep_interval_seconds = sweep_interval_ms / 1000
        self._on_failure = on_failure
        self._evictor = evictor
        self.transactions = Transactions(transaction_timeout_seconds, time.monotonic)
        self._held = QuorumAnswers(quorum, publisher)
        self._taker = TurnTaker(
            limits, self.transactions, self._held, evictor,
            min_replicas=quorum.min_replicas, turn_bytes=turn_bytes,
        )  # fmt: skip
        self._status = WriterStatus(board, data_dir, view, publisher, evictor, snapshots)
        self._ended_by_epoch = data_dir.node.identity.ended_by_epoch
        self._pause = Pause(hold_seconds)
        self._heir_url = ""
        self._clock = clock
        self._pending = Pending()
        self._connections: set[WriterConnection] = set()
        self._is_turn_due = False
        self._is_reading_paused = False
        self._has_failed = False
        self._read_only = ReignEnded.reason if self._ended_by_epoch else ""
        self._ticks = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._server: asyncio.Server | None = None

    async def start(self, socket_path: Path) -> None:
        """Listen for HTTP workers and begin to sweep and to tick."""
        self._loop = asyncio.get_running_loop()
        socket_path.unlink(missing_ok=True)
        self._server = await self._loop.create_unix_server(
            lambda: WriterConnection(self), str(socket_path)
        )
        self._tick()
        self._sweep()

    async def stop(self) -> None:
        """Take no new commands, carry out those that arrived, answer, and end."""
        if self._server is None:
            return
        self._server.close()
        if self._heir_url:
            self._refuse_pending(ReadOnlyReplica(NO_LONGER_MASTER))
        while self._pending and not self._has_failed:
            self._take_turn()
        self._held.close()
        for timer in self._timers.values():
            timer.cancel()
        for connection in tuple(self._connections):
            connection.close()
        await asyncio.sleep(0)
        self._show()

    def end_reign(self, epoch: int) -> None:
        """Take no writes any more, for good: `epoch` reigns in this master's place."""
        if epoch <= self._ended_by_epoch:
            return
        self._ended_by_epoch = epoch
        self._note_end()
        self._read_only = ReignEnded.reason
        logger.error(
            "writes are refused: %s", ReignEnded(epoch),
            extra={"action": "stale_epoch", "epoch": epoch},
        )  # fmt: skip
        self._show()

    def _note_end(self) -> None:
        """Make it durable that the reign has ended; where the disk refuses, the next tick tries."""
        try:
            self._data_dir.node.end_reign(self._ended_by_epoch)
        except (DiskFull, OSError) as error:
            logger.error("%s", error, extra={"action": "stale_epoch"})

    def handle_pause(self, command: PauseCommand) -> PauseState:
        """Pause the writes, end a pause, or give up the reign in one.

        Raises:
            ReignEnded: this master takes no writes as it is.
            NotPaused: it can't step down so.
        """
        now = self._loop.time()
        reign = self._data_dir.node.reign
        assert reign is not None, "a node without a reign has no writer"
        if isinstance(command, PauseWrites):
            self._begin_pause(now, command.seconds)
        elif isinstance(command, StepDown):
            self._step_down(now, command, reign.epoch + 1)
        else:
            self._end_pause()
        left = max(0.0, self._pause.ends_at - now)
        return PauseState(self._data_dir.position.offset, reign.epoch, left)

    def _begin_pause(self, now: float, seconds: float) -> None:
        if self._ended_by_epoch:
            raise ReignEnded(self._ended_by_epoch)
        self._pause.begin(now, seconds)
        for name, moment, then in (
            ("pause", self._pause.ends_at, self._end_pause),
            ("hold", self._pause.holds_until, self._end_hold),
        ):
            if name in self._timers:
                self._timers[name].cancel()
            self._timers[name] = self._loop.call_at(moment, then)
        logger.warning(
            "writes pause for %g s at most, at offset %d", seconds, self._data_dir.position.offset,
            extra={"action": "writes_paused"},
        )  # fmt: skip
        self._show()

    def _end_hold(self) -> None:
        self._pause.end_hold()
        self._run_turn()

    def _end_pause(self) -> None:
        self._pause.end()
        logger.warning("writes no longer pause", extra={"action": "writes_resumed"})
        self._show()
        self._run_turn()

    def _step_down(self, now: float, command: StepDown, epoch: int) -> None:
        offset, held = command.offset, self._data_dir.position.offset
        if not self._pause.is_on(now) or offset != held:
            raise NotPaused(
                f"writes do not pause at offset {offset} (the log ends at {held}); nothing was "
                "changed, pause them first"
            )
        if not self._ended_by_epoch:
            self._data_dir.node.end_reign(epoch)
            self._ended_by_epoch = epoch
            self._read_only = ReignEnded.reason
            self._heir_url = command.heir_url
            logger.warning(
                "this master steps down at offset %d, for epoch %d", offset, epoch,
                extra={"action": "stepped_down", "epoch": epoch, "offset": offset},
            )  # fmt: skip
            self._show()

    def look_at_acks(self) -> None:
        """Send the answers for which enough replicas have acknowledged by now."""
        self._held.look_at_acks()

    def connected(self, connection: WriterConnection) -> None:
        self._connections.add(connection)
        if self._is_reading_paused:
            connection.pause_reading()

    def disconnected(self, connection: WriterConnection) -> None:
        self._connections.discard(connection)

    def submit(self, connection: WriterConnection, requests: list[Request]) -> None:
        """Take requests for the next turn, which carries them out in their order."""
        self._pending.add(connection, requests)
        if not self._is_turn_due:
            self._is_turn_due = True
            self._loop.call_soon(self._run_turn)
        if len(self._pending) > MAX_PENDING_COMMANDS and not self._is_reading_paused:
            self._is_reading_paused = True
            for each in self._connections:
                each.pause_reading()

    def _run_turn(self) -> None:
        self._is_turn_due = False
        if not self._pending or self._has_failed or self._pause.is_holding(self._loop.time()):
            return
        self._take_turn()
        if self._pending:
            self._is_turn_due = True
            self._loop.call_soon(self._run_turn)
        if self._is_reading_paused and len(self._pending) < MAX_PENDING_COMMANDS // 2:
            self._is_reading_paused = False
            for each in self._connections:
                each.resume_reading()

    def _take_turn(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._refuse_pending(refusal)
            return
        now_ms = int(self._clock() * 1000)
        turn = Turn()
        try:
            self._change(turn, now_ms)
        except (DiskFull, MemoryLimit) as error:
            if not turn.shares:
                turn.take_all(self._pending)
            turn.fail(self._data_dir.position.offset, error)
            self.transactions.turn_failed(turn.commands())
            self._refuse(error)
        except Exception as error:
            self._fail(error)
            return
        if turn.held:
            self._held.hold(turn.held)
        turn.send()

    def _change(self, turn: Turn, now_ms: int) -> None:
        """Carry out what is pending, log it, and show it to readers."""
        evictor = self._evictor
        removal = NOTHING
        self._data_dir.replay_rest()
        if evictor is not None and evictor.is_tight:
            removal = evictor.before_turn(now_ms)
        transaction = self._data_dir.store.begin()
        try:
            evicted = self._remove(transaction, removal) if removal else 0
            offset = self._data_dir.position.offset
            self._taker.take(self._pending, turn, transaction, now_ms, offset)
        except BaseException:
            transaction.abort()
            raise
        self._end(transaction, now_ms)
        self._status.expired_total += len(removal.expired)
        if evictor is not None:
            evictor.after_turn(transaction.entries, turn.value_bytes, evicted)
            if evictor.is_refusing or self._read_only:
                self._show_memory_limit(evictor)

    def _refusal(self) -> WriteRefused | None:
        """Return why nothing at all may be logged now."""
        if self._pause.is_on(self._loop.time()):
            return WritesPaused()
        return ReignEnded(self._ended_by_epoch) if self._ended_by_epoch else None

    def _refuse_pending(self, error: WriteRefused) -> None:
        turn = Turn()
        turn.take_all(self._pending)
        turn.fail(self._data_dir.position.offset, error)
        turn.send()

    def _remove(self, transaction: WriteTransaction, removal: Removal) -> int:
        """Remove keys as a DEL entry each; return how many evicted ones were there."""
        for key in removal.expired:
            transaction.remove(key)
        before = len(transaction.entries)
        for key in removal.evicted:
            transaction.remove(key)
        if self.transactions.watchers:
            self.transactions.note(transaction.entries)
        return len(transaction.entries) - before

    def _end(self, transaction: WriteTransaction, now_ms: int) -> None:
        if not transaction.entries:
            transaction.abort()
            return
        frame = self._data_dir.commit(transaction, now_ms)
        if self._publisher is not None:
            self._publisher.publish(frame)
        # Room for this one is no room for the next: a full disk is looked at by `_tick`.
        is_refusing = self._evictor is not None and self._evictor.is_refusing
        if self._read_only == MemoryLimit.reason and not is_refusing:
            self._resume()

    def _refuse(self, error: DiskFull | MemoryLimit) -> None:
        if self._read_only != error.reason:
            logger.error("writes are refused: %s", error, extra={"action": "read_only"})
            self._read_only = error.reason
            self._show()

    def _resume(self) -> None:
        logger.warning("writes go on", extra={"action": "writable"})
        self._read_only = ""
        self._show()

    def _fail(self, error: BaseException) -> None:
        self._has_failed = True
        for connection in tuple(self._connections):
            connection.close()
        self._on_failure(error)

    def _sweep(self) -> None:
        """Remove a bite of what has expired, or of what the memory limit wants gone."""
        if self._has_failed or self._ended_by_epoch:
            return
        delay = self._sweep_interval_seconds
        now_ms = int(self._clock() * 1000)
        evictor = self._evictor
        if self._pause.is_on(self._loop.time()):
            self._timers["sweep"] = self._loop.call_later(delay, self._sweep)
            return
        try:
            # Before it is looked at what is due: the log may have renewed it.
            self._data_dir.replay_rest()
            removal = Removal(self._data_dir.store.due(now_ms, SWEEP_KEYS))
            is_unfinished = len(removal.expired) == SWEEP_KEYS
            if evictor is not None:
                is_unfinished |= evictor.rest()
                if evictor.is_tight and not removal:
                    removal = evictor.before_turn(now_ms)
            if removal:
                self._remove_alone(removal, now_ms)
            if evictor is not None:
                self._show_memory_limit(evictor)
        except (DiskFull, MemoryLimit) as error:
            self._refuse(error)
        except Exception as error:
            self._fail(error)
            return
        else:
            if is_unfinished:
                delay = 0.0
        self._timers["sweep"] = self._loop.call_later(delay, self._sweep)

    def _remove_alone(self, removal: Removal, now_ms: int) -> None:
        transaction = self._data_dir.store.begin()
        try:
            evicted = self._remove(transaction, removal)
        except BaseException:
            transaction.abort()
            raise
        self._end(transaction, now_ms)
        self._status.expired_total += len(removal.expired)
        if self._evictor is not None:
            self._evictor.after_turn(transaction.entries, 0, evicted)

    def _show_memory_limit(self, evictor: Evictor) -> None:
        if self._read_only == DiskFull.reason:
            return
        if evictor.is_refusing:
            self._refuse(MemoryLimit())
        elif self._read_only == MemoryLimit.reason:
            self._resume()

    def _tick(self) -> None:
        self.transactions.end_idle()
        if self._ticks % _DETAILS_EVERY_TICKS == 0:
            self._status.show_details()
        if self._read_only == DiskFull.reason and self._ticks % _ROOM_EVERY_TICKS == 0:
            self._look_for_room()
        self._ticks += 1
        if self._ended_by_epoch:
            self._note_end()
        self._show()
        self._timers["tick"] = self._loop.call_later(_TICK_SECONDS, self._tick)

    def _look_for_room(self) -> None:
        """End the refusal for a full disk where there is room again, before any client tries."""
        try:
            if self._data_dir.has_room(ROOM_TO_RESUME_BYTES):
                self._data_dir.replay_rest()
                self._resume()
        except (DiskFull, MemoryLimit) as error:
            self._refuse(error)
        except Exception as error:
            self._fail(error)

    def _show(self) -> None:
        read_only = self._read_only
        if not read_only and self._pause.is_on(self._loop.time()):
            read_only = WritesPaused.reason
        self._status.show(read_only, self._heir_url)
