"""A feed as an asynchronous iterator of parts, for servers that know no feeds.

Such a server sends part after part and waits for its client in between; that holds a task, and what
is told of the client's end comes by ASGI's `receive`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from synap.service.feed.watch import PART_BYTES, Output

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Feed(Protocol):
    """What goes out as it comes; `LiveWatch` says what each is."""

    def begin(self, output: Output, /) -> None: ...

    def resume(self) -> None: ...

    def lost(self) -> None: ...


class FeedStream:
    """The parts of one feed."""

    def __init__(self, feed: Feed, receive: Receive | None = None) -> None:
        """
        Args:
            receive: Tells, after the request, when the client has gone; None where nobody does.
        """
        self._feed = feed
        self._parts: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._news = asyncio.Event()
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        if receive is not None:
            self._watching = asyncio.create_task(self._wait_for_end(receive))
        feed.begin(self)

    def __aiter__(self) -> FeedStream:
        return self

    async def __anext__(self) -> bytes:
        """Return what has come since the last part."""
        while not self._parts and not self._is_over:
            self._news.clear()
            await self._news.wait()
        if not self._parts:
            raise StopAsyncIteration
        part, was_full = b"".join(self._parts), self._is_full
        self._parts, self._size = [], 0
        if was_full:
            self._feed.resume()
        return part

    async def close(self) -> None:
        """End the feed. Called by Falcon, also where the client went away."""
        if self._watching is not None:
            self._watching.cancel()
        self._feed.lost()

    # What the feed calls

    @property
    def _is_full(self) -> bool:
        return self._size >= PART_BYTES

    def write(self, part: bytes) -> bool:
        """Take a part; return False where no more should come before `resume`."""
        self._parts.append(part)
        self._size += len(part)
        self._news.set()
        return not self._is_full

    def end(self) -> None:
        """End the answer."""
        self._is_over = True
        self._news.set()

    def abort(self) -> None:
        """End it, whatever the client has not taken."""
        self.end()
        if self._task is not None:
            self._task.cancel()

    async def _wait_for_end(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end()
