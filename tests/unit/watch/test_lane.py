"""Who is woken by what, and what they are told."""

from __future__ import annotations

from random import Random

import pytest

from synap.watch.changes import Batch
from synap.watch.filters import Selector, filter_of
from synap.watch.lane import Lane
from synap.watch.ring import Ring
from tests.unit.watch.feeds import ALL, FLUSHED, HandWatcher, batches_of, keys_in, sets


def moved(lane: Lane, ring: Ring, *batches: Batch) -> None:
    for batch in batches:
        ring.add(batch)
    lane.advance(batches, ring.head)


def test_only_those_are_woken_that_want_a_key_of_it() -> None:
    lane, ring = Lane(0), Ring(0, 1 << 20)
    wanted = [
        filter_of(keys=[b"a"]), filter_of(prefixes=[b"b:"]), filter_of(patterns=[b"c*z"]),
        filter_of(), filter_of(keys=[b"other"], prefixes=[b"other:"]),
    ]  # fmt: skip
    watchers = [HandWatcher(lane, Selector(each)) for each in wanted]
    for each in watchers:
        assert lane.wait(each)
    first, second = batches_of(sets("a", "b:1"), sets("cz"))
    moved(lane, ring, first, second)
    assert [each.woken for each in watchers] == [1, 1, 1, 1, 0]
    assert [keys_in(each.read(ring)) for each in watchers[:4]] == [
        [["a"]], [["b:1"]], [["cz"]], [["a", "b:1"], ["cz"]],
    ]  # fmt: skip


def test_one_that_was_not_woken_is_at_the_head() -> None:
    lane, ring = Lane(0), Ring(0, 1 << 20)
    watcher = HandWatcher(lane, Selector(filter_of(keys=[b"a"])))
    lane.wait(watcher)
    batches = batches_of(sets("x", "y"), sets("a"))
    moved(lane, ring, batches[0])
    assert (watcher.woken, lane.place_of(watcher)) == (0, 2)
    moved(lane, ring, batches[1])
    assert watcher.woken == 1
    assert watcher.place == 2


def test_flush_wakes_everybody() -> None:
    lane, ring = Lane(0), Ring(0, 1 << 20)
    watcher = HandWatcher(lane, Selector(filter_of(keys=[b"a"])))
    lane.wait(watcher)
    moved(lane, ring, *batches_of([FLUSHED]))
    assert [event["changes"] for event in watcher.read(ring)] == [[{"op": "flush"}]]


def test_one_that_is_ahead_of_the_lane_sees_nothing_twice() -> None:
    lane, ring = Lane(0), Ring(0, 1 << 20)
    batches = batches_of(sets("a"), sets("b"), sets("c"))
    watcher = HandWatcher(lane, ALL, place=2)
    lane.wait(watcher)
    moved(lane, ring, *batches)
    assert keys_in(watcher.read(ring)) == [["c"]]


def test_move_without_its_batches_wakes_everybody() -> None:
    lane = Lane(0)
    watcher = HandWatcher(lane, Selector(filter_of(keys=[b"a"])))
    lane.wait(watcher)
    lane.advance(None, 7)
    assert (watcher.woken, watcher.place) == (1, 0)


def test_nothing_of_a_log_is_told_after_another_one_took_its_place() -> None:
    lane, ring = Lane(0), Ring(0, 1 << 20)
    watcher = HandWatcher(lane, ALL)
    lane.wait(watcher)
    moved(lane, ring, *batches_of(sets("lost")))
    assert keys_in(watcher.read(ring)) == [["lost"]]
    lane.stop_waiting(watcher)
    lane.begin_at(0)
    other, watcher.place = Ring(0, 1 << 20), 0
    moved(lane, other, *batches_of(sets("kept")))
    assert keys_in(watcher.read(other)) == [["kept"]]


def test_last_of_a_group_leaves_nothing_behind() -> None:
    lane = Lane(0)
    selector = Selector(filter_of([b"a"], [b"b"], [b"c*"]))
    watchers = [HandWatcher(lane, selector) for _ in range(2)]
    for each in watchers:
        lane.wait(each)
        lane.leave(each)
    assert lane.is_empty
    assert (lane._exact, lane._beginnings, lane._lengths) == ({}, {}, [])


class TooSoon(Lane):
    """Is at the new head before those that it wakes are told of it."""

    def advance(self, batches: object, head: int) -> None:
        self.head = head
        super().advance(batches, head)  # type: ignore[arg-type]


class Deaf(Lane):
    """Wakes nobody for the first batch of a move."""

    def advance(self, batches: object, head: int) -> None:
        super().advance(list(batches)[1:], head)  # type: ignore[call-overload]


class Forgetful(Ring):
    """Leaves the first batch out: off by one."""

    def after(self, offset: int, until: int) -> list[Batch] | None:
        return super().after(offset + 1, until)


class Generous(Ring):
    """Tells what lies before a place once more."""

    def after(self, offset: int, until: int) -> list[Batch] | None:
        return super().after(max(offset - 1, self.start), until)


class Early(Ring):
    """Tells what is not applied yet."""

    def after(self, offset: int, until: int) -> list[Batch] | None:
        return super().after(offset, self.head)


def follow(seed: int, lane_type: type[Lane] = Lane, ring_type: type[Ring] = Ring) -> None:
    """Have watchers of all kinds follow a log in steps of chance; each must have it whole."""
    random = Random(seed)
    names = [f"{letter}:{number}" for letter in "abc" for number in range(4)]
    batches = batches_of(*(sets(*random.sample(names, random.randint(1, 3))) for _ in range(60)))
    lane, ring = lane_type(0), ring_type(0, 1 << 30)
    filters = [
        filter_of(), filter_of(prefixes=[b"a:"]), filter_of(keys=[b"b:1", b"c:2"]),
        filter_of(patterns=[b"?:3"]),
    ]  # fmt: skip
    watchers = [HandWatcher(lane, Selector(each)) for each in filters]
    told: list[list[str]] = [[] for _ in watchers]
    for each in watchers:
        lane.wait(each)
    at = 0
    while at < len(batches):
        # What is read ahead is not applied yet.
        ahead = batches[ring_count(ring) : at + random.randint(1, 4)]
        for batch in ahead:
            ring.add(batch)
        following = batches[at : random.randint(at, ring_count(ring))]
        at += len(following)
        if following:
            lane.advance(following, following[-1].last_offset)
        for each, events in zip(watchers, told, strict=True):
            if each.woken and random.random() < 0.5:
                each.woken = 0
                events += _read(each, ring)
    for each, events in zip(watchers, told, strict=True):
        if each.woken:
            events += _read(each, ring)
        wanted = each.group.selector.accepts
        expected = [
            batch.token for batch in batches if any(wanted(change.key) for change in batch.changes)
        ]
        assert events == expected


def ring_count(ring: Ring) -> int:
    return len(ring._batches)


def _read(watcher: HandWatcher, ring: Ring) -> list[str]:
    head = watcher.lane.head
    tokens = [str(event["position"]) for event in watcher.read(ring)]
    assert all(int(token.partition("-")[0]) <= head for token in tokens), "told before its time"
    return tokens


@pytest.mark.parametrize("seed", range(10))
def test_every_watcher_has_every_change_once_and_in_order(seed: int) -> None:
    follow(seed)


@pytest.mark.parametrize(
    ("lane", "ring"),
    [(TooSoon, Ring), (Deaf, Ring), (Lane, Forgetful), (Lane, Generous), (Lane, Early)],
)
def test_planted_bug_is_seen(lane: type[Lane], ring: type[Ring]) -> None:
    def run() -> None:
        for seed in range(10):
            follow(seed, lane, ring)

    with pytest.raises(AssertionError):
        run()
