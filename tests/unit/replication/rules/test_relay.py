"""The rules of a relay, on a log in memory."""

from __future__ import annotations

from synap.frame import VERSION
from synap.position import START, Reign
from synap.replication.rules.ancestry import Ancestry
from synap.replication.rules.master import MasterHooks, MasterOptions
from synap.replication.rules.messages import (
    BUSY,
    MAX_HOPS,
    AboutMaster,
    Ack,
    Heartbeat,
    Hello,
    Inquiry,
    Refusal,
    Welcome,
)
from synap.replication.rules.relay import RelayMaster
from tests.unit.replication.rules.follower_bench import (
    FOREIGN,
    FRAMES,
    HISTORY,
    LINEAGE,
    SECOND_NS,
    MemoryLog,
)

ABOVE = Ancestry(
    path=("top",),
    master="master",
    url="http://master:15500",
    peers=("top:15502",),
    clock_ms=77_000,
    interval_ms=2000,
    age_ms=300,
    known_offset=9,
    lag_ms=40,
    about=AboutMaster("0.1.0", 5, "disk_full"),
)


class Transfers:
    """Nobody fetches anything."""

    def drop(self, peer: bytes) -> None:
        """Have nothing."""

    def expire(self, now_ns: int, timeout_ns: int) -> None:
        """Have nothing."""


class Bench:
    """A relay that holds some frames; keeps what it sends."""

    def __init__(self, held: int, above: Ancestry | None = ABOVE) -> None:
        self.log = MemoryLog(FRAMES[:held], LINEAGE)
        self.above = above
        self.sent: list = []
        self.ended: list[int] = []
        hooks = MasterHooks(
            send=lambda _, message: self.sent.append(message) is None,
            look_up=self.look_up,
            complain=lambda violation, _: self.sent.append(violation),
            on_ack=lambda: None,
            on_higher_epoch=self.ended.append,
            on_restart_over=lambda: None,
            is_known=lambda _: True,
        )
        options = MasterOptions("one", "http://one:15500", 1000, 30 * SECOND_NS, 10_000, 2**18)
        self.relay = RelayMaster(self.log, options, hooks, lambda: self.above)
        self.relay.serve(Transfers(), None)
        self.now_ns = SECOND_NS

    def look_up(self, peer, address, hello):
        offset = hello.position.offset
        there = START if not offset else None
        if 0 < offset <= len(self.log.frames):
            there = self.log.frames[offset - 1].position
        self.relay.welcome(peer, address, hello, 1, there, self.now_ns, 0)

    def hear(self, message, peer: bytes = b"p") -> list:
        self.sent.clear()
        self.relay.receive(peer, "10.0.0.9", message, self.now_ns, 0)
        return list(self.sent)


def hello_at(end: int, lineage=LINEAGE, **told: object) -> Hello:
    position = FRAMES[end - 1].position if end else START
    return Hello("leaf", position, lineage, format=VERSION, votes=False, **told)


def test_heartbeat_of_a_relay_tells_of_those_above_it():
    """Cites V1 and V3."""
    told = Bench(5).relay.heartbeat(1)
    assert told == Heartbeat(
        HISTORY, 1, 5, 77_000, 2000, path=("top", "one"), age_ms=300, known_offset=9, lag_ms=40,
        about=ABOVE.about,
    )  # fmt: skip


def test_relay_that_heard_no_master_since_its_start_is_silent_and_welcomes_nobody():
    """Cites V1."""
    bench = Bench(5, above=None)
    assert bench.relay.heartbeat(1) is None
    assert bench.relay.streamed(FRAMES[5], 1, 1) is not None
    assert [each.reason for each in bench.hear(hello_at(3))] == [BUSY]


def test_relay_as_far_down_as_may_be_serves_nobody():
    """Cites V2."""
    bench = Bench(5)
    bench.above = Ancestry(("n",) * MAX_HOPS, "master", "", (), 1, 1000, 0, 0, 0)
    assert bench.relay.heartbeat(1) is None


def test_welcome_of_a_relay_names_the_master():
    (welcome,) = Bench(5).hear(hello_at(3))
    assert isinstance(welcome, Welcome)
    assert (welcome.master, welcome.url, welcome.peers) == ("master", ABOVE.url, ABOVE.peers)
    assert welcome.position == FRAMES[4].position


def test_replica_that_holds_more_than_the_relay_is_answered_when_that_has_it():
    """Cites V4."""
    bench = Bench(5)
    assert bench.hear(hello_at(7)) == []
    assert bench.relay.is_waiting("leaf")
    # It says nothing else meanwhile, and is told nothing.
    assert bench.hear(Ack(7, 1, "in_sync")) == []
    bench.log.append_frames(FRAMES[5:8])
    bench.relay.look_at_waiting()
    assert [type(each) for each in bench.sent] == [Welcome]
    assert not bench.relay.is_waiting("leaf")


def test_replica_of_a_newer_reign_waits_until_the_relay_knows_it():
    """Cites V4."""
    bench = Bench(5)
    newer = (*LINEAGE, Reign(2, FOREIGN, 6))
    assert bench.hear(hello_at(5, newer)) == []
    assert bench.ended == []
    bench.log.adopt(newer)
    bench.relay.look_at_waiting()
    assert [type(each) for each in bench.sent] == [Welcome]


def test_more_than_may_wait_have_to_come_back():
    """Cites V4."""
    bench = Bench(5)
    answers = [bench.hear(hello_at(7), b"%d" % number) for number in range(65)]
    assert answers[:64] == [[]] * 64
    assert [each.reason for each in answers[64] if isinstance(each, Refusal)] == [BUSY]


def test_who_waited_for_too_long_is_forgotten():
    """Cites V4."""
    bench = Bench(5)
    bench.hear(hello_at(7))
    bench.relay.expire(bench.now_ns + 31 * SECOND_NS)
    assert not bench.relay.is_waiting("leaf")


def test_relay_answers_for_no_reign():
    """Cites V5."""
    bench = Bench(5)
    rival = (*LINEAGE, Reign(9, FOREIGN, 3))
    assert bench.hear(Inquiry("old master")) == []
    assert bench.hear(hello_at(3, rival, is_master=True)) == []
    assert bench.ended == []


def test_acks_of_those_who_do_not_vote_count_for_no_quorum():
    """Cites V5."""
    bench = Bench(5)
    bench.hear(hello_at(5))
    bench.hear(Ack(5, 1, "in_sync"))
    assert [each.offset for each in bench.relay.replicas(bench.now_ns)] == [5]
    assert (bench.relay.held_offset(1), bench.relay.holder_count) == (0, 0)
