"""The change feed on one worker: who watches, and the look at the log that wakes them.

Only while somebody watches, the worker looks every two milliseconds how far the store has applied
the log, and reads what is new from the log's files, behind the log's owner and without a word with
it: all that a watcher costs the owner is that. Works alike on every role.

Where the log becomes another one (a promotion that lost something, a full resync) each watcher's
place is looked at again: see `synap.service.watch`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from synap.auth.permissions import Caller
from synap.commands.key_spans import KeySpan
from synap.errors import ReadOnlyReplica, ReadRefused, StoreError, SynapError, WatchersFull
from synap.place import NO_REIGNS, LogEnd, Place, Reigns
from synap.position import START
from synap.request_errors import InvalidRequest
from synap.service.local_node import LocalNode
from synap.service.watch import LiveWatch, Watch
from synap.shared.node_clock import now_ms
from synap.shared.watcher_counts import WatcherCounts, WatcherFacts, read_watchers
from synap.store import RecordWalk, StoreReader
from synap.watch.changes import Batch, Values, batches_of
from synap.watch.filters import Filter, Selector
from synap.watch.forms import Form
from synap.watch.lane import Lane
from synap.watch.log_files import LogFiles
from synap.watch.resume import Reset, reset_for
from synap.watch.ring import Ring
from synap.watch.tail import UNREADABLE, LogChanged, Tail

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
Kind = TypeVar("Kind", bound=Watch)
RequireHeld = Callable[[int, int], Awaitable[None]]
"""Waits until so many replicas hold an offset; see `NodeApi.require_held`."""

# A look costs some microseconds, the wake for it some dozens. Where nothing has happened for a
# while there are fewer.
LOOK_SECONDS = 0.002
_IDLE_LOOK_SECONDS = 0.008
_IDLE_AFTER_SECONDS = 0.5
# Each watcher has a beat in 10 s; those of all are spread over so many buckets.
BEAT_SECONDS = 10.0
_BUCKETS = 100
# Watchers that tell what is new in one turn of the loop, before others have theirs.
_STEPS_IN_TURN = 100
# Reads of the log's files at once, and walks through the store.
_FILE_READS = 4
_WALKS = 2
# Every so many beats it is measured how far behind they are.
_LAG_BEATS = 10
_RETRY_SECONDS = 0.1
_SPREAD_SECONDS = (1, 5)


class Watching:
    """The watchers of one worker; all of it belongs to its event loop.

    Attributes:
        node: The worker's share of its node.
        ring: The newest frames.
        file_slots: Held by whoever reads the log's files.
        walk_slots: Held by whoever walks through the store.
        walk_seconds: The longest that one walk may take.
    """

    def __init__(self, node: LocalNode, require_held: RequireHeld) -> None:
        self.node = node
        self._require_held = require_held
        config = node.config
        self._max_watchers = config.watch.max_watchers
        self._buffer_bytes = config.watch.buffer_mb * 1024 * 1024
        self._max_inline_bytes = config.watch.max_inline_kb * 1024
        self.walk_seconds: float = config.server.export_timeout_secs
        self.file_slots = asyncio.Semaphore(_FILE_READS)
        self.walk_slots = asyncio.Semaphore(_WALKS)
        self._files = LogFiles(config.wal_path)
        self._selectors: WeakValueDictionary[tuple[Filter, Caller | None], Selector] = (
            WeakValueDictionary()
        )
        self._buckets: list[set[Watch]] = [set() for _ in range(_BUCKETS)]
        self._bucket = 0
        # Those that have something to tell.
        self._ready: deque[LiveWatch] = deque()
        self._is_stepping = False
        self._count = self._lag = 0
        self._is_draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._confirming: dict[int, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()
        self._forget()

    def start(self) -> None:
        """Open what the node's other processes share."""
        self._counts = WatcherCounts(self.node.paths.run_dir)
        self._threads = ThreadPoolExecutor(_FILE_READS, thread_name_prefix="watching")

    def close(self) -> None:
        """Let go of everything."""
        self.drain()
        for watch in self._watches():
            self.leave(watch)
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._counts.close()

    def drain(self) -> None:
        """Send all watchers away, and take none any more."""
        self._is_draining = True
        for watch in self._watches():
            watch.closing = watch.closing or "draining"
            watch.wake()

    @property
    def reigns(self) -> Reigns:
        """The lineage of what watchers are told."""
        return self._reigns

    def values(self, *, is_inline: bool) -> Values:
        """Return how values are told."""
        return Values(is_inline, self._max_inline_bytes)

    def join(
        self,
        kind: type[Kind],
        caller: Caller,
        wanted: Filter,
        form: Form,
        values: Values,
        place: Place | None,
        min_replicas: int,
    ) -> Kind:
        """Take a watcher in; `leave` gives its place back.

        Args:
            kind: What it is to be.
            caller: Who asks; keys that they may not read are left out.
            place: What it has seen last; None for what is applied now.
            min_replicas: It is told what so many replicas hold.

        Raises:
            WatchersFull: there are as many as may be.
            ReadRefused: nothing can be read here for now.
            ReadOnlyReplica, InvalidRequest: what replicas hold is not known here.
        """
        self._check_room()
        self._check_replicas(min_replicas)
        if not self._count:
            self._begin()
        selector = self._selector(caller, wanted)
        lane = self._lanes.get(min_replicas)
        if lane is None:
            lane = self._lanes[min_replicas] = Lane(0)
        group = lane.join(selector)
        at = place or self._reigns.place(self.ring.head)
        watch = kind(self, lane, group, form, values, at)
        watch.bucket = random.randrange(_BUCKETS)
        self._buckets[watch.bucket].add(watch)
        self._count += 1
        if min_replicas and min_replicas not in self._confirming:
            task = asyncio.create_task(self._confirm(min_replicas, lane))
            self._confirming[min_replicas] = task
        self._show()
        return watch

    def leave(self, watch: Watch) -> None:
        """Give a watcher's place back; no effect a second time."""
        bucket = self._buckets[watch.bucket]
        if watch not in bucket:
            return
        bucket.discard(watch)
        watch.lane.leave(watch)
        self._count -= 1
        if not self._count:
            self._end()
        elif watch.lane.is_empty:
            self._drop_lane(watch.lane)
        self._show()

    def _drop_lane(self, lane: Lane) -> None:
        """Ask for nobody any more what so many replicas hold."""
        for replicas, each in tuple(self._lanes.items()):
            if each is lane and replicas:
                del self._lanes[replicas]
                self._confirming.pop(replicas).cancel()

    def queue(self, watch: LiveWatch) -> None:
        """Have a watcher tell what is new, in this turn of the loop or one of the next."""
        self._ready.append(watch)
        if not self._is_stepping:
            self._is_stepping = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        for _ in range(min(_STEPS_IN_TURN, len(self._ready))):
            watch = self._ready.popleft()
            try:
                watch.step()
            except Exception:
                logger.exception("a watcher failed", extra={"action": "watch"})
                watch.lost()
        self._is_stepping = bool(self._ready)
        if self._is_stepping:
            asyncio.get_running_loop().call_soon(self._step)

    def reset_for(self, place: Place) -> Reset | bool | None:
        """Return why the log does not go on from `place`; True where it does, None for not yet."""
        with suppress(ReadRefused, StoreError):
            self._follow()
        tail = self._tail
        if tail is None:
            return None
        if place.offset < self.ring.start:
            with suppress(*UNREADABLE, ReadRefused, StoreError):
                # What went with a checkpoint meanwhile.
                self._files.see(self.node.reader().applied(), anew=True)
        reset = reset_for(place, tail.reigns, tail.position, self._files.first_offset)
        if reset is None:
            return True if place.offset <= tail.position.offset else None
        return reset

    def read_files(self, offset: int, limit_bytes: int, reigns: Reigns) -> list[Batch]:
        """Return some batches from the log's files, in any thread; see `LogFiles.read_after`."""
        return batches_of(self._files.read_after(offset, limit_bytes), reigns)

    async def in_thread(self, call: Callable[[], Found]) -> Found:
        """Return `call()`, called beside the event loop."""
        return await asyncio.wrap_future(self._threads.submit(call))

    def begin_walk(
        self, spans: Sequence[KeySpan], selector: Selector
    ) -> tuple[RecordWalk, Callable[[], None]]:
        """Return a walk over the keys that a selector takes, and what ends it.

        Raises:
            ReadRefused: nothing can be read here for now.
        """
        reader = self.node.borrow()
        accepts = None if selector.is_all else selector.accepts
        try:
            walk = reader.walk_records(b"", now_ms(), spans=spans, accepts=accepts)
        except BaseException:
            self.node.give_back(reader)
            raise
        is_open = True

        def close() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                walk.close()
                self.node.give_back(reader)

        return walk, close

    # Who watches

    def _watches(self) -> list[Watch]:
        return [watch for bucket in self._buckets for watch in bucket]

    def _check_room(self) -> None:
        others = read_watchers(self.node.paths.run_dir).watchers
        if self._is_draining or self.node.draining or others >= self._max_watchers:
            raise WatchersFull(random.randint(*_SPREAD_SECONDS))

    def _check_replicas(self, min_replicas: int) -> None:
        role = self.node.role
        if min_replicas and role == "replica":
            raise ReadOnlyReplica(
                "this node is a replica: what others hold is known at the master alone"
            )
        if min_replicas and role == "standalone":
            raise InvalidRequest("this node has no replicas")

    def _selector(self, caller: Caller, wanted: Filter) -> Selector:
        limited = caller if caller.is_limited else None
        selector = self._selectors.get((wanted, limited))
        if selector is None:
            selector = Selector(wanted, None if limited is None else limited.may_read)
            self._selectors[wanted, limited] = selector
        return selector

    def _show(self) -> None:
        self._counts.show(WatcherFacts(self._count, self._lag))

    def _measure_lag(self) -> None:
        """Find out how far those are behind that have not had everything."""
        head = self.ring.head
        busy = (watch for watch in self._watches() if watch not in watch.group.waiting)
        self._lag = max((head - watch.place for watch in busy), default=0)
        self._lag = max(self._lag, 0)

    # The look

    def _begin(self) -> None:
        """Begin to look at the log.

        Raises:
            ReadRefused: nothing can be read for now.
        """
        self._restart(self.node.reader())
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._on_timer)
        self._next_beat = time.monotonic()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._confirming.values():
            task.cancel()
        if self._tail is not None:
            self._tail.close()
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the log, and nobody who wants to."""
        self.ring = Ring(0, self._buffer_bytes)
        self._reigns = NO_REIGNS
        self._tail: Tail | None = None
        self._reader: StoreReader | None = None
        self._seen: LogEnd | None = None
        self._retry_at = self._moved_at = 0.0
        self._lanes: dict[int, Lane] = {0: Lane(0)}
        self._confirming = {}

    def _on_timer(self) -> None:
        now = time.monotonic()
        is_idle = now - self._moved_at > _IDLE_AFTER_SECONDS
        self._timer = asyncio.get_running_loop().call_later(
            _IDLE_LOOK_SECONDS if is_idle else LOOK_SECONDS, self._on_timer
        )
        with suppress(ReadRefused, StoreError):
            self._follow()
        if now >= self._next_beat:
            self._next_beat = max(self._next_beat, now - 1) + BEAT_SECONDS / _BUCKETS
            self._beat(now)

    def _beat(self, now: float) -> None:
        """Have one of the buckets show that it is alive."""
        if self.node.draining and not self._is_draining:
            self.drain()
        self._bucket = (self._bucket + 1) % _BUCKETS
        for watch in tuple(self._buckets[self._bucket]):
            watch.is_beat_due = True
            watch.wake()
            watch.check(now)
        if self._bucket % _LAG_BEATS == 0:
            self._measure_lag()
            self._show()

    def _follow(self) -> None:
        """Take what was applied since the last look, and wake those that want it."""
        reader = self.node.reader()
        end = reader.end()
        if end is self._seen and reader is self._reader:
            return
        applied = reader.applied()
        reigns = self.node.reigns(applied.history)
        if reigns is NO_REIGNS and applied.position.offset:
            # node.json says so in a moment.
            return
        tail = self._tail
        if tail is None or reader is not self._reader or not tail.is_on(applied, reigns):
            self._restart(reader)
            return
        try:
            batches = tail.read(applied, reigns)
        except LogChanged as error:
            logger.info("the feed looks at the log anew: %s", error, extra={"action": "watch"})
            self._restart(reader)
            return
        self._reigns = reigns
        for batch in batches:
            self.ring.add(batch)
        self._lanes[0].advance(batches, tail.position.offset)
        self._moved_at = time.monotonic()
        self._moved.set()
        if tail.position.offset >= applied.position.offset:
            self._seen = end

    def _restart(self, reader: StoreReader) -> None:
        """Begin at what is applied now; every watcher looks anew whether that continues its log."""
        now = time.monotonic()
        if self._tail is None and now < self._retry_at:
            return
        for watch in self._watches():
            watch.lane.stop_waiting(watch)
            if watch.at is None:
                watch.at = self._reigns.place(watch.place)
            watch.wake()
        if self._tail is not None:
            self._tail.close()
        self._tail = self._seen = None
        applied = reader.applied()
        reigns = self.node.reigns(applied.history)
        try:
            self._tail = Tail(self._files, applied, reigns)
        except LogChanged as error:
            self._retry_at = now + _RETRY_SECONDS
            logger.info("the feed can't read the log: %s", error, extra={"action": "watch"})
            if self.ring.head == 0 and applied.position != START:
                self._reigns, self.ring = reigns, Ring(applied.position.offset, self._buffer_bytes)
            return
        self._reader, self._reigns = reader, reigns
        self.ring = Ring(applied.position.offset, self._buffer_bytes)
        for replicas, lane in self._lanes.items():
            lane.head = 0 if replicas else self.ring.head
        self._moved.set()

    async def _confirm(self, replicas: int, lane: Lane) -> None:
        """Move a lane on to what so many replicas hold."""
        while True:
            head, ring = self.ring.head, self.ring
            if head <= lane.head:
                self._moved.clear()
                await self._moved.wait()
                continue
            try:
                await self._require_held(head, replicas)
            except (ReadOnlyReplica, InvalidRequest):
                # It is no master any more.
                for watch in self._watches():
                    if watch.lane is lane:
                        watch.closing = watch.closing or "not_master"
                        watch.wake()
                await asyncio.sleep(_RETRY_SECONDS)
            except SynapError:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if ring is self.ring:
                    lane.advance(ring.after(lane.head, head), head)
