"""One watcher's way through the feed: what it has had is a place in the log, and nothing is queued.

What follows comes from the ring of `tailed_log`, or from the log's files where that begins later.
Where the node's log becomes another one the place is looked at anew, by the rules for replicas: it
goes on, or there is a reset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from synap.commands.key_spans import KeySpan
from synap.errors import FeedCompacted, FeedDiverged, FeedReset, NotCaughtUp, ReadRefused
from synap.place import Place
from synap.service.feed.tailed_log import TailedLog
from synap.service.local_node import LocalNode
from synap.shared.series import FEED_EVENTS, FEED_RESETS
from synap.shares import Holder
from synap.store import RecordWalk
from synap.watch.filters import Selector
from synap.watch.forms import Manner
from synap.watch.lane import NOTHING, Gathered, Group, Lane, Watcher, gather
from synap.watch.resume import COMPACTED, Reset
from synap.watch.tail import UNREADABLE

Found = TypeVar("Found")

# Of one part of a stream: a client that reads slowly has the worker hold little more.
PART_BYTES = 64 * 1024
# Of one read of the files at most; less where a part has no room for it all.
_FILE_BYTES = 1024 * 1024
# Between two tries of what does not work for now.
_PAUSE_SECONDS = 0.1


class Start(msgspec.Struct, frozen=True):
    """Where a watcher begins.

    Attributes:
        place: What it has seen last; None for now.
        has_initial: It gets all keys first, as they are now.
    """

    place: Place | None = None
    has_initial: bool = False


class Queued(Protocol):
    """Who is called soon; `live_watch` is one."""

    def step(self) -> None:
        """Tell what is new, as far as that takes no wait."""

    def lost(self) -> None:
        """Give the place back."""


class Hub(Protocol):
    """What a watcher needs of `watching`, which says what each is."""

    node: LocalNode
    log: TailedLog
    file_slots: asyncio.Semaphore
    walk_slots: asyncio.Semaphore
    walk_seconds: float
    stalled_seconds: float

    def leave(self, watch: Watch) -> None: ...

    def queue(self, watch: Queued) -> None: ...

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
        holder: For whom it counts.
    """

    __slots__ = ("_file_bytes", "at", "bucket", "closing", "holder", "hub", "is_beat_due", "lane")

    def __init__(
        self, hub: Hub, lane: Lane, group: Group, manner: Manner, at: Place, holder: Holder
    ) -> None:
        super().__init__(group, manner, at.offset)
        self.holder = holder
        self.hub = hub
        self.lane = lane
        self.at: Place | None = at
        self.bucket = 0
        self.is_beat_due = False
        self.closing = ""
        self._file_bytes = _FILE_BYTES

    def live(self, now: float) -> None:
        """Show the client that it is served, and hold it to its time; `now` is monotonic, in s.

        For a subclass whose client waits for that.
        """

    @property
    def token(self) -> str:
        """The printed place up to which it has had everything."""
        if self.at is not None:
            return str(self.at)
        return self.hub.log.reigns.token(self.lane.place_of(self))

    @property
    def has_more(self) -> bool:
        """Whether there is something in the log that it was not told of."""
        return self.place < self.lane.head

    def gather_at_hand(self, limit_bytes: int, limit_events: int) -> Gathered | None:
        """Return the next events from the ring, and move on; None where it begins later.

        There may be none up to the head.
        """
        until = self.lane.head
        found = self.group.known(self, until)
        if found is None:
            batches = self.hub.log.ring.after(self.place, until)
            if batches is None:
                return None
            found = self.group.gather(self, batches, until, limit_bytes, limit_events)
        return self._move(found)

    async def gather_from_files(self, limit_events: int) -> Gathered:
        """Return the next events from the log's files, and move on; none for this time, maybe."""
        hub, place, until, reigns = self.hub, self.place, self.lane.head, self.hub.log.reigns

        def read() -> Gathered:
            batches = hub.log.read_files(place, self._file_bytes, reigns)
            fitting = [batch for batch in batches if batch.last_offset <= until]
            found = gather(fitting, self.group.selector, self.manner, PART_BYTES, limit_events)
            had_room = not fitting or found.place == fitting[-1].last_offset
            wanted = self._file_bytes * 2 if had_room else self._file_bytes // 2
            self._file_bytes = min(max(wanted, PART_BYTES), _FILE_BYTES)
            return found

        try:
            async with hub.file_slots:
                found = await hub.in_thread(read)
        except UNREADABLE:
            if self.at is None:
                self.at = Place(place, reigns.tag_of(place))
            await asyncio.sleep(_PAUSE_SECONDS)
            return NOTHING
        # Where it is set, the log became another one meanwhile.
        return self._move(found) if self.at is None else NOTHING

    def _move(self, found: Gathered) -> Gathered:
        self.place = max(found.place, self.place)
        if found.events:
            self.hub.node.series.count(FEED_EVENTS, len(found.events))
        return found

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
        found = hub.log.reset_for(at)
        if found is None:
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        if isinstance(found, Reset):
            raise self._error_of(found)
        if self.at == at:
            self.at, self.place = None, at.offset
        return self.at is None

    def _error_of(self, reset: Reset) -> FeedReset:
        token = self.hub.log.reigns.token
        self.hub.node.series.count((FEED_RESETS, reset.reason))
        kind = FeedCompacted if reset.reason == COMPACTED else FeedDiverged
        return kind(token(reset.oldest), None if reset.common is None else token(reset.common))
