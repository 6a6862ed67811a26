"""The HTTP worker's end of the local channel: writes to the log's owner, and their answers.

All writes of one turn of the event loop travel as one message. A write that was not handed over
when the time is up changed nothing and says `writer_unavailable`; one that was handed over and not
answered, or whose writer died, says `outcome_unknown`. Nothing waits without a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Protocol, cast

import msgspec

from synap.commands.commands import Command, Result
from synap.commands.once import Once, Replayed, WithoutResult
from synap.commands.strings import SetResult
from synap.commands.transactions import Executed, PendingNeeds, Queued, TransactionCommand
from synap.errors import (
    OutcomeUnknown,
    ProtocolViolation,
    SynapError,
    WriteRefused,
    WriterUnavailable,
)
from synap.ipc.messages import Answer, Decoder, Request, encode, error_of, named_reign
from synap.place import LogEnd
from synap.position import NO_HISTORY

logger = logging.getLogger(__name__)

# More waiting writes than this mean that the writer can't keep up; the next ones are refused at
# once, so that memory and waiting times stay bounded.
MAX_WAITING = 16_384
# Messages are cut at this many bytes, so that one message never holds the writer for long.
_MESSAGE_BYTES = 1024 * 1024
# Requests of this time share a deadline, that of the youngest.
_MARK_SECONDS = 0.05
_RECONNECT_SECONDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)


class Done(msgspec.Struct, frozen=True, gc=False):
    """A write that the log's owner carried out.

    Attributes:
        offset: Offset of its last entry, or of the log where it changed nothing.
        result: As `Transactions.evaluate` returned it, or Replayed; NodeApi tells what is in that.
        history: Of the owner's reign.
        is_replayed: Whether it was done when the request came before, and not again.
    """

    offset: int
    result: Result | Queued | Executed | PendingNeeds | Replayed | WithoutResult
    history: bytes = NO_HISTORY
    is_replayed: bool = False

    @property
    def end(self) -> LogEnd:
        """Where that is in the log."""
        return LogEnd(self.offset, self.history)


class Waiter(Protocol):
    """Who gets the outcome of a write. A future of Done is one."""

    def done(self) -> bool:
        """Return whether nobody waits any more."""

    def set_result(self, done: Done, /) -> None:
        """Take what the log's owner did."""

    def set_exception(self, error: SynapError, /) -> None:
        """Take why it did not, or why that is unknown."""


class WriterClient(asyncio.Protocol):
    """A connection to the log's owner which reconnects by itself.

    All methods belong to the event loop that `start` was called on.

    Attributes:
        waiting: Who waits for an outcome, by the request's number.
    """

    def __init__(
        self,
        socket_path: Path,
        timeout_seconds: float,
        refusal: Callable[[], WriteRefused | None] | None = None,
    ) -> None:
        """
        Args:
            socket_path: Where the owner listens.
            timeout_seconds: How long `execute` waits in all.
            refusal: Tells why nobody will listen there, which ends what waits to be handed over;
                None where somebody always will.
        """
        self._socket_path = str(socket_path)
        self._timeout_seconds = timeout_seconds
        self._refusal = refusal
        self._transport: asyncio.WriteTransport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_writable = True
        self._is_flush_due = False
        self._last_id = 0
        self._unsent: deque[Request] = deque()
        self._first_unsent_id = 1
        self.waiting: dict[int, Waiter] = {}
        # (deadline, first request id) of marks in time: far fewer than requests.
        self._turns: deque[tuple[float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to connect, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._connect()

    def close(self) -> None:
        """End the connection; what still waits is told so."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._timer is not None:
            self._timer.cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._fail_sent()
        self._fail_unsent(WriterUnavailable("this worker is stopping; nothing was changed"))

    async def execute(
        self, command: Command | TransactionCommand | Once, min_replicas: int = 0
    ) -> Done:
        """Have the log's owner carry out `command`.

        Args:
            command: What to do.
            min_replicas: Replicas that must hold it before this returns.

        Raises:
            CommandError: the command can't be carried out; nothing changed.
            WriteRefused: see its subclasses for what is known of the outcome.
        """
        future: asyncio.Future[Done] = self._loop.create_future()
        self.submit(future, command, min_replicas)
        return await future

    def submit(
        self,
        waiter: Waiter,
        command: Command | TransactionCommand | Once,
        min_replicas: int = 0,
    ) -> None:
        """Hand `command` over and let `waiter` have the outcome, in a later turn of the loop.

        Raises:
            WriterUnavailable: too many wait already; `waiter` hears nothing.
        """
        if len(self.waiting) >= MAX_WAITING:
            raise WriterUnavailable(
                f"{MAX_WAITING} writes are waiting for the writer; nothing was changed, try again"
            )
        self._last_id = request_id = self._last_id + 1
        self.waiting[request_id] = waiter
        self._unsent.append(Request(request_id, command, min_replicas))
        if not self._is_flush_due:
            self._begin_turn(request_id)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._decoder = Decoder(Answer)
        self._history = NO_HISTORY
        self._is_writable = True
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._decoder.feed(data)
        except ProtocolViolation as error:
            logger.error("%s", error, extra={"action": "local_channel"})
            if self._transport is not None:
                self._transport.abort()
            return
        waiting = self.waiting
        for answer in answers:
            if answer.count > 1:
                self._take_run(answer)
                continue
            waiter = waiting.pop(answer.id, None)
            if waiter is None or waiter.done():
                self._history = named_reign(answer) or self._history
                continue
            if answer.error:
                waiter.set_exception(error_of(answer))
            else:
                waiter.set_result(Done(answer.offset, answer.result, self._history))

    def _take_run(self, answer: Answer) -> None:
        """Take the answer to several plain Sets."""
        waiting, history, ahead = self.waiting, self._history, answer.offset - answer.id
        for request_id in range(answer.id, answer.id + answer.count):
            waiter = waiting.pop(request_id, None)
            if waiter is not None and not waiter.done():
                offset = request_id + ahead
                waiter.set_result(Done(offset, SetResult(True, offset), history))

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self._fail_sent()
        self._connect()

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._flush()

    def _connect(self) -> None:
        self._connecting = self._loop.create_task(self._keep_connecting())

    async def _keep_connecting(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(_RECONNECT_SECONDS[min(attempt, len(_RECONNECT_SECONDS) - 1)])
            attempt += 1
            try:
                await self._loop.create_unix_connection(lambda: self, self._socket_path)
                return
            except OSError as error:
                logger.debug("the writer does not answer: %s", error)
            if self.waiting and self._refusal is not None:
                refusal = self._refusal()
                if refusal is not None:
                    self._fail_unsent(refusal)

    def _begin_turn(self, request_id: int) -> None:
        self._is_flush_due = True
        self._loop.call_soon(self._flush)
        deadline = self._loop.time() + self._timeout_seconds
        turns = self._turns
        if not turns or deadline >= turns[-1][0] + _MARK_SECONDS:
            turns.append((deadline, request_id))
            if self._timer is None:
                self._timer = self._loop.call_at(deadline + _MARK_SECONDS, self._on_deadline)

    def _flush(self) -> None:
        self._is_flush_due = False
        transport = self._transport
        unsent = self._unsent
        if transport is None:
            return
        while unsent and self._is_writable:
            batch: list[Request] = []
            batch_bytes = 0
            while unsent and batch_bytes < _MESSAGE_BYTES:
                request = unsent.popleft()
                if request.id in self.waiting:
                    batch.append(request)
                    batch_bytes += request.command.size
            if batch:
                self._first_unsent_id = batch[-1].id + 1
                transport.write(encode(batch))

    def _on_deadline(self) -> None:
        now = self._loop.time()
        turns = self._turns
        while turns and turns[0][0] + _MARK_SECONDS <= now:
            turns.popleft()
        first_in_time = turns[0][1] if turns else self._last_id + 1
        for request_id in list(takewhile(lambda i: i < first_in_time, self.waiting)):
            waiter = self.waiting.pop(request_id)
            if not waiter.done():
                waiter.set_exception(self._late(request_id))
        self._timer = None
        if turns:
            self._timer = self._loop.call_at(turns[0][0] + _MARK_SECONDS, self._on_deadline)

    def _late(self, request_id: int) -> OutcomeUnknown | WriterUnavailable:
        if request_id >= self._first_unsent_id:
            return WriterUnavailable()
        return OutcomeUnknown(
            f"the writer did not answer within {self._timeout_seconds:g} s; "
            "the write may or may not have happened"
        )

    def _fail_sent(self) -> None:
        for request_id in [i for i in self.waiting if i < self._first_unsent_id]:
            waiter = self.waiting.pop(request_id)
            if not waiter.done():
                waiter.set_exception(
                    OutcomeUnknown(
                        "the writer went away before it answered; "
                        "the write may or may not have happened"
                    )
                )

    def _fail_unsent(self, error: WriteRefused) -> None:
        self._unsent.clear()
        waiting, self.waiting = self.waiting, {}
        for waiter in waiting.values():
            if not waiter.done():
                waiter.set_exception(type(error)(error.message))
