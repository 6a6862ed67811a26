"""The feed behind a log that is written: in order, without a gap, and a reset where that can't be.

The log's owner, the store and the feed run in one process here, on files.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from synap.auth.permissions import TRUSTED
from synap.commands.key_spans import ALL_KEYS
from synap.errors import FeedCompacted, FeedDiverged, ReadOnlyReplica, WatchersFull
from synap.frame import SET, Entry, encode_frame
from synap.http.api.feed_stream import FeedStream
from synap.place import Place, Reigns, parse_place
from synap.request_errors import ShareTaken
from synap.service.feed import tailed_log
from synap.service.feed.live_watch import LiveWatch, Recheck
from synap.service.feed.poll import Poll
from synap.service.feed.tailed_log import TailedLog
from synap.service.feed.watch import FeedClosed
from synap.service.feed.watching import Watching
from synap.service.local_node import LocalNode
from synap.shared.board import Board, BoardView
from synap.shared.watcher_counts import WatcherCounts
from synap.watch.changes import Batch
from synap.watch.filters import Filter, filter_of
from synap.watch.forms import Form
from synap.watch.tail import Tail
from tests.integration.linked_nodes import OneNode, eventually, on_loop

NO_LIMIT = 1_000_000
PATIENCE_SECONDS = 10.0


class Written(OneNode):
    """A standalone node's log, with the feed that follows it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, server__node_id="one", **settings)
        self.open_log()
        self.model: dict[str, tuple[str, str]] = {}
        self.held: list[tuple[int, int]] = []

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[Watching]:
        self.board = Board(self.paths.board_file)
        self.show()
        node = LocalNode(self.config)
        node.start()
        # No process opens a store twice.
        node._reader = self.data_dir.store.reader()
        self.watching = Watching(node, self._require_held)
        self.watching.start()
        try:
            yield self.watching
        finally:
            self.watching.close()
            node._reader = None
            node.close()
            self.board.close()
            self.close_log()

    async def _require_held(self, offset: int, replicas: int) -> None:
        self.held.append((offset, replicas))
        await asyncio.sleep(0.01)

    def show(self, **changes: object) -> None:
        """Show on the board what the owner would."""
        data_dir = self.data_dir
        view = BoardView(
            role="master",
            first_sync_done=True,
            generation=data_dir.store.generation,
            epoch=data_dir.wal.epoch,
            history=data_dir.wal.history,
        )
        self.board.publish(msgspec.structs.replace(view, **changes))

    def write(self, *keys: str, value: str = "v", removed: str | None = None) -> str:
        """Write keys, and remove one, as one frame; return the place of its end."""
        transaction = self.data_dir.store.begin()
        for key in keys:
            transaction.put(key.encode(), value.encode(), 0)
        if removed is not None:
            transaction.remove(removed.encode())
        frame = self.data_dir.commit(transaction, 1_700_000_000_000)
        return self.place(frame.last_offset)

    def place(self, offset: int) -> str:
        return self.watching.node.reigns(self.data_dir.wal.history).token(offset)

    def join(
        self,
        wanted: Filter | None = None,
        place: str | None = None,
        replicas: int = 0,
        holder: str = "ann",
    ) -> Poll:
        start = None if place is None else parse_place(place)
        return self.watching.join(
            Poll, TRUSTED, wanted or filter_of(), self.watching.manner(Form.LIST, is_inline=True),
            start, replicas, holder=holder,
        )  # fmt: skip

    def live(self, place: str | None = None) -> LiveWatch:
        start = None if place is None else parse_place(place)
        manner = self.watching.manner(Form.LINES, is_inline=True)
        return self.watching.join(LiveWatch, TRUSTED, filter_of(), manner, start, 0, holder="ann")

    def stream(
        self,
        place: str | None = None,
        *,
        has_initial: bool = False,
        recheck: Recheck | None = None,
    ) -> FeedStream:
        watch = self.live(place)
        watch.prepare(recheck, ALL_KEYS if has_initial else None)
        return FeedStream(watch)

    def stored(self) -> dict[str, str]:
        """Return what the store holds."""
        reader = self.data_dir.store.reader()
        walk = reader.walk_records(b"", 0)
        try:
            return {key.decode(): record.value.decode() for key, record in walk.take(10**6, 10**9)}
        finally:
            walk.close()


async def told(watch: Poll, seconds: float = 2.0) -> list[dict[str, Any]]:
    """Return the next events; none where nothing comes for so long."""
    deadline = time.monotonic() + seconds
    events = await watch.some(NO_LIMIT, deadline)
    return [json.loads(event) for event in events]


async def take(stream: FeedStream, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the events of a stream up to one that fits."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for part in stream:
            events += [json.loads(line) for line in part.splitlines() if line]
            if any(map(until, events)):
                break
    return events


class Mirror:
    """The keys as a stream tells them, which must never tell a place twice."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.place = Place(0, "00000000")

    def take(self, event: dict[str, Any]) -> None:
        if event["event"] == "entry":
            self._set(event)
        if "position" in event:
            place = parse_place(event["position"])
            is_new = place.offset > self.place.offset
            assert is_new or event["event"] != "change", f"{place} again"
            self.place = place
        for change in event.get("changes", ()):
            if change["op"] == "set":
                self._set(change)
            elif change["op"] == "del":
                assert self.keys.pop(change["key"], None) is not None, "removed before it was there"
            else:
                self.keys.clear()

    def _set(self, told: dict[str, Any]) -> None:
        key, version = told["key"], parse_place(told["version"]).offset
        assert version > self.versions.get(key, 0), f"{key} again"
        self.keys[key], self.versions[key] = told["value"], version


@on_loop
async def test_every_change_comes_in_order(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        written.write("before")
        watch = written.join()
        places = [written.write(f"key {number}") for number in range(50)]
        seen: list[str] = []
        while len(seen) < 50:
            seen += [event["position"] for event in await told(watch)]
        assert seen == places


@on_loop
async def test_position_of_before_a_restart_of_the_feed_goes_on(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed():
        first = written.write("a")
        places = [written.write(f"key {number}", value="x" * 1000) for number in range(3000)]
        # 3 MiB, in more than one segment, and longer than the ring at its beginning.
        watch = written.join(place=first)
        sizes = count_batches(written.watching.log)
        seen: list[str] = []
        while len(seen) < len(places):
            seen += [event["position"] for event in await told(watch)]
        assert seen == places
        # What does not fit into a part is read again, and is little.
        assert len(places) <= sum(sizes) < 2 * len(places)


@on_loop
async def test_frame_that_is_logged_and_not_applied_is_told_nobody(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed():
        watch, wal = written.join(), written.data_dir.wal
        first = written.write("a")
        before = wal.position
        # As where the store has no room for it, and the log takes it back.
        frame = encode_frame([Entry(SET, b"lost", b"v")], previous=before, epoch=1, time_ms=1)
        wal.append([frame], is_own=True)
        assert [event["position"] for event in await told(watch)] == [first]
        assert await told(watch, 0.05) == []
        wal.retract(before)
        second = written.write("b")
        assert [event["position"] for event in await told(watch)] == [second]


@on_loop
async def test_place_inside_of_a_frame_gets_the_whole_frame(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        written.write("a")
        last = written.write("b", "c", "d")
        assert last.startswith("4-")
        watch = written.join(place=written.place(3))
        (event,) = await told(watch)
        assert (event["position"], len(event["changes"])) == (last, 3)


@on_loop
async def test_place_that_the_log_went_past_is_compacted(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        first = written.write("a")
        for number in range(3000):
            written.write(f"key {number}", value="x" * 1000)
        watch = written.join()
        wal = written.data_dir.wal
        assert wal.retire(wal.position.offset, 0)
        wal.remove_retired()
        with pytest.raises(FeedCompacted) as raised:
            await written.join(place=first).some(NO_LIMIT, time.monotonic() + 10)
        oldest = raised.value.oldest
        assert parse_place(oldest).offset == wal.first_offset - 1
        events = await told(written.join(place=oldest))
        assert events[0]["position"] == written.place(parse_place(oldest).offset + 1)
        assert watch.at is not None or watch.place


@on_loop
async def test_place_of_another_history_is_diverged(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        written.write("a")
        with pytest.raises(FeedDiverged):
            await written.join(place="1-01234567").some(NO_LIMIT, time.monotonic() + 10)


@on_loop
async def test_new_reign_on_the_same_log_is_no_reset(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        watch = written.join()
        before = written.write("a")
        assert [event["position"] for event in await told(watch)] == [before]
        data_dir = written.data_dir
        data_dir.wal.begin_reign(data_dir.node.begin_reign(data_dir.wal.position.offset))
        written.data_dir.mark_reign(1_700_000_000_000)
        written.show()
        after = written.write("b")
        assert after[-8:] != before[-8:]
        assert [event["position"] for event in await told(watch)] == [after]
        assert (await told(written.join(place=before)))[0]["position"] == after


@on_loop
async def test_watchers_of_replicas_are_told_what_these_hold(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        watch = written.join(replicas=2)
        place = written.write("a")
        assert [event["position"] for event in await told(watch)] == [place]
        assert (1, 2) in written.held
        other = written.join()
        written.watching.leave(watch)
        written.write("b")
        assert len(await told(other)) == 1
        await asyncio.sleep(0)
        assert [offset for offset, _ in written.held] == [1]


@on_loop
async def test_watchers_at_a_replica_are_told_what_its_master_says_is_held(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed():
        first, second = written.write("a"), written.write("b")
        written.show(role="replica", held=(2, 1))
        watch, other = (written.join(place="0-00000000", replicas=each) for each in (1, 2))
        seen = [[event["position"] for event in await told(each)] for each in (watch, other)]
        assert seen == [[first, second], [first]]
        third = written.write("c")
        assert await told(other, 0.05) == []
        # One of them is ahead of this node.
        written.show(role="replica", held=(9, 3))
        assert [event["position"] for event in await told(other)] == [second, third]
        assert written.held == []


@on_loop
async def test_what_was_held_of_another_log_is_told_nobody(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        written.write("a")
        written.show(role="replica", held=(1,), history=bytes(15) + b"x")
        watch = written.join(place="0-00000000", replicas=1)
        assert await told(watch, 0.05) == []


@on_loop
async def test_replica_of_a_master_that_does_not_tell_takes_no_such_watcher(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed():
        written.show(role="replica", held=())
        watch = written.join(replicas=1)
        written.show(role="replica", held=None)
        with pytest.raises(ReadOnlyReplica):
            written.join(replicas=1)
        with pytest.raises(FeedClosed, match="not_master"):
            await watch.some(NO_LIMIT, time.monotonic() + 2)


@on_loop
async def test_one_watcher_more_than_may_be_is_refused(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path, watch__max_watchers=2)
    async with written.feed() as watching:
        first, _ = written.join(holder="ann"), written.join(holder="ben")
        with pytest.raises(WatchersFull):
            written.join(holder="eve")
        watching.leave(first)
        watching.leave(first)
        written.join(holder="eve")


@on_loop
async def test_one_user_leaves_places_to_others_on_all_workers(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path, watch__max_watchers=20)
    other_worker = WatcherCounts(written.paths.run_dir)
    async with written.feed() as watching:
        other_worker.add("ann", 4)
        other_worker.add("ben", 1)
        first, *_ = [written.join(holder="ann") for _ in range(5)]
        with pytest.raises(ShareTaken, match="watchers come to at most 20"):
            written.join(holder="ann")
        written.join(holder="ben")
        watching.leave(first)
        written.join(holder="ann")
    other_worker.close()


async def check_mirror(written: Written, rounds: int = 30) -> None:
    """Follow the log from its keys on, through cuts, and compare with the store."""
    written.write(*(f"key {number}" for number in range(10)))
    stream, mirror = written.stream(has_initial=True), Mirror()
    for event in await take(stream, lambda event: event["event"] == "synced"):
        mirror.take(event)
    for number in range(rounds):
        if number % 7 == 3:
            await stream.close()
            stream = written.stream(place=str(mirror.place))
        key = f"key {number % 10}"
        end = written.write(f"key {10 + number}", value=str(number), removed=None)
        end = written.write(f"{key} again", value=str(number), removed=f"key {10 + number}")
        for event in await take(stream, lambda event, end=end: event.get("position") == end):
            mirror.take(event)
        assert mirror.keys == written.stored()
    await stream.close()


@on_loop
async def test_mirror_equals_the_store_after_each_change(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        await check_mirror(written)


def moved_by(step: int) -> Callable[[Reigns, int], Place]:
    """Return a `Reigns.place` that is off by so many."""
    original = Reigns.place
    return lambda reigns, offset: original(reigns, offset + step)


def all_but_first(read: Callable[..., list[Batch]]) -> Callable[..., list[Batch]]:
    """Return a `Tail.read` that leaves a frame out."""
    return lambda *arguments: read(*arguments)[1:]


@pytest.mark.parametrize(
    ("owner", "name", "bug"),
    [(Reigns, "place", moved_by(1)), (Reigns, "place", moved_by(-1)),
     (Tail, "read", all_but_first(Tail.read))],
    ids=["too_far_after_the_first_state", "too_early_after_it", "frames_left_out"],
)  # fmt: skip
@on_loop
async def test_planted_bug_is_seen(
    tmp_path: Path,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    bug: Callable[..., object],
) -> None:
    monkeypatch.setattr(owner, name, bug)
    monkeypatch.setattr(f"{__name__}.PATIENCE_SECONDS", 1.0)
    written = Written(tmp_path)
    async with written.feed():
        with pytest.raises((AssertionError, TimeoutError)):
            await check_mirror(written)


@on_loop
async def test_planted_bug_is_seen_no_reset(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed():
        written.write("a")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tailed_log, "reset_for", lambda *_: None)
            watch = written.join(place="1-01234567")
            watch.place, watch.at = 1, None
            written.write("b")
            # It is told as if nothing had happened.
            assert await told(watch)


def beat_all(watching: Watching) -> None:
    """Have every watcher show that it is alive, as within 10 s."""
    for _ in range(100):
        watching._beat(time.monotonic())


@on_loop
async def test_stream_shows_that_it_is_alive_and_where_it_stands(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed() as watching:
        stream = written.stream()
        (begin,) = await take(stream, lambda event: event["event"] == "progress")
        place = written.write("a")
        await take(stream, lambda event: event.get("position") == place)
        seen = b""
        for _ in range(3):
            beat_all(watching)
            seen += await anext(stream)
        assert seen.splitlines()[:2] == [b"", b""]
        assert json.loads(seen.splitlines()[2]) == {"event": "progress", "position": place}
        assert begin["position"] == "0-00000000"
        await stream.close()


class Credentials:
    """What a stream asks at each beat."""

    is_valid = True

    def is_settled(self) -> bool:
        return False

    async def __call__(self) -> bool:
        return self.is_valid


@on_loop
async def test_revoked_credentials_end_the_stream_at_the_next_beat(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed() as watching:
        recheck = Credentials()
        stream = written.stream(recheck=recheck)
        await take(stream, lambda event: event["event"] == "progress")
        beat_all(watching)
        assert await anext(stream) == b"\n"
        recheck.is_valid = False
        beat_all(watching)
        (last,) = await take(stream, lambda event: event["event"] == "close")
        assert last["reason"] == "credentials"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@on_loop
async def test_draining_sends_every_watcher_away_and_takes_no_more(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed() as watching:
        streams = [written.stream() for _ in range(5)]
        for stream in streams:
            await take(stream, lambda event: event["event"] == "progress")
        watching.drain()
        delays = set()
        for stream in streams:
            (last,) = await take(stream, lambda event: event["event"] == "close")
            assert (last["reason"], last["position"]) == ("draining", "0-00000000")
            delays.add(last["retry_ms"])
        assert len(delays) > 1
        with pytest.raises(WatchersFull):
            written.join()


class Reader:
    """A client that takes nothing before it is told to."""

    def __init__(self, *, is_slow: bool = True) -> None:
        self.parts: list[bytes] = []
        self.changes = 0
        self.is_slow = is_slow
        self.is_cut = False

    @property
    def taken(self) -> int:
        return sum(map(len, self.parts))

    def write(self, part: bytes) -> bool:
        self.parts.append(part)
        self.changes += part.count(b'"changes"')
        return not self.is_slow

    def end(self) -> None:
        self.is_cut = True

    abort = end


def count_calls(watching: Watching, name: str) -> Tally[object]:
    """Count from now on for whom a method is called."""
    counted: Tally[object] = Tally()
    original = getattr(watching, name)

    def call(whom: object) -> None:
        counted[whom] += 1
        original(whom)

    setattr(watching, name, call)
    return counted


def count_batches(log: TailedLog) -> list[int]:
    """Return a list to which each read of the files adds how much it read, from now on."""
    counted: list[int] = []
    original = log.read_files

    def read(*arguments: Any) -> list[Batch]:
        found = original(*arguments)
        counted.append(len(found))
        return found

    log.read_files = read  # type: ignore[method-assign]
    return counted


@asynccontextmanager
async def all_of(slots: asyncio.Semaphore, count: int = 4) -> AsyncIterator[None]:
    """Hold all slots."""
    for _ in range(count):
        await slots.acquire()
    assert slots.locked()
    yield
    for _ in range(count):
        slots.release()


def positions_of(reader: Reader) -> list[str]:
    events = [json.loads(line) for line in b"".join(reader.parts).splitlines() if line]
    return [event["position"] for event in events if event["event"] == "change"]


@on_loop
async def test_slow_reader_among_many_costs_nobody_anything_and_goes_on_from_the_files(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path, watch__buffer_mb=1)
    async with written.feed() as watching:
        watches = [written.live() for _ in range(200)]
        slow, *others = [Reader(is_slow=number == 0) for number in range(200)]
        for watch, reader in zip(watches, [slow, *others], strict=True):
            watch.begin(reader)
        await eventually(lambda: all(each.parts for each in [slow, *others]))
        steps = count_calls(watching, "queue")
        places = []
        for number in range(30):
            places.append(written.write(f"key {number}", value="x" * 50_000))
            await eventually(lambda: all(each.changes == len(places) for each in others))
        # Nobody looked at it but for a beat: it has a place, which the ring has gone past.
        assert len(slow.parts) == 1
        assert steps[watches[0]] < 10
        assert watches[0].place < watching.log.ring.start
        slow.is_slow = False
        async with all_of(watching.file_slots):
            watches[0].resume()
            places.append(written.write("more"))
            await eventually(lambda: all(each.changes == len(places) for each in others))
            assert slow.changes == 0
        await eventually(lambda: slow.changes == len(places))
        assert positions_of(slow) == positions_of(others[0]) == places
        for watch in watches:
            watch.lost()


@on_loop
async def test_many_show_life_some_at_a_time(tmp_path: Path, run_dir: Path) -> None:
    written = Written(tmp_path)
    async with written.feed() as watching:
        watches = [written.live() for _ in range(120)]
        readers = [Reader(is_slow=False) for _ in watches]
        for watch, reader in zip(watches, readers, strict=True):
            watch.begin(reader)
        await eventually(lambda: all(watch in watch.group.waiting for watch in watches))
        before = sum(len(each.parts) for each in readers)
        watching._living.extend(watches)
        watching._show_life(time.monotonic())
        assert sum(len(each.parts) for each in readers) == before + 50
        await eventually(lambda: all(len(each.parts) >= 2 for each in readers))


@on_loop
async def test_slow_reader_has_nothing_queued_and_is_cut_in_the_end(
    tmp_path: Path, run_dir: Path
) -> None:
    written = Written(tmp_path)
    async with written.feed() as watching:
        watch, other = written.live(), written.live()
        slow, fast = Reader(), Reader(is_slow=False)
        watch.begin(slow)
        other.begin(fast)
        await eventually(lambda: slow.taken and fast.taken)
        for number in range(100):
            written.write(f"key {number}", value="x" * 1000)
        await eventually(lambda: fast.taken > 100_000)
        assert slow.taken < 1000
        slow.is_slow = False
        watch.resume()
        await eventually(lambda: slow.taken == fast.taken)
        slow.is_slow = True
        before = slow.taken
        written.write("more")
        await eventually(lambda: slow.taken > before)
        watch.live(time.monotonic())
        assert not slow.is_cut
        watch.live(time.monotonic() + 31)
        assert slow.is_cut
        assert watching._count == 1
        other.lost()
