"""One answer of a long poll: a watcher that a task asks for the next events."""

from __future__ import annotations

import asyncio
import time

from synap.place import Place
from synap.service.feed.watch import PART_BYTES, FeedClosed, Hub, Watch
from synap.shares import Holder
from synap.watch.forms import Manner
from synap.watch.lane import Group, Lane


class Poll(Watch):
    """A watcher that one task asks for the next events, until it has enough."""

    __slots__ = ("_woken",)

    def __init__(
        self, hub: Hub, lane: Lane, group: Group, manner: Manner, at: Place, holder: Holder
    ) -> None:
        super().__init__(hub, lane, group, manner, at, holder)
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Have the task look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def some(self, limit_events: int, deadline: float) -> list[bytes]:
        """Return the next events; none where the deadline came before them.

        Args:
            limit_events: From 1.
            deadline: When (monotonic, s) to stop waiting.

        Raises:
            FeedReset: the log does not go on from its place.
            FeedClosed: it is sent away.
        """
        while True:
            if self.closing:
                raise FeedClosed(self.closing)
            if await self.settle() and self.has_more:
                found = self.gather_at_hand(PART_BYTES, limit_events)
                if found is None:
                    found = await self.gather_from_files(limit_events)
                if found.events:
                    return list(found.events)
            elif time.monotonic() >= deadline:
                return []
            elif self.at is None:
                await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        self._woken = woken = loop.create_future()
        timer = loop.call_later(max(0.0, deadline - time.monotonic()), self.wake)
        self.lane.wait(self)
        try:
            await woken
        finally:
            self._woken = None
            self.lane.stop_waiting(self)
            timer.cancel()
