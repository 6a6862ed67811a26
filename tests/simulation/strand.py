"""Shipped code that blocks, in the simulated time: a thread that runs only while all else waits.

So there is one order of what happens, the timeline's, whatever the threads are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.simulation.timeline import Timeline


class Cut(BaseException):
    """The process has ended, in whatever it was."""


class Strand:
    """A thread with a timeline for its clock."""

    def __init__(
        self, timeline: Timeline, sleeps_ms: Callable[[], float], work: Callable[[], None]
    ) -> None:
        """
        Args:
            timeline: The clock.
            sleeps_ms: Returns for how long its machine does nothing yet.
            work: What to do; its rests are `rest`.
        """
        self._timeline = timeline
        self._sleeps_ms = sleeps_ms
        self._work = work
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._is_cut = False
        self._error: BaseException | None = None
        # What waits for it on the timeline; an older one is for nobody.
        self._turn = 0
        self.is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin with the timeline's next action."""
        self._thread.start()
        self._resume_in(0)

    def rest(self, delay_ms: float) -> None:
        """Have the timeline go on, and this strand in `delay_ms`. For `work` alone."""
        self._resume_in(delay_ms)
        self._wait()

    def cut(self) -> None:
        """End it where it rests."""
        if self.is_over:
            return
        self._is_cut = True
        self._turn += 1
        if self._thread.is_alive():
            self._switch()
            self._thread.join()

    def _resume_in(self, delay_ms: float) -> None:
        self._turn += 1
        turn = self._turn
        self._timeline.after(delay_ms, lambda: self._resume(turn))

    def _resume(self, turn: int) -> None:
        if turn != self._turn or self.is_over:
            return
        left_ms = self._sleeps_ms()
        if left_ms:
            self._resume_in(left_ms)
        else:
            self._switch()

    def _switch(self) -> None:
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _wait(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._is_cut:
            raise Cut

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._is_cut:
                self._work()
        except Cut:
            pass
        except BaseException as error:
            self._error = error
        self.is_over = True
        self._back.release()
