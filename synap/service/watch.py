"""One watcher's way through the feed: what it has had is a place in the log, and nothing is queued.

What follows comes from the ring of `synap.service.watching`, or from the log's files where that
begins later. Where the node's log becomes another one the place is looked at anew, by the rules for
replicas: it goes on, or there is a reset.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from synap.commands.key_spans import KeySpan
from synap.errors import FeedCompacted, FeedDiverged, FeedReset, NotCaughtUp, ReadRefused
from synap.place import Place, Reigns
from synap.service.local_node import LocalNode
from synap.shared.series import FEED_EVENTS, FEED_RESETS
from synap.store import RecordWalk
from synap.watch import forms
from synap.watch.changes import Batch, Values, value_fields
from synap.watch.filters import Selector
from synap.watch.forms import Form
from synap.watch.lane import Group, Lane, Watcher, gather
from synap.watch.resume import COMPACTED, Reset
from synap.watch.ring import Ring
from synap.watch.tail import UNREADABLE

Found = TypeVar("Found")

# Of one part of a stream: a client that reads slowly has the worker hold little more.
PART_BYTES = 64 * 1024
# Of one read of the files.
_FILE_BYTES = 1024 * 1024
_ANY_NUMBER = 1_000_000_000
# Between two tries of what does not work for now.
_PAUSE_SECONDS = 0.1
# A client that takes nothing for so long is let go.
STALLED_SECONDS = 30.0
_WALK_RECORDS = 1000
# Every so many beats the position is told instead of mere silence.
_PROGRESS_BEATS = 3
# Clients that are sent away come again within this time, spread.
_RETRY_MS = (250, 3000)


class Start(msgspec.Struct, frozen=True):
    """Where a watcher begins.

    Attributes:
        place: What it has seen last; None for now.
        has_initial: It gets all keys first, as they are now.
    """

    place: Place | None = None
    has_initial: bool = False


class Hub(Protocol):
    """What a watcher needs of `synap.service.watching`, which says what each is."""

    node: LocalNode
    ring: Ring
    file_slots: asyncio.Semaphore
    walk_slots: asyncio.Semaphore
    walk_seconds: float

    @property
    def reigns(self) -> Reigns: ...

    def leave(self, watch: Watch) -> None: ...

    def reset_for(self, place: Place) -> Reset | bool | None: ...

    def read_files(self, offset: int, limit_bytes: int, reigns: Reigns) -> list[Batch]: ...

    async def in_thread(self, call: Callable[[], Found]) -> Found: ...

    def begin_walk(
        self, spans: Sequence[KeySpan], selector: Selector
    ) -> tuple[RecordWalk, Callable[[], None]]: ...


class FeedClosed(Exception):
    """The watcher is sent away; the text says why, in a word."""


class Watch(Watcher):
    """One watcher, for one task of the worker's loop. Made by `Watching.join`.

    Attributes:
        lane: The watchers that are told as far as this one.
        at: The place that is to be looked at before anything is told from there; None where the log
            is known to go on from `place`.
        bucket: Which of the beats is its own.
        is_beat_due: A beat came.
        closing: Why it is sent away; empty where it is not.
        has_waited: Whether others have had their turn since this was set to False.
        taken_at: When (monotonic, s) its client took something last.
        task: Sends what it is told; None before anything was.
    """

    __slots__ = (
        "_beats", "_hub", "_woken", "at", "bucket", "closing", "has_waited", "is_beat_due", "lane",
        "taken_at", "task",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, lane: Lane, group: Group, form: Form, values: Values, at: Place
    ) -> None:
        super().__init__(group, form, values, at.offset)
        self.lane = lane
        self.at: Place | None = at
        self.bucket = 0
        self.is_beat_due = False
        self.closing = ""
        self.has_waited = False
        self.taken_at = time.monotonic()
        self.task: asyncio.Task[object] | None = None
        self._hub = hub
        self._beats = 0
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Have the task look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def cut_if_stalled(self, now: float) -> None:
        """End what sends, where the client takes nothing: for servers that do not see to it."""
        is_sending = self._woken is None and self.task is not None
        if is_sending and now - self.taken_at > STALLED_SECONDS and self.task is not None:
            self.task.cancel()

    @property
    def token(self) -> str:
        """The printed place up to which it has had everything."""
        if self.at is not None:
            return str(self.at)
        return self._hub.reigns.token(self.lane.place_of(self))

    @property
    def has_more(self) -> bool:
        """Whether there is something in the log that it was not told of."""
        return self.place < self.lane.head

    async def some(self, limit_events: int, deadline: float | None = None) -> list[bytes]:
        """Return the next events; none where a beat or the deadline came before them.

        Args:
            limit_events: From 1.
            deadline: When (monotonic, s) to stop waiting; None for never.

        Raises:
            FeedReset: the log does not go on from its place.
            FeedClosed: it is sent away.
        """
        while True:
            if self.closing:
                raise FeedClosed(self.closing)
            if (self.at is not None and not await self._settle()) or self.is_beat_due:
                return []
            if self.place < self.lane.head:
                events = await self._gather(limit_events)
                if events:
                    self._hub.node.series.count(FEED_EVENTS, len(events))
                    return list(events)
                continue
            if deadline is not None and time.monotonic() >= deadline:
                return []
            await self._wait(deadline)

    async def _wait(self, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._woken = woken = loop.create_future()
        timer = None
        if deadline is not None:
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), self.wake)
        self.lane.wait(self)
        try:
            await woken
            self.has_waited = True
        finally:
            self._woken = None
            self.lane.stop_waiting(self)
            if timer is not None:
                timer.cancel()

    async def _gather(self, limit_events: int) -> Sequence[bytes]:
        ring, until = self._hub.ring, self.lane.head
        batches = ring.after(self.place, until)
        if batches is None:
            return await self._gather_from_files(until, limit_events)
        if not batches:
            self.place = until
            return ()
        events, self.place = self.group.gather(self, batches, PART_BYTES, limit_events)
        return events

    async def _gather_from_files(self, until: int, limit_events: int) -> Sequence[bytes]:
        """Read on in the log's files; what is slow about it is done in a thread."""
        hub, place, reigns = self._hub, self.place, self._hub.reigns

        def read() -> tuple[list[bytes], int]:
            batches = hub.read_files(place, _FILE_BYTES, reigns)
            fitting = [batch for batch in batches if batch.last_offset <= until]
            return gather(
                fitting, self.group.selector, self.form, self.values, PART_BYTES, limit_events
            )

        try:
            async with hub.file_slots:
                events, reached = await hub.in_thread(read)
        except UNREADABLE:
            if self.at is None:
                self.at = Place(place, reigns.tag_of(place))
            await asyncio.sleep(_PAUSE_SECONDS)
            return ()
        if self.at is not None:
            # The log became another one meanwhile.
            return ()
        self.place = max(reached, place)
        return events

    async def _settle(self) -> bool:
        """Find out whether the log goes on from `at`; return False where that is not known yet.

        Raises:
            FeedReset: it does not.
        """
        at, hub = self.at, self._hub
        assert at is not None
        try:
            await hub.node.wait_place(at)
        except NotCaughtUp:
            return False
        except ReadRefused as error:
            # Lost, or nothing can be read here for now.
            if error.retryable:
                await asyncio.sleep(_PAUSE_SECONDS)
                return False
        found = hub.reset_for(at)
        if found is None:
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        if isinstance(found, Reset):
            raise self._error_of(found)
        if self.at == at:
            self.at, self.place = None, at.offset
        return self.at is None

    def _error_of(self, reset: Reset) -> FeedReset:
        token = self._hub.reigns.token
        self._hub.node.series.count((FEED_RESETS, reset.reason))
        kind = FeedCompacted if reset.reason == COMPACTED else FeedDiverged
        return kind(token(reset.oldest), None if reset.common is None else token(reset.common))

    def beat(self) -> bytes:
        """Return what shows the client that the stream is alive; now and then where it stands."""
        self.is_beat_due = False
        self._beats += 1
        if self._beats % _PROGRESS_BEATS or self.at is not None:
            return forms.silence(self.form)
        return self.progress()

    def progress(self) -> bytes:
        """Return the event that tells where the stream stands."""
        return forms.event("progress", self.form, self.token)

    def goodbye(self, reason: str) -> bytes:
        """Return the event that sends the client away."""
        return forms.close(self.form, self.token, reason, random.randint(*_RETRY_MS))


class WatchStream:
    """A watcher's events as the parts of an answer.

    Attributes:
        is_feed: Tells a server that the answer has no end.
    """

    is_feed = True

    def __init__(
        self,
        hub: Hub,
        watch: Watch,
        start: Start,
        recheck: Callable[[], Awaitable[bool]] | None,
        spans: Sequence[KeySpan],
    ) -> None:
        """
        Args:
            recheck: Says at a beat whether the client may still have this; None where nobody asks.
            spans: Where the keys lie that are told first.
        """
        self._hub = hub
        self._watch = watch
        self._recheck = recheck
        self._parts = self._initial(spans) if start.has_initial else self._begin()
        # Waits for the client to go, where the server does not see to it.
        self._client: asyncio.Task[None] | None = None

    def __aiter__(self) -> WatchStream:
        return self

    async def __anext__(self) -> bytes:
        """Return the next part."""
        watch = self._watch
        if not watch.has_waited:
            # Whoever reads as fast as it is told something lets others have their turn.
            await asyncio.sleep(0)
            watch.task = watch.task or asyncio.current_task()
        watch.has_waited = False
        watch.taken_at = time.monotonic()
        return await anext(self._parts)

    async def close(self) -> None:
        """Give the watcher's place back. Called by Falcon, also where the client went away."""
        self._hub.leave(self._watch)
        if self._client is not None:
            self._client.cancel()
        await self._parts.aclose()  # type: ignore[attr-defined]

    def end_with(self, client_gone: Coroutine[Any, Any, object]) -> None:
        """Have the stream end when a coroutine returns, which is when nobody reads it any more."""
        self._client = asyncio.create_task(self._wait_for(client_gone))

    async def _wait_for(self, client_gone: Coroutine[Any, Any, object]) -> None:
        await client_gone
        self._watch.closing = self._watch.closing or "gone"
        self._watch.wake()

    async def _begin(self) -> AsyncIterator[bytes]:
        watch = self._watch
        try:
            while watch.at is not None and not await watch._settle():
                yield forms.silence(watch.form)
            # So the client has a position before anything happens.
            yield watch.progress()
            async for part in self._go_on():
                yield part
        except FeedReset as error:
            yield forms.reset(watch.form, error.reason, error.oldest, error.common)

    async def _go_on(self) -> AsyncIterator[bytes]:
        watch = self._watch
        try:
            while True:
                events = await watch.some(_ANY_NUMBER)
                if events:
                    yield b"".join(events)
                elif watch.is_beat_due:
                    if self._recheck is not None and not await self._recheck():
                        yield watch.goodbye("credentials")
                        return
                    yield watch.beat()
                else:
                    yield forms.silence(watch.form)
        except FeedClosed as error:
            yield watch.goodbye(str(error))
        except FeedReset as error:
            yield forms.reset(watch.form, error.reason, error.oldest, error.common)

    async def _initial(self, spans: Sequence[KeySpan]) -> AsyncIterator[bytes]:
        """Tell all keys of one state, and go on from there."""
        watch, hub = self._watch, self._hub
        # Heads and the first byte leave before anybody waits for anything.
        yield forms.silence(watch.form)
        while not await _acquired(hub.walk_slots, STALLED_SECONDS / 3):
            yield forms.silence(watch.form)
        try:
            walk, close = hub.begin_walk(spans, watch.group.selector)
            timer = asyncio.get_running_loop().call_later(hub.walk_seconds, close)
            try:
                reigns = hub.node.reigns(walk.end.history)
                while not walk.is_over:
                    stall = asyncio.get_running_loop().call_later(STALLED_SECONDS, close)
                    try:
                        part = await hub.node.in_thread(
                            lambda: _entries(walk, reigns.token, watch.form, watch.values)
                        )
                        if part:
                            yield part
                        elif watch.is_beat_due:
                            yield watch.beat()
                    finally:
                        stall.cancel()
                    if watch.closing:
                        break
                watch.at = reigns.place(walk.end.offset)
            except ValueError:
                # It was closed: the client takes too long.
                yield forms.close(watch.form, None, "too_slow", _RETRY_MS[1])
                return
            finally:
                timer.cancel()
                close()
        except ReadRefused:
            yield watch.goodbye("not_ready")
            return
        finally:
            hub.walk_slots.release()
        yield forms.event("synced", watch.form, watch.token)
        async for part in self._go_on():
            yield part


async def _acquired(semaphore: asyncio.Semaphore, seconds: float) -> bool:
    """Acquire it; return False where it took too long."""
    try:
        await asyncio.wait_for(semaphore.acquire(), seconds)
    except TimeoutError:
        return False
    return True


def _entries(walk: RecordWalk, token: Callable[[int], str], form: Form, values: Values) -> bytes:
    """Return the next keys of a walk as events."""
    # They have no position: a client that was cut here must begin anew.
    return b"".join(
        forms.event(
            "entry", form, None, key=key.decode("utf-8", "backslashreplace"),
            **value_fields(record.value, values),
            version=token(record.version), expires_at_ms=record.expiry_ms or None,
        )
        for key, record in walk.take(_WALK_RECORDS, PART_BYTES)
    )  # fmt: skip
