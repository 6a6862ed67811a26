"""A follower driven by hand: a log in memory, a clock of its own, messages in, requests out."""

from __future__ import annotations

from collections.abc import Sequence

from synap.errors import OffsetGap
from synap.frame import SET, Entry, Frame, encode_frame, follows
from synap.position import START, Lineage, Position, Reign
from synap.replication.rules.follower import Follower
from synap.replication.rules.follower_io import FollowerOptions
from synap.replication.rules.messages import Chunk, Heartbeat, Published, Welcome
from synap.replication.rules.progress import NS_PER_MS, LinkState

SECOND_NS = 1_000 * NS_PER_MS
HISTORY = bytes(range(16))
FOREIGN = HISTORY[::-1]
LINEAGE = (Reign(1, HISTORY, 1),)
URL = "http://master:15500"


class MemoryLog:
    """A log in memory: the same rules as the one on disk."""

    def __init__(self, frames: Sequence[Frame] = (), lineage: Lineage = ()) -> None:
        self.frames = list(frames)
        self.lineage = lineage
        self.has_synced = bool(self.frames)
        self.sealed_epoch = 0
        self.sealed_for = ""

    def note_synced(self) -> None:
        self.has_synced = True

    @property
    def position(self) -> Position:
        return self.frames[-1].position if self.frames else START

    def append_frames(self, frames: Sequence[Frame]) -> None:
        position = self.position
        for frame in frames:
            if not follows(frame, position):
                raise OffsetGap
            position = frame.position
        self.frames.extend(frames)

    def adopt(self, lineage: Lineage) -> None:
        self.lineage = lineage

    def frames_behind(self, position: Position, _: int) -> bytes:
        ends = [START, *(frame.position for frame in self.frames)]
        if position not in ends:
            return b""
        return b"".join(frame.encoded for frame in self.frames[ends.index(position) :])


def log_of(count: int, value: bytes = b"value") -> list[Frame]:
    """Return frames of one entry each that follow each other; frame n is at index n - 1."""
    frames: list[Frame] = []
    position = START
    for _ in range(count):
        entries = [Entry(SET, b"key", value)]
        frames.append(encode_frame(entries, previous=position, epoch=1, time_ms=1))
        position = frames[-1].position
    return frames


FRAMES = log_of(30)


class Bench:
    """A follower with a clock of its own."""

    def __init__(self, held: int = 0, lineage: Lineage | None = None, fresh_ns: int = 0) -> None:
        if lineage is None:
            lineage = LINEAGE if held else ()
        self.log = MemoryLog(FRAMES[:held], lineage)
        options = FollowerOptions("replica", "", 1000, 10_000, 5000)
        self.follower = Follower(self.log, options, 1 if held else 0, fresh_ns)
        self.now_ns = 1000 * SECOND_NS
        self.follower.connect(self.now_ns)

    def beat(
        self, last_offset: int, history: bytes = HISTORY, held: tuple[int, ...] | None = None
    ) -> None:
        beat = Heartbeat(history, 1, last_offset, 1000, 1000, held)
        self.follower.hear(beat, b"", self.now_ns)

    def publish(self, *frames: Frame, history: bytes = HISTORY) -> None:
        for frame in frames:
            self.follower.hear(Published(history), frame.encoded, self.now_ns)

    def welcome(self, end: int, lineage: Lineage = LINEAGE) -> None:
        position = FRAMES[end - 1].position if end else START
        self.receive(Welcome("master", position, lineage, URL))

    def receive(self, message, bulk: bytes = b"") -> None:
        self.follower.receive(message, bulk, self.now_ns)

    def chunk(self, request: int, sequence: int, frames: Sequence[Frame], is_last: bool) -> None:
        bulk = b"".join(frame.encoded for frame in frames)
        self.receive(Chunk(request, sequence, is_last), bulk)

    def settle(self) -> list:
        self.follower.settle(self.now_ns)
        return self.sent()

    def sent(self) -> list:
        sent = list(self.follower.outbox)
        self.follower.outbox.clear()
        return sent

    def join(self, end: int) -> None:
        self.beat(end)
        self.welcome(end)
        self.sent()

    @property
    def state(self) -> LinkState:
        return self.follower.status(self.now_ns).state
