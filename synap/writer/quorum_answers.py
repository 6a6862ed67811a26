"""Answers that wait: a write which wants replicas is answered when enough of them hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from synap.errors import QuorumTimeout
from synap.ipc.messages import Answer, failure
from synap.ipc.worker_connection import WriterConnection, send_each
from synap.replication.rules.quorum import Waiting

# Where an answer goes, and the number of replicas that it waits for.
Held = tuple[WriterConnection, Answer, int]


class Quorum(msgspec.Struct, frozen=True):
    """How many replicas a write waits for.

    Attributes:
        min_replicas: What every write waits for; a request may ask for more.
        timeout_ms: How long.
    """

    min_replicas: int = 0
    timeout_ms: int = 1000


class Holders(Protocol):
    """Who knows what replicas hold."""

    def held_offset(self, replicas: int) -> int:
        """Return the last offset that `replicas` replicas, at least one, hold in their WALs."""


class QuorumAnswers:
    """The answers of one writer that wait for replicas. Belongs to the running loop."""

    def __init__(self, quorum: Quorum, holders: Holders | None) -> None:
        """
        Args:
            quorum: How many replicas a write waits for, and how long.
            holders: Knows what replicas hold; None on a standalone node.
        """
        self._quorum = quorum
        self._holders = holders
        self._waiting: Waiting[Held] = Waiting()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def is_held(self, offset: int, replicas: int) -> bool:
        """Say whether `replicas` replicas, at least one, hold `offset`."""
        return self._holders is not None and self._holders.held_offset(replicas) >= offset

    def hold(self, answers: Iterable[Held]) -> None:
        """Let the answers of a turn wait, in the order of their offsets."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._quorum.timeout_ms / 1000
        for held in answers:
            _, answer, wanted = held
            self._waiting.add(wanted, answer.offset, deadline, held)
        self.look_at_acks()
        if self._timer is None:
            self._set_timer()

    def look_at_acks(self) -> None:
        """Send the answers for which enough replicas have acknowledged by now."""
        if self._holders is None or not len(self._waiting):
            return
        for replicas in self._waiting.numbers():
            held = self._waiting.take_held(replicas, self._holders.held_offset(replicas))
            if held:
                send_each((connection, answer) for connection, answer, _ in held)

    def close(self) -> None:
        """Answer what still waits, as late."""
        if self._timer is not None:
            self._timer.cancel()
        self._give_up(self._waiting.take_all())

    def _set_timer(self) -> None:
        deadline = self._waiting.next_deadline()
        loop = asyncio.get_running_loop()
        self._timer = None if deadline is None else loop.call_at(deadline, self._end_waits)

    def _end_waits(self) -> None:
        self._give_up(self._waiting.take_late(asyncio.get_running_loop().time()))
        self._set_timer()

    def _give_up(self, late: Sequence[Held]) -> None:
        """Answer writes that too few replicas hold; they stay logged."""
        told = []
        for connection, answer, wanted in late:
            error = QuorumTimeout(
                f"fewer than {wanted} replicas have acknowledged offset {answer.offset} within "
                f"{self._quorum.timeout_ms} ms; the write is logged on the master, its outcome "
                "elsewhere is unknown"
            )
            told.append((connection, failure(answer.id, answer.offset, error)))
        send_each(told)
