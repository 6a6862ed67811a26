"""One watcher's way through the feed: what it has had is a place in the log, and nothing is queued.

What follows comes from the ring of `synap.service.watching`, or from the log's files where that
begins later. Where the node's log becomes another one the place is looked at anew, by the rules for
replicas: it goes on, or there is a reset.

    Watch       a place, and what is told from there
    Poll        one answer of a long poll
    LiveWatch   a stream: it holds no task while it only waits, for there may be ten thousand
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
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

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

# Of one part of a stream: a client that reads slowly has the worker hold little more.
PART_BYTES = 64 * 1024
# So many parts are told in one turn of the loop; then others have theirs.
_PARTS_IN_TURN = 4
# Of one read of the files.
_FILE_BYTES = 1024 * 1024
_ANY_NUMBER = 1_000_000_000
# Between two tries of what does not work for now.
_PAUSE_SECONDS = 0.1
# A client that takes nothing for so long is cut off.
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

    def queue(self, watch: LiveWatch) -> None: ...

    def reset_for(self, place: Place) -> Reset | bool | None: ...

    def read_files(self, offset: int, limit_bytes: int, reigns: Reigns) -> list[Batch]: ...

    async def in_thread(self, call: Callable[[], Found]) -> Found: ...

    def begin_walk(
        self, spans: Sequence[KeySpan], selector: Selector
    ) -> tuple[RecordWalk, Callable[[], None]]: ...


class Output(Protocol):
    """Where a stream goes."""

    def write(self, part: bytes) -> bool:
        """Send a part; return False where the client is to be waited for, until `resume`."""

    def end(self) -> None:
        """End the answer."""

    def abort(self) -> None:
        """Cut the client off."""


class FeedClosed(Exception):
    """The watcher is sent away; the text says why, in a word."""


class Watch(Watcher):
    """A place in the log, and what is told from there; belongs to the worker's loop.

    Attributes:
        lane: The watchers that are told as far as this one.
        at: The place that is to be looked at before anything is told from there; None where the log
            is known to go on from `place`.
        bucket: Which of the beats is its own.
        is_beat_due: A beat came.
        closing: Why it is sent away; empty where it is not.
    """

    __slots__ = ("at", "bucket", "closing", "hub", "is_beat_due", "lane")

    def __init__(
        self, hub: Hub, lane: Lane, group: Group, form: Form, values: Values, at: Place
    ) -> None:
        super().__init__(group, form, values, at.offset)
        self.hub = hub
        self.lane = lane
        self.at: Place | None = at
        self.bucket = 0
        self.is_beat_due = False
        self.closing = ""

    def check(self, now: float) -> None:
        """Hold the client to its time; `now` is monotonic, in s. For a subclass."""

    @property
    def token(self) -> str:
        """The printed place up to which it has had everything."""
        if self.at is not None:
            return str(self.at)
        return self.hub.reigns.token(self.lane.place_of(self))

    @property
    def has_more(self) -> bool:
        """Whether there is something in the log that it was not told of."""
        return self.place < self.lane.head

    def gather_at_hand(self, limit_bytes: int, limit_events: int) -> list[bytes] | None:
        """Return the next events from the ring, and move on; None where it begins later.

        There may be none up to the head. The list belongs to others too.
        """
        until = self.lane.head
        batches = self.hub.ring.after(self.place, until)
        if batches is None:
            return None
        if not batches:
            self.place = until
            return []
        events, self.place = self.group.gather(self, batches, limit_bytes, limit_events)
        if events:
            self.hub.node.series.count(FEED_EVENTS, len(events))
        return events

    async def gather_from_files(self, limit_events: int) -> list[bytes]:
        """Return the next events from the log's files, and move on; none for this time, maybe."""
        hub, place, reigns, until = self.hub, self.place, self.hub.reigns, self.lane.head

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
            return []
        if self.at is not None:
            # The log became another one meanwhile.
            return []
        self.place = max(reached, place)
        if events:
            hub.node.series.count(FEED_EVENTS, len(events))
        return events

    async def settle(self) -> bool:
        """Find out whether the log goes on from `at`; return False where that is not known yet.

        Raises:
            FeedReset: it does not.
        """
        at, hub = self.at, self.hub
        if at is None:
            return True
        try:
            await hub.node.wait_place(at)
        except NotCaughtUp:
            await asyncio.sleep(_PAUSE_SECONDS)
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
        token = self.hub.reigns.token
        self.hub.node.series.count((FEED_RESETS, reset.reason))
        kind = FeedCompacted if reset.reason == COMPACTED else FeedDiverged
        return kind(token(reset.oldest), None if reset.common is None else token(reset.common))


class Poll(Watch):
    """A watcher that one task asks for the next events, until it has enough."""

    __slots__ = ("_woken",)

    def __init__(
        self, hub: Hub, lane: Lane, group: Group, form: Form, values: Values, at: Place
    ) -> None:
        super().__init__(hub, lane, group, form, values, at)
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
                events = self.gather_at_hand(PART_BYTES, limit_events)
                if events is None:
                    events = await self.gather_from_files(limit_events)
                if events:
                    return list(events)
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
        self, hub: Hub, lane: Lane, group: Group, form: Form, values: Values, at: Place
    ) -> None:
        super().__init__(hub, lane, group, form, values, at)
        self._output: Output | None = None
        self._recheck: Callable[[], Awaitable[bool]] | None = None
        self._spans: Sequence[KeySpan] | None = None
        self._task: asyncio.Task[None] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._paused_at = 0.0
        self._beats = 0
        self._is_over = False
        self._is_queued = False

    def prepare(
        self,
        recheck: Callable[[], Awaitable[bool]] | None,
        spans: Sequence[KeySpan] | None,
    ) -> None:
        """Say what it needs to know before it begins.

        Args:
            recheck: Says at a beat whether the client may still have this; None where nobody asks.
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

    def check(self, now: float) -> None:
        """Cut a client off that takes nothing, and forget one that never began."""
        if self._output is None:
            self.lost()
        if self._paused_at and now - self._paused_at > STALLED_SECONDS and self._output:
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
            self._write(self._beat())
        for _ in range(_PARTS_IN_TURN):
            if not self.has_more:
                return True
            events = self.gather_at_hand(PART_BYTES, _ANY_NUMBER)
            if events is None:
                self._start_task(self._catch_up())
                return False
            if events and not self._write(b"".join(events)):
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
            reset = forms.reset(self.form, error.reason, error.oldest, error.common)
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
            await self._send(forms.silence(self.form))
            await self._tell_keys(spans)
            self._spans = None
            await self._send(forms.event("synced", self.form, self.token))
            return
        while not await self.settle():
            await self._send(forms.silence(self.form))
        # So the client has a position before anything happens.
        await self._send(self._progress())

    async def _catch_up(self) -> None:
        """Go on until everything that is missing is at hand."""
        while True:
            if self.is_beat_due:
                if self._recheck is not None and not await self._recheck():
                    raise FeedClosed("credentials")
                await self._send(self._beat())
            if not await self.settle():
                if self.closing:
                    raise FeedClosed(self.closing)
                continue
            if self.place >= min(self.hub.ring.start, self.lane.head):
                return
            events = await self.gather_from_files(_ANY_NUMBER)
            if events:
                await self._send(b"".join(events))

    async def _send(self, part: bytes) -> None:
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

    async def _tell_keys(self, spans: Sequence[KeySpan]) -> None:
        """Tell all keys of one state, and be at its place.

        Raises:
            FeedClosed: that took too long, or can't be read here.
        """
        hub = self.hub
        while not await _acquired(hub.walk_slots, STALLED_SECONDS / 3):
            await self._send(forms.silence(self.form))
        try:
            walk, close = hub.begin_walk(spans, self.group.selector)
            timer = asyncio.get_running_loop().call_later(hub.walk_seconds, close)
            try:
                reigns = hub.node.reigns(walk.end.history)
                while not walk.is_over:
                    part = await hub.in_thread(
                        lambda: _entries(walk, reigns.token, self.form, self.values)
                    )
                    if part or self.is_beat_due:
                        await self._send(part or self._beat())
                self.at = reigns.place(walk.end.offset)
            finally:
                timer.cancel()
                close()
        except ValueError as error:
            # Its time was over.
            raise FeedClosed("too_slow") from error
        except ReadRefused as error:
            raise FeedClosed("not_ready") from error
        finally:
            hub.walk_slots.release()

    # What is told beside changes

    def _beat(self) -> bytes:
        """Return what shows the client that the stream is alive; now and then where it stands."""
        self.is_beat_due = False
        self._beats += 1
        if self._beats % _PROGRESS_BEATS or self.at is not None or self._spans is not None:
            return forms.silence(self.form)
        return self._progress()

    def _progress(self) -> bytes:
        return forms.event("progress", self.form, self.token)

    def _goodbye(self, reason: str) -> bytes:
        # Who was cut in its first state must begin anew.
        position = None if self._spans is not None else self.token
        return forms.close(self.form, position, reason, random.randint(*_RETRY_MS))


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
