"""A stream: a watcher whose events go out as they come.

It holds no task while it only waits, for there may be ten thousand.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from synap.commands.key_spans import KeySpan
from synap.errors import FeedReset
from synap.place import Place
from synap.service.feed.first_state import tell_keys
from synap.service.feed.watch import PART_BYTES, FeedClosed, Hub, Output, Watch
from synap.shares import Holder
from synap.watch import forms
from synap.watch.forms import Manner
from synap.watch.lane import Group, Lane

logger = logging.getLogger(__name__)

# So many parts are told in one turn of the loop; then others have theirs.
_PARTS_IN_TURN = 4
_ANY_NUMBER = 1_000_000_000
# Every so many beats the position is told instead of mere silence.
_PROGRESS_BEATS = 3
# Clients that are sent away come again within this time, spread.
_RETRY_MS = (250, 3000)


class Recheck(Protocol):
    """Says whether a client may still have what it was given."""

    def is_settled(self) -> bool:
        """Say whether it may for sure, so that nobody need be asked."""

    async def __call__(self) -> bool:
        """Say whether it may."""


class LiveWatch(Watch):
    """A watcher whose events go out as they come: the answer is a feed, see `exchange`.

    A task is there at its beginning, and while it reads files or waits for what takes time.
    """

    is_feed = True

    __slots__ = (
        "_beats", "_is_over", "_is_queued", "_output", "_paused_at", "_recheck", "_resumed",
        "_spans", "_task",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, lane: Lane, group: Group, manner: Manner, at: Place, holder: Holder
    ) -> None:
        super().__init__(hub, lane, group, manner, at, holder)
        self._output: Output | None = None
        self._recheck: Recheck | None = None
        self._spans: Sequence[KeySpan] | None = None
        self._task: asyncio.Task[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._paused_at = 0.0
        self._beats = 0
        self._is_over = False
        self._is_queued = False

    def prepare(
        self,
        recheck: Recheck | None,
        spans: Sequence[KeySpan] | None,
    ) -> None:
        """Say what it needs to know before it begins.

        Args:
            recheck: Asked at each beat; None where nobody asks.
            spans: Where the keys lie that are told first; None for no keys.
        """
        self._recheck = recheck
        self._spans = spans

    # What the server calls

    def begin(self, output: Output) -> None:
        """Tell what there is from now on. Called once, by the server."""
        self._output = output
        self._start_task(self._open())

    def resume(self) -> None:
        """Go on: the client has read enough."""
        self._paused_at = 0.0
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self.wake()

    def lost(self) -> None:
        """Give the place back: the client is gone, or has been told all."""
        if self._is_over:
            return
        self._is_over = True
        self._output = None
        self.hub.leave(self)
        if self._task is not None:
            self._task.cancel()

    # What the hub calls

    def wake(self) -> None:
        """Have `step` called soon."""
        if not (self._is_queued or self._is_over or self._task is not None):
            self._is_queued = True
            self.hub.queue(self)

    def live(self, now: float) -> None:
        """Show the client that the stream is alive, at once where it only waits."""
        if (
            self in self.group.waiting
            and self._output is not None
            and not (self._is_queued or self._paused_at or self.closing)
            and (self._recheck is None or self._recheck.is_settled())
        ):
            self._write(self.beat())
            return
        self.is_beat_due = True
        self.wake()
        self._check(now)

    def _check(self, now: float) -> None:
        """Cut a client off that takes nothing, and forget one that never began."""
        if self._output is None:
            self.lost()
        if self._paused_at and now - self._paused_at > self.hub.stalled_seconds and self._output:
            self._output.abort()
            self.lost()

    def step(self) -> None:
        """Tell what is new, as far as that takes no wait; then wait, or begin a task."""
        self._is_queued = False
        if self._is_over or self._task is not None:
            return
        self.lane.stop_waiting(self)
        if self.closing:
            self._finish(self._goodbye(self.closing))
        elif self._paused_at:
            pass
        elif self.at is not None or (self.is_beat_due and self._recheck is not None):
            self._start_task(self._catch_up())
        elif self._tell():
            self.lane.wait(self)

    def _tell(self) -> bool:
        """Tell what is at hand; return whether it has had everything, and waits for more."""
        if self.is_beat_due:
            self._write(self.beat())
        for _ in range(_PARTS_IN_TURN):
            if not self.has_more:
                return True
            found = self.gather_at_hand(PART_BYTES, _ANY_NUMBER)
            if found is None:
                self._start_task(self._catch_up())
                return False
            if found.events and not self._write(found.part):
                return False
        if self.has_more:
            self.wake()
            return False
        return True

    def _write(self, part: bytes) -> bool:
        """Send a part; return whether another one may follow at once."""
        if self._output is None:
            return False
        if self._output.write(part):
            return True
        self._paused_at = time.monotonic()
        return False

    def _finish(self, last: bytes) -> None:
        output = self._output
        if output is not None:
            output.write(last)
            output.end()
        self.lost()

    # What takes time

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except FeedReset as error:
            reset = forms.reset(self.manner.form, error.reason, error.oldest, error.common)
            self._end_task(reset)
        except FeedClosed as error:
            self._end_task(self._goodbye(str(error)))
        except Exception:
            logger.exception("a watcher's stream failed", extra={"action": "watch"})
            self._end_task(self._goodbye("failed"))
        else:
            self._task = None
            self.wake()

    def _end_task(self, last: bytes) -> None:
        self._task = None
        self._finish(last)

    async def _open(self) -> None:
        """Tell where the stream begins, or the keys as they are there."""
        spans = self._spans
        if spans is not None:
            # A first byte leaves before anybody waits for anything.
            await self.send(forms.silence(self.manner.form))
            await tell_keys(self, spans)
            self._spans = None
            await self.send(forms.event("synced", self.manner.form, self.token))
            return
        while not await self.settle():
            await self.send(forms.silence(self.manner.form))
        # So the client has a position before anything happens.
        await self.send(self._progress())

    async def _catch_up(self) -> None:
        """Go on until everything that is missing is at hand."""
        while True:
            if self.is_beat_due:
                if self._recheck is not None and not await self._recheck():
                    raise FeedClosed("credentials")
                await self.send(self.beat())
            if not await self.settle():
                if self.closing:
                    raise FeedClosed(self.closing)
                continue
            if self.place >= min(self.hub.log.ring.start, self.lane.head):
                return
            found = await self.gather_from_files(_ANY_NUMBER)
            if found.events:
                await self.send(found.part)

    async def send(self, part: bytes) -> None:
        """Send a part, and wait for the client where it reads slowly.

        Raises:
            FeedClosed: the watcher is sent away.
        """
        if not self._write(part) and self._output is not None:
            self._resumed = asyncio.get_running_loop().create_future()
            try:
                await self._resumed
            finally:
                self._resumed = None
        if self.closing:
            raise FeedClosed(self.closing)

    # What is told beside changes

    def beat(self) -> bytes:
        """Return what shows the client that the stream is alive; now and then where it stands."""
        self.is_beat_due = False
        self._beats += 1
        if self._beats % _PROGRESS_BEATS or self.at is not None or self._spans is not None:
            return forms.silence(self.manner.form)
        return self._progress()

    def _progress(self) -> bytes:
        return forms.progress(self.manner.form, self.token)

    def _goodbye(self, reason: str) -> bytes:
        # Who was cut in its first state must begin anew.
        position = None if self._spans is not None else self.token
        return forms.close(self.manner.form, position, reason, random.randint(*_RETRY_MS))
