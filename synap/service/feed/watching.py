"""The change feed on one worker: who watches, and the look at the log that wakes them.

Only while somebody watches, the worker looks every few milliseconds how far the store has applied
the log: see `tailed_log`. Works alike on every role. Each watcher's own way is in `watch`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from synap.auth.permissions import Caller
from synap.commands.key_spans import KeySpan
from synap.errors import ReadRefused, StoreError, WatchersFull
from synap.place import Place
from synap.request_errors import ShareTaken
from synap.service.feed.held_lanes import HeldLanes, RequireHeld
from synap.service.feed.tailed_log import TailedLog
from synap.service.feed.watch import Queued, Watch
from synap.service.local_node import LocalNode
from synap.shared.node_clock import now_ms
from synap.shared.watcher_counts import WatcherCounts
from synap.shares import Holder
from synap.store import RecordWalk
from synap.watch.changes import Batch, Values
from synap.watch.filters import Filter, Selector
from synap.watch.forms import Form, Manner
from synap.watch.lane import Lane
from synap.watch.pace import LOOK_SECONDS, Pace

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
Kind = TypeVar("Kind", bound=Watch)

# Each watcher has a beat in 10 s; those of all are spread over so many buckets.
BEAT_SECONDS = 10.0
_BUCKETS = 100
# Watchers that tell what is new in one turn of the loop, before others have theirs: half a
# millisecond, and as much for the kernel to take it.
_STEPS_IN_TURN = 50
# Reads of the log's files at once, and walks through the store.
_FILE_READS = 4
_WALKS = 2
_SPREAD_SECONDS = (1, 5)


class Watching:
    """The watchers of one worker; all of it belongs to its event loop.

    Attributes:
        node: The worker's share of its node.
        log: What they are told of, while there are any.
        file_slots: Held by whoever reads the log's files.
        walk_slots: Held by whoever walks through the store.
        walk_seconds: The longest that one walk may take.
        stalled_seconds: A client that takes nothing for so long is cut off.
    """

    def __init__(self, node: LocalNode, require_held: RequireHeld) -> None:
        self.node = node
        config = node.config
        watch = config.watch
        self._max_watchers = watch.max_watchers
        self.walk_seconds: float = config.server.export_timeout_secs
        self.stalled_seconds: float = watch.stalled_timeout_secs
        self.file_slots = asyncio.Semaphore(_FILE_READS)
        self.walk_slots = asyncio.Semaphore(_WALKS)
        self.log = TailedLog(node, config.wal_path, watch.buffer_mb * 1024 * 1024, self)
        self._lane = Lane(0)
        self._held_lanes = HeldLanes(node, self.log, require_held, self._send_away)
        self._selectors: WeakValueDictionary[tuple[Filter, Caller | None], Selector] = (
            WeakValueDictionary()
        )
        values = [Values(each, watch.max_inline_kb * 1024) for each in (True, False)]
        self._manners = {
            (form, each.is_inline): Manner(form, each) for form in Form for each in values
        }
        self._buckets: list[set[Watch]] = [set() for _ in range(_BUCKETS)]
        self._bucket = 0
        # Those that have something to tell.
        self._ready: deque[Queued] = deque()
        self._is_stepping = False
        # Those that have to show that they are alive, and how far each bucket is behind.
        self._living: deque[Watch] = deque()
        self._lags = [0] * _BUCKETS
        self._count = 0
        self._is_draining = False
        self._timer: asyncio.TimerHandle | None = None
        # Who was told since the last look, and of how much; when that was, and when something came
        # last, in s.
        self._tellings = self._events = 0
        self._looked_at = self._moved_at = 0.0
        self._pace = Pace()
        self._next_beat = 0.0

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
            _close(watch, "draining")

    def manner(self, form: Form, *, is_inline: bool) -> Manner:
        """Return how a watcher is told that wants events in a form, and values or none."""
        return self._manners[form, is_inline]

    # Who watches

    def join(
        self,
        kind: type[Kind],
        caller: Caller,
        wanted: Filter,
        manner: Manner,
        place: Place | None,
        min_replicas: int,
        *,
        holder: Holder,
    ) -> Kind:
        """Take a watcher in; `leave` gives its place back.

        Args:
            kind: What it is to be.
            caller: Who asks; keys that they may not read are left out.
            place: What it has seen last; None for what is applied now.
            min_replicas: It is told what so many replicas hold.
            holder: For whom it counts.

        Raises:
            WatchersFull: there are as many as may be.
            ShareTaken: the holder has too many already.
            ReadRefused: nothing can be read here for now.
            ReadOnlyReplica, InvalidRequest: what replicas hold is not known here.
        """
        self._check_room(holder)
        if min_replicas:
            self._held_lanes.check()
        if not self._count:
            self._begin()
        lane = self._held_lanes.lane(min_replicas) if min_replicas else self._lane
        group = lane.join(self._selector(caller, wanted))
        at = place or self.log.reigns.place(self.log.ring.head)
        watch = kind(self, lane, group, manner, at, holder)
        watch.bucket = random.randrange(_BUCKETS)
        self._buckets[watch.bucket].add(watch)
        self._count += 1
        self._counts.add(holder, 1)
        return watch

    def leave(self, watch: Watch) -> None:
        """Give a watcher's place back; no effect a second time."""
        bucket = self._buckets[watch.bucket]
        if watch not in bucket:
            return
        bucket.discard(watch)
        watch.lane.leave(watch)
        self._count -= 1
        self._counts.add(watch.holder, -1)
        if not self._count:
            self._end()
        elif watch.lane.is_empty and watch.lane is not self._lane:
            self._held_lanes.drop(watch.lane)

    def _watches(self) -> list[Watch]:
        return [watch for bucket in self._buckets for watch in bucket]

    def _check_room(self, holder: Holder) -> None:
        shares = self._counts.shares(holder, self._max_watchers)
        is_draining = self._is_draining or self.node.draining
        if is_draining or shares.held >= self._max_watchers:
            raise WatchersFull(random.randint(*_SPREAD_SECONDS))
        # A first one is taken as long as there is a place.
        if shares.held_by(holder) and not shares.has_room(holder, 1):
            raise ShareTaken("watchers", "on a node", self._max_watchers)

    def _selector(self, caller: Caller, wanted: Filter) -> Selector:
        limited = caller if caller.is_limited else None
        selector = self._selectors.get((wanted, limited))
        if selector is None:
            selector = Selector(wanted, None if limited is None else limited.may_read)
            self._selectors[wanted, limited] = selector
        return selector

    def _send_away(self, lane: Lane) -> None:
        for watch in self._watches():
            if watch.lane is lane:
                _close(watch, "not_master")

    # What watchers ask for

    def queue(self, watch: Queued) -> None:
        """Have a watcher tell what is new, in this turn of the loop or one of the next."""
        self._ready.append(watch)
        if not self._is_stepping:
            self._is_stepping = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        ready = self._ready
        count = min(_STEPS_IN_TURN, len(ready))
        self._tellings += count
        for _ in range(count):
            watch = ready.popleft()
            try:
                watch.step()
            except Exception:
                logger.exception("a watcher failed", extra={"action": "watch"})
                watch.lost()
        self._is_stepping = bool(ready)
        if self._is_stepping:
            asyncio.get_running_loop().call_soon(self._step)

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

    # The look

    def _begin(self) -> None:
        """Begin to look at the log.

        Raises:
            ReadRefused: nothing can be read for now.
        """
        self.log.begin()
        self._next_beat = self._looked_at = self._moved_at = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._on_timer)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._held_lanes.close()
        self._living.clear()
        self._lags = [0] * _BUCKETS
        self._counts.show_lag(0)
        self.log.forget()
        self._lane = Lane(0)

    def _on_timer(self) -> None:
        now = time.monotonic()
        elapsed, self._looked_at = now - self._looked_at, now
        tellings, self._tellings, self._events = self._tellings, 0, 0
        try:
            self._look(now)
        finally:
            if self._count:
                idle = now - self._moved_at
                pause = self._pace.pause(tellings, self._events, elapsed, idle)
                self._timer = asyncio.get_running_loop().call_later(pause, self._on_timer)

    def _look(self, now: float) -> None:
        with suppress(ReadRefused, StoreError):
            if self.log.follow():
                self._moved_at = now
            self._held_lanes.look()
        if now >= self._next_beat:
            self._next_beat = max(self._next_beat, now - 1) + BEAT_SECONDS / _BUCKETS
            self._beat(now)

    def _beat(self, now: float) -> None:
        """Have one of the buckets show that it is alive."""
        if self.node.draining and not self._is_draining:
            self.drain()
        self._bucket = (self._bucket + 1) % _BUCKETS
        bucket = self._buckets[self._bucket]
        self._lags[self._bucket] = self._lag_of(bucket)
        self._counts.show_lag(max(self._lags))
        self._living.extend(bucket)
        self._show_life(now)

    def _show_life(self, now: float) -> None:
        """Have some watchers show that they are alive; the others in turns of their own."""
        living = self._living
        for _ in range(_STEPS_IN_TURN):
            if not living:
                # The last watcher may have left by this.
                return
            living.popleft().live(now)
        if living:
            asyncio.get_running_loop().call_soon(self._show_life, now)

    def _lag_of(self, watches: Iterable[Watch]) -> int:
        """Return how far those are behind that have not had everything."""
        head = self.log.ring.head
        busy = (head - watch.place for watch in watches if watch not in watch.group.waiting)
        return max(0, max(busy, default=0))

    # What the log tells

    def log_moves(self, batches: Sequence[Batch]) -> None:
        """Wake those that want something of what came."""
        self._events += len(batches)
        self._lane.advance(batches, self.log.ring.head)

    def log_breaks(self) -> None:
        """Have every watcher look whether the log that follows continues its own."""
        for watch in self._watches():
            watch.lane.stop_waiting(watch)
            if watch.at is None:
                watch.at = self.log.reigns.place(watch.place)
            watch.wake()

    def log_begins(self) -> None:
        """Begin at the new head, or with what replicas are known to hold of it."""
        self._lane.begin_at(self.log.ring.head)
        for lane in self._held_lanes:
            lane.begin_at(0)


def _close(watch: Watch, why: str) -> None:
    watch.closing = watch.closing or why
    watch.wake()
