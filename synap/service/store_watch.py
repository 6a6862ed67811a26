"""Reads that wait for the store: one look for all of them, every two milliseconds.

Each used to look by itself, and some hundred took a worker's whole processor. Whoever waits looks
again once woken: this only says when that may be worth it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# How often is looked. An applied frame shows at once in the store, and a look costs about a
# microsecond.
_LOOK_SECONDS = 0.002
# How often all look that wait for something else than an offset.
_ALL_SECONDS = 0.1
_LOOKS_UNTIL_ALL = round(_ALL_SECONDS / _LOOK_SECONDS)

State = tuple[int, object]
"""The store's last offset, and whatever else decides; of which it counts that it is another."""


class StoreWatch:
    """Those who wait on one event loop."""

    def __init__(self, look: Callable[[], State]) -> None:
        """
        Args:
            look: Returns how it is now; may raise where that can't be known, which wakes all.
        """
        self._look = look
        # With the offset that each waits for.
        self._waiting: dict[asyncio.Future[None], int | None] = {}
        self._rest: object = None
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, offset: int | None, seconds: float) -> None:
        """Return when there may be news for the caller.

        Args:
            offset: The store has it, or the rest is another one; None for what only time tells.
            seconds: The longest wait.
        """
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        end = loop.call_later(seconds, _wake, woken)
        self._waiting[woken] = offset
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_SECONDS, self._on_timer, loop)
        try:
            await woken
        finally:
            end.cancel()
            self._waiting.pop(woken, None)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._waiting:
            return
        self._timer = loop.call_later(_LOOK_SECONDS, self._on_timer, loop)
        try:
            reached, rest = self._look()
        except Exception:  # Whoever is woken gets it, for the request that it is about.
            reached, rest = 0, None
        self._looks += 1
        is_other, self._rest = rest is None or rest != self._rest, rest
        is_turn_of_all = self._looks % _LOOKS_UNTIL_ALL == 0
        for woken, offset in self._waiting.items():
            if is_other or (is_turn_of_all if offset is None else offset <= reached):
                _wake(woken)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
