"""Who wants to know of which key, and how far all of them are.

A lane is a head that moves along the log, and the watchers that have had everything up to it. Where
it moves on, those who want a key of what came are woken; the others are at the new head with it,
and nothing is done for them. So ten thousand that wait for other keys cost nothing.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence

from synap.watch.changes import Batch
from synap.watch.filters import Selector
from synap.watch.forms import Manner, change


class Watcher:
    """A place in the log, and what is told from there on.

    Attributes:
        group: What it shares with watchers of the same keys.
        manner: How it is told.
        place: The offset up to which it has had everything; while it waits, that or the lane's
            head, whichever is further.
    """

    __slots__ = ("group", "manner", "place")

    def __init__(self, group: Group, manner: Manner, place: int) -> None:
        self.group = group
        self.manner = manner
        self.place = place

    def wake(self) -> None:
        """Learn that there is something new after `place`. For a subclass."""


class Gathered:
    """Events that follow a place. Belongs to all who were told of them: change nothing.

    Attributes:
        events: In order.
        place: The last offset that was looked at.
    """

    __slots__ = ("_part", "events", "place")

    def __init__(self, events: list[bytes], place: int) -> None:
        self.events = events
        self.place = place
        self._part: bytes | None = None

    @property
    def part(self) -> bytes:
        """All of them, as they go into a stream."""
        events = self.events
        if len(events) == 1:
            return events[0]
        if self._part is None:
            self._part = b"".join(events)
        return self._part


NOTHING = Gathered([], 0)


class Group:
    """The watchers of one lane with the same selector.

    Attributes:
        selector: Theirs.
        waiting: Those that have had everything.
        size: How many there are, those that do not wait too.
    """

    __slots__ = ("_made", "_until", "look", "selector", "size", "waiting")

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        self.waiting: dict[Watcher, None] = {}
        self.size = 0
        # The number of the move that woke it last.
        self.look = 0
        # What was gathered up to the newest head, by where that begins: many that wait are woken by
        # the same.
        self._until = 0
        self._made: dict[tuple[int, Manner], Gathered] = {}

    def known(self, watcher: Watcher, until: int) -> Gathered | None:
        """Return what another watcher at the same place was told; None where there was none."""
        if until != self._until:
            return None
        return self._made.get((watcher.place, watcher.manner))

    def gather(
        self,
        watcher: Watcher,
        batches: Sequence[Batch],
        until: int,
        limit_bytes: int,
        limit_events: int,
    ) -> Gathered:
        """Return the next events for a watcher.

        Args:
            batches: What follows its place.
            until: The head up to which they do.
            limit_bytes: Ends with the event that reaches it.
            limit_events: From 1.
        """
        if not batches:
            return Gathered([], until)
        made = gather(batches, self.selector, watcher.manner, limit_bytes, limit_events)
        if self.size > 1 and limit_events > len(made.events):
            if until != self._until:
                self._until, self._made = until, {}
            self._made[watcher.place, watcher.manner] = made
        return made

    def forget(self) -> None:
        """Forget what was gathered: the log is another one."""
        self._until, self._made = 0, {}


def gather(
    batches: Iterable[Batch],
    selector: Selector,
    manner: Manner,
    limit_bytes: int,
    limit_events: int,
) -> Gathered:
    """Return the events of batches; see `Group.gather`."""
    events: list[bytes] = []
    place = 0
    for batch in batches:
        numbers = batch.select(selector)
        if numbers:
            events.append(change(batch, numbers, manner))
            limit_bytes -= len(events[-1])
        place = batch.last_offset
        if limit_bytes <= 0 or len(events) >= limit_events:
            break
    return Gathered(events, place)


class Lane:
    """Watchers that are told up to the same head.

    Attributes:
        head: The last offset that they may be told of.
    """

    def __init__(self, head: int) -> None:
        self.head = head
        self._groups: dict[Selector, Group] = {}
        self._exact: dict[bytes, list[Group]] = {}
        self._beginnings: dict[bytes, list[Group]] = {}
        # Of these, shortest first; and how many have each.
        self._lengths: list[int] = []
        self._looks = 0

    @property
    def is_empty(self) -> bool:
        return not self._groups

    def join(self, selector: Selector) -> Group:
        """Count one more watcher in; `leave` takes it back."""
        group = self._groups.get(selector)
        if group is None:
            group = self._groups[selector] = Group(selector)
            for index, names in self._places(selector):
                for name in names:
                    index.setdefault(name, []).append(group)
            self._count_lengths()
        group.size += 1
        return group

    def leave(self, watcher: Watcher) -> None:
        """Count a watcher out."""
        group = watcher.group
        group.waiting.pop(watcher, None)
        group.size -= 1
        if group.size:
            return
        del self._groups[group.selector]
        for index, names in self._places(group.selector):
            for name in names:
                index[name].remove(group)
                if not index[name]:
                    del index[name]
        self._count_lengths()

    def wait(self, watcher: Watcher) -> bool:
        """Have a watcher woken by what comes; False where there is something that it lacks."""
        if watcher.place < self.head:
            return False
        watcher.group.waiting[watcher] = None
        return True

    def place_of(self, watcher: Watcher) -> int:
        """Return up to which offset a watcher has had everything."""
        if watcher in watcher.group.waiting:
            return max(watcher.place, self.head)
        return watcher.place

    def stop_waiting(self, watcher: Watcher) -> None:
        """Have a watcher wait no more, for another reason than something new."""
        watcher.place = self.place_of(watcher)
        watcher.group.waiting.pop(watcher, None)

    def begin_at(self, head: int) -> None:
        """Begin on another log, while nobody waits."""
        self.head = head
        for group in self._groups.values():
            group.forget()

    def advance(self, batches: Iterable[Batch] | None, head: int) -> None:
        """Move on to `head`, and wake those that want something of what came.

        Args:
            batches: What lies between the old head and the new one; None where that is not known.
        """
        before, self.head = self.head, head
        self._looks += 1
        for group in list(self._groups.values()) if batches is None else self._concerned(batches):
            waiting, group.waiting = group.waiting, {}
            for watcher in waiting:
                watcher.place = max(watcher.place, before)
                watcher.wake()

    def _concerned(self, batches: Iterable[Batch]) -> list[Group]:
        """Return the groups that want something of it."""
        concerned: list[Group] = []
        count = len(self._groups)
        for batch in batches:
            for key in batch.told_keys():
                if len(concerned) == count:
                    return concerned
                groups = self._groups.values() if key is None else self._found(key)
                concerned += [group for group in groups if self._is_new(group)]
        return concerned

    def _is_new(self, group: Group) -> bool:
        """Say whether a group is not woken yet in this move; it is from now on."""
        if group.look == self._looks:
            return False
        group.look = self._looks
        return True

    def _found(self, key: bytes) -> Iterator[Group]:
        yield from self._exact.get(key, ())
        beginnings = self._beginnings
        for length in self._lengths:
            if length > len(key):
                return
            yield from beginnings.get(key[:length], ())

    def _places(
        self, selector: Selector
    ) -> Iterator[tuple[dict[bytes, list[Group]], tuple[bytes, ...]]]:
        wanted = selector.filter
        yield self._exact, tuple(wanted.keys)
        yield self._beginnings, tuple(dict.fromkeys(wanted.beginnings()))

    def _count_lengths(self) -> None:
        self._lengths = []
        for length in {len(name) for name in self._beginnings}:
            insort(self._lengths, length)
