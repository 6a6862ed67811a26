"""A master's clock: the machine's, but for jumps that nobody has confirmed.

A wall clock that leaps ahead makes keys expire that have time left, all at once, and what has been
removed does not come back when it is put right. So a leap of more than 2 s, either way, is not
followed before it has lasted for a minute or an operator has confirmed it; smaller steps are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from synap.shared.node_clock import NS_PER_MS, ClockWord, measured_offset
from synap.shared.series import CLOCK_JUMPS, Count

logger = logging.getLogger(__name__)

JUMP_NS = 2_000_000_000
CONFIRMED_AFTER_NS = 60_000_000_000
_LOOK_SECONDS = 0.1


class OwnClock:
    """The clock. All methods belong to the loop that `start` was called on."""

    def __init__(
        self,
        word: ClockWord,
        count: Count,
        measure: Callable[[], int] = measured_offset,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """
        Args:
            word: What it tells the node's processes. What is there already, by an owner before
                this one, counts: a jump that waits is not over with a process.
            count: Counts the jumps.
            measure: Tells what the wall clock is ahead of `steady_ns`.
            steady_ns: CLOCK_MONOTONIC.
        """
        self._word = word
        self._count = count
        self._measure = measure
        self._steady_ns = steady_ns
        self._offset = word.offset or measure()
        # Where the wall clock went by a jump that is not confirmed, and since when it is there.
        self._jumped: int | None = None
        self._jumped_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        word.offset = self._offset
        self.look()

    def start(self) -> None:
        """Begin to look at the wall clock, on the running loop."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self.start)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def now_ms(self) -> int:
        """Return the time in ms since 1970."""
        return (self._steady_ns() + self._offset) // NS_PER_MS

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return (self._steady_ns() + self._offset) / 1e9

    @property
    def held_seconds(self) -> float:
        """How far the wall clock is ahead, by a jump that is not confirmed; 0 for none."""
        return 0.0 if self._jumped is None else (self._jumped - self._offset) / 1e9

    def look(self) -> None:
        """Follow the wall clock, or hold back where it has jumped."""
        measured = self._measure()
        if abs(measured - self._offset) <= JUMP_NS:
            if self._jumped is not None:
                logger.warning("the clock is right again", extra={"action": "clock_right"})
            self._follow(measured)
        elif self._jumped is None or abs(measured - self._jumped) > JUMP_NS:
            self._hold(measured)
        elif self._steady_ns() - self._jumped_ns >= CONFIRMED_AFTER_NS:
            self._confirm("it stayed so for a minute")

    def confirm(self) -> float:
        """Follow a jump of the wall clock, on an operator's word.

        Returns:
            How many seconds it went ahead; 0 where there was none.
        """
        self.look()
        seconds = self.held_seconds
        if self._jumped is not None:
            self._confirm("it was confirmed")
        return seconds

    def _hold(self, measured: int) -> None:
        self._jumped, self._jumped_ns = measured, self._steady_ns()
        self._count(CLOCK_JUMPS)
        seconds = self.held_seconds
        logger.warning(
            "this machine's clock has jumped by %+.1f s: deadlines go by the time before, until "
            "the clock has stayed so for a minute or `synap clock confirm` says that it is right",
            seconds, extra={"action": "clock_jump", "seconds": round(seconds, 3)},
        )  # fmt: skip

    def _confirm(self, why: str) -> None:
        assert self._jumped is not None
        seconds = self.held_seconds
        logger.warning(
            "deadlines follow the clock's jump by %+.1f s: %s", seconds, why,
            extra={"action": "clock_confirmed", "seconds": round(seconds, 3)},
        )  # fmt: skip
        self._follow(self._jumped)

    def _follow(self, measured: int) -> None:
        self._jumped = None
        self._offset = self._word.offset = measured
