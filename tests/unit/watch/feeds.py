"""Frames, and a watcher that is driven by hand, for the tests of the feed's engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from synap.frame import DEL, FLUSH, SET, Entry, Frame, encode_frame
from synap.place import Reigns
from synap.position import START, Position, Reign
from synap.watch.changes import Batch, Values
from synap.watch.filters import Selector, filter_of
from synap.watch.forms import Form, Manner
from synap.watch.lane import Lane, Watcher
from synap.watch.ring import Ring

HISTORY = bytes.fromhex("9f2c11aa") + bytes(12)
REIGNS = Reigns((Reign(1, HISTORY, 1),))
ALL = Selector(filter_of())
INLINE = Values(is_inline=True, max_bytes=1024)
LIST = Manner(Form.LIST, INLINE)


def frames_of(batches: Iterable[Sequence[Entry]], previous: Position = START) -> list[Frame]:
    """Encode batches of entries as frames that follow each other."""
    frames = []
    for number, entries in enumerate(batches):
        frame = encode_frame(entries, previous=previous, epoch=1, time_ms=1000 + number)
        frames.append(frame)
        previous = frame.position
    return frames


def batches_of(*batches: Sequence[Entry]) -> list[Batch]:
    return [Batch(frame, REIGNS) for frame in frames_of(batches)]


def sets(*keys: str, value: str = "v") -> list[Entry]:
    return [Entry(SET, key.encode(), value.encode()) for key in keys]


def removal(key: str, cause: int = 0) -> Entry:
    return Entry(DEL, key.encode(), cause=cause)


FLUSHED = Entry(FLUSH)


class HandWatcher(Watcher):
    """A watcher that counts how often it is woken, and reads when it is told to."""

    def __init__(self, lane: Lane, selector: Selector, place: int = 0) -> None:
        super().__init__(lane.join(selector), LIST, place)
        self.lane = lane
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def read(self, ring: Ring, limit_bytes: int = 1 << 20) -> list[dict[str, object]]:
        """Return all events up to the head, then wait."""
        self.lane.stop_waiting(self)
        events: list[bytes] = []
        while self.place < self.lane.head:
            until = self.lane.head
            found = self.group.known(self, until)
            if found is None:
                batches = ring.after(self.place, until)
                assert batches, "the ring reaches back to it"
                found = self.group.gather(self, batches, until, limit_bytes, 1 << 20)
            self.place = found.place
            events += found.events
        assert self.lane.wait(self)
        return [json.loads(event) for event in events]


def keys_in(events: Iterable[dict[str, object]]) -> list[list[object]]:
    """Return the keys of each event's changes."""
    return [[change.get("key") for change in event["changes"]] for event in events]  # type: ignore[attr-defined]
