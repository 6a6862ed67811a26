"""The write gate: why this master takes no writes, if it takes none.

Several reasons may hold at once, and each ends for itself; the node's board shows the one of the
highest rank. Some close the gate: nothing is even tried. With the others each write is tried all
the same, because it may fit. A reason more is a row of `Reason`, and its error a class in `errors`.

Who sees a cause tells the gate: a turn that finds no room, the sweeper, the replication side that
hears of a higher epoch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import Self

from synap.errors import (
    DataDirLost,
    DiskFull,
    MemoryLimit,
    NoLease,
    Recovering,
    ReignEnded,
    WriteRefused,
    WritesPaused,
)
from synap.writer.lease import Lease
from synap.writer.pause import Pause

logger = logging.getLogger(__name__)


class Reason(Enum):
    """Why writes are refused.

    Attributes:
        error: What clients are told; its `reason` is the word on the board.
        rank: Of several reasons the highest is shown: what an operator must deal with first.
        is_closing: Whether nothing is tried.
    """

    WRITES_PAUSED = WritesPaused, 10, True
    MEMORY_LIMIT = MemoryLimit, 20, False
    DISK_FULL = DiskFull, 30, False
    RECOVERING = Recovering, 35, True
    NO_LEASE = NoLease, 38, True
    REIGN_ENDED = ReignEnded, 40, True
    DATA_DIR_LOST = DataDirLost, 50, True

    def __init__(self, error: type[WriteRefused], rank: int, is_closing: bool) -> None:
        self.error = error
        self.rank = rank
        self.is_closing = is_closing

    @classmethod
    def of(cls, error: WriteRefused) -> Self:
        """Return the reason that `error` tells.

        Raises:
            TypeError: it tells none.
        """
        for reason in cls:
            if isinstance(error, reason.error):
                return reason
        raise TypeError(f"{type(error).__name__} is no reason of the gate")


class WriteGate:
    """Which reasons hold.

    Attributes:
        ended_by_epoch: The epoch that reigns in this master's place; 0 for none.
        heir_url: Where clients reach the next master; empty where that is unknown.
    """

    def __init__(
        self,
        pause: Pause,
        on_change: Callable[[], None],
        ended_by_epoch: int = 0,
        now: Callable[[], float] = time.monotonic,
        lease: Lease | None = None,
    ) -> None:
        """
        Args:
            pause: The writes', which begins and ends without the gate.
            on_change: Called after a reason began to hold or ended, but for the pause.
            ended_by_epoch: As in the node's identity.
            now: The pause's clock in seconds.
            lease: The writer's, which ends without the gate; None for one without end.
        """
        self._lease = lease or Lease()
        self._pause = pause
        self._on_change = on_change
        self._now = now
        self._held: dict[Reason, WriteRefused] = {}
        self.ended_by_epoch = ended_by_epoch
        self.heir_url = ""
        if ended_by_epoch:
            self._held[Reason.REIGN_ENDED] = ReignEnded(ended_by_epoch)

    def refuse(self, error: WriteRefused) -> None:
        """Let `error` hold from now on, until its reason is lifted."""
        reason = Reason.of(error)
        is_new = reason not in self._held
        # What it says may change while it holds.
        self._held[reason] = error
        if is_new:
            logger.error("writes are refused: %s", error, extra={"action": "read_only"})
            self._on_change()

    def lift(self, reason: Reason) -> None:
        """End a reason, where it holds."""
        if self._held.pop(reason, None) is None:
            return
        if not self._held:
            logger.warning("writes go on", extra={"action": "writable"})
        self._on_change()

    def show_memory(self, is_refusing: bool) -> None:
        """Take over whether the memory limit refuses what grows."""
        if is_refusing:
            self.refuse(MemoryLimit())
        else:
            self.lift(Reason.MEMORY_LIMIT)

    def end_reign(self, epoch: int, heir_url: str = "") -> None:
        """Close for good: `epoch` reigns in this master's place. Who calls this logs why."""
        self.ended_by_epoch = epoch
        self.heir_url = heir_url
        self._held[Reason.REIGN_ENDED] = ReignEnded(epoch)
        self._on_change()

    @property
    def has_reasons(self) -> bool:
        """Whether anything but a pause holds."""
        return bool(self._held)

    def is_holding(self) -> bool:
        """Say whether writes wait, to go on or be refused later."""
        return self._pause.is_holding(self._now())

    def refusal(self) -> WriteRefused | None:
        """Return why nothing at all may be logged now; None where it may.

        A pause comes first, whatever its rank: who is told of it tries again, and finds the heir.
        """
        if self._pause.is_on(self._now()):
            return WritesPaused()
        closing = [reason for reason in self._held if reason.is_closing]
        if closing:
            return self._held[_highest(closing)]
        return NoLease() if self._lease.is_over() else None

    def shown(self) -> Reason | None:
        """Return the reason of the highest rank; None where writes are taken."""
        held = list(self._held)
        if self._pause.is_on(self._now()):
            held.append(Reason.WRITES_PAUSED)
        if self._lease.is_over():
            held.append(Reason.NO_LEASE)
        return _highest(held) if held else None


def _highest(reasons: list[Reason]) -> Reason:
    return max(reasons, key=lambda reason: reason.rank)
