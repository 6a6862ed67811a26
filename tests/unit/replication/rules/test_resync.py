"""A replica's full resync as rules: what it asks for, believes, writes and waits for."""

from __future__ import annotations

from zlib import crc32

import pytest

from synap.errors import LinkLost, NothingToAccept, ProtocolViolation
from synap.position import START, Lineage, Position, Reign
from synap.replication.rules import plan
from synap.replication.rules.follower import Follower
from synap.replication.rules.follower_io import FollowerOptions
from synap.replication.rules.messages import (
    Ack,
    Credit,
    FetchSnapshot,
    Heartbeat,
    Hello,
    Refusal,
    SnapshotChunk,
    SnapshotOffer,
)
from synap.replication.rules.plan import Hold, Replace
from synap.replication.rules.progress import NS_PER_MS, LinkState
from synap.replication.rules.resync import CREDIT, Install, Receive, Write
from tests.unit.replication.rules.follower_bench import FOREIGN, FRAMES, HISTORY, LINEAGE, MemoryLog

SECOND_NS = 1000 * NS_PER_MS
NEXT = Reign(2, bytes(16)[:-1] + b"n", 11)
END = Position(1, 500, 7)
AT = Position(1, 400, 5)
IMAGE = bytes(range(250)) * 40
SHA = bytes(32)


class Bench:
    """A follower that is told that it needs a full resync."""

    def __init__(self, held: int = 0, lineage: Lineage = LINEAGE) -> None:
        self.log = MemoryLog(FRAMES[:held], lineage if held else ())
        options = FollowerOptions("replica", "", 1000, 10_000, 5000, can_resync=True)
        self.follower = Follower(self.log, options, applied_time_ms=1)
        self.now_ns = 1000 * SECOND_NS
        self.follower.connect(self.now_ns)

    def beat(self, history: bytes = HISTORY) -> None:
        self.follower.hear(Heartbeat(history, 1, 500, 1000, 1000), b"", self.now_ns)

    def receive(self, message: object, bulk: bytes = b"") -> None:
        self.follower.receive(message, bulk, self.now_ns)

    def refuse(
        self, reason: str = "needs_full_resync", lineage: Lineage = LINEAGE, common: int = 0
    ) -> None:
        self.beat()
        refusal = Refusal(reason, "why", common_offset=common, lineage=lineage, position=END)
        self.receive(refusal)

    def offer(self, request: int = 1, at_byte: int = 0, sha256: bytes = SHA) -> None:
        size = len(IMAGE)
        self.receive(SnapshotOffer(request, LINEAGE, AT, 9, 9, 3, size, sha256, "none", at_byte))

    def chunk(self, at_byte: int, end: int, request: int = 1) -> None:
        bulk = IMAGE[at_byte:end]
        self.receive(SnapshotChunk(request, at_byte, crc32(bulk)), bulk)

    def jobs(self) -> list:
        taken = list(self.follower.jobs)
        self.follower.jobs.clear()
        return taken

    def do_jobs(self, is_good: bool = True) -> list:
        done = self.jobs()
        for job in done:
            self.follower.done(job, is_good, self.now_ns)
        return done

    def sent(self, kind: type) -> list:
        sent = [each for each in self.follower.outbox if isinstance(each, kind)]
        self.follower.outbox.clear()
        return sent

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)
        self.beat()
        self.follower.tick(self.now_ns)

    @property
    def state(self) -> LinkState:
        return self.follower.status(self.now_ns).state


def test_refused_empty_replica_asks_for_a_snapshot():
    """Cites R1."""
    bench = Bench()
    bench.refuse()
    assert bench.sent(FetchSnapshot) == [FetchSnapshot(1, b"", 0, CREDIT)]
    assert bench.state is LinkState.SYNCING


def test_bytes_become_jobs_and_credit_comes_when_they_are_written():
    """Cites R2 and C1."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 4000)
    assert bench.sent(Credit) == []
    receive, write = bench.do_jobs()
    assert isinstance(receive, Receive)
    assert write == Write(0, IMAGE[:4000])
    assert bench.sent(Credit) == [Credit(1, 1)]


def test_last_byte_leads_to_the_installation_and_a_hello_after_it():
    """Cites R8 and R9."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 10_000)
    jobs = bench.jobs()
    assert isinstance(jobs[-1], Install)
    assert (jobs[-1].lineage, jobs[-1].switch) == (LINEAGE, Replace())
    bench.follower.outbox.clear()
    for job in jobs:
        bench.follower.done(job, True, bench.now_ns)
    assert len(bench.sent(Hello)) == 1


def test_nothing_is_said_but_acks_while_a_snapshot_is_installed():
    """Cites R8."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 10_000)
    bench.follower.outbox.clear()
    bench.receive(Refusal("hello_wanted"))
    bench.beat(FOREIGN)
    bench.follower.disconnect("cut")
    bench.follower.connect(bench.now_ns)
    bench.beat()
    assert bench.follower.outbox == [Ack(0, 0, "syncing")]
    bench.do_jobs()
    assert len(bench.sent(Hello)) == 1


def test_damaged_bytes_are_a_violation():
    """Cites R4."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    with pytest.raises(ProtocolViolation, match="damaged"):
        bench.receive(SnapshotChunk(1, 0, crc32(b"other")), b"bytes")


@pytest.mark.parametrize("bulk", [b"", IMAGE + b"more"])
def test_chunk_out_of_bounds_is_a_violation(bulk):
    """Cites R4."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    with pytest.raises(ProtocolViolation):
        bench.receive(SnapshotChunk(1, 0, crc32(bulk)), bulk)


def test_missing_chunk_is_asked_for_when_the_disk_has_answered():
    """Cites R5."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 1000)
    bench.chunk(2000, 3000)
    assert bench.sent(FetchSnapshot) == [FetchSnapshot(1, b"", 0, CREDIT)]
    bench.do_jobs()
    assert bench.sent(FetchSnapshot) == [FetchSnapshot(2, SHA, 1000, CREDIT)]


def test_new_link_asks_for_what_follows_the_bytes_held():
    """Cites R5."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 1000)
    bench.follower.disconnect("cut")
    bench.do_jobs()
    bench.follower.connect(bench.now_ns)
    bench.refuse()
    assert bench.sent(FetchSnapshot) == [FetchSnapshot(2, SHA, 1000, CREDIT)]
    bench.offer(2, at_byte=1000)
    bench.chunk(1000, 10_000, request=2)
    assert [type(job) for job in bench.jobs()] == [Write, Install]


def test_other_snapshot_begins_anew():
    """Cites R5."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 1000)
    bench.do_jobs()
    bench.follower.disconnect("cut")
    bench.follower.connect(bench.now_ns)
    bench.refuse()
    bench.offer(2, sha256=bytes(31) + b"x")
    assert [type(job) for job in bench.jobs()] == [Receive]


def test_offer_from_a_byte_that_is_not_held_is_a_violation():
    """Cites R5."""
    bench = Bench()
    bench.refuse()
    with pytest.raises(ProtocolViolation):
        bench.offer(at_byte=10)


def test_offer_of_another_lineage_is_a_violation():
    """Cites R4."""
    bench = Bench()
    bench.refuse(lineage=(Reign(1, FOREIGN, 1),))
    with pytest.raises(ProtocolViolation):
        bench.offer()


def test_offer_of_a_lineage_that_is_longer_than_a_message_is_taken():
    """Cites R4: of both lineages the newest reigns alone are told."""
    reigns = tuple(Reign(n, n.to_bytes(16, "big"), n) for n in range(1, 1003))
    bench = Bench()
    bench.refuse(lineage=reigns[-1000:])
    offer = SnapshotOffer(1, reigns[:1000], AT, 9, 9, 3, len(IMAGE), SHA, "none", 0)
    bench.receive(offer)
    assert [type(job) for job in bench.jobs()] == [Receive]


def test_replica_that_must_wait_asks_again_in_time():
    """Cites R2."""
    bench = Bench()
    bench.refuse()
    bench.sent(FetchSnapshot)
    bench.receive(Refusal("wait", "others first", 1, wait_ms=700))
    bench.wait(0.5)
    assert bench.sent(FetchSnapshot) == []
    bench.wait(0.3)
    assert bench.sent(FetchSnapshot) == [FetchSnapshot(2, b"", 0, CREDIT)]


def test_refused_disk_begins_anew_after_a_while():
    """Cites R6."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.chunk(0, 10_000)
    bench.follower.outbox.clear()
    bench.do_jobs(is_good=False)
    bench.wait(1)
    assert bench.sent(FetchSnapshot) == []
    bench.wait(5)
    assert bench.sent(FetchSnapshot) == [FetchSnapshot(2, b"", 0, CREDIT)]


def test_master_that_sends_nothing_loses_the_link():
    """Cites R10."""
    bench = Bench()
    bench.refuse()
    bench.wait(2)
    with pytest.raises(LinkLost, match="no progress"):
        bench.wait(1.5)


def test_own_slow_disk_is_not_held_against_the_master():
    """Cites R10."""
    bench = Bench()
    bench.refuse()
    bench.offer()
    bench.wait(60)
    assert bench.state is LinkState.SYNCING


def test_replica_ahead_of_a_promotion_resyncs_and_keeps_its_tail():
    """Cites R11."""
    bench = Bench(held=20)
    bench.refuse("diverged", (*LINEAGE, NEXT), common=10)
    bench.offer()
    bench.chunk(0, 10_000)
    assert bench.jobs()[-1].switch == Replace(kept_after=10)


def test_foreign_replica_holds_until_it_is_accepted():
    """Cites R12."""
    bench = Bench(held=20)
    bench.refuse("diverged", (Reign(1, FOREIGN, 1),))
    assert bench.sent(FetchSnapshot) == []
    assert bench.state is LinkState.DIVERGED
    bench.follower.accept(bench.now_ns)
    bench.refuse("diverged", (Reign(1, FOREIGN, 1),))
    assert len(bench.sent(FetchSnapshot)) == 1


def test_operator_may_accept_while_the_replica_asks_again():
    """Cites R12."""
    bench = Bench(held=20)
    bench.refuse("diverged", (Reign(1, FOREIGN, 1),))
    bench.follower.outbox.clear()
    for _ in range(100):
        bench.wait(0.2)
        if bench.sent(Hello):
            break
    else:
        raise AssertionError("it never asked again")
    bench.follower.accept(bench.now_ns)
    assert bench.sent(Hello) == []
    bench.refuse("diverged", (Reign(1, FOREIGN, 1),))
    assert len(bench.sent(FetchSnapshot)) == 1


def test_word_of_the_operator_is_about_one_master_alone():
    """Cites R12."""
    bench = Bench(held=20)
    bench.refuse("diverged", (Reign(1, FOREIGN, 1),))
    bench.follower.accept(bench.now_ns)
    bench.refuse("diverged", (Reign(1, bytes(16), 1),))
    assert bench.sent(FetchSnapshot) == []
    assert bench.state is LinkState.DIVERGED


def test_replica_that_is_not_diverged_has_nothing_to_accept():
    """Cites R12."""
    with pytest.raises(NothingToAccept):
        Bench().follower.accept(0)


OWN = Position(1, 20, 3)


@pytest.mark.parametrize(
    ("own", "lineage", "offered", "is_accepted", "expected"),
    [
        (START, (), LINEAGE, False, Replace()),
        (OWN, LINEAGE, LINEAGE, False, Replace()),
        (OWN, LINEAGE, (*LINEAGE, NEXT), False, Replace(kept_after=10)),
        (OWN, LINEAGE, (Reign(1, FOREIGN, 1),), True, Replace(kept_after=0, keeps_store=True)),
    ],
)
def test_remedy_is_a_switch(own, lineage, offered, is_accepted, expected):
    """Cites R11."""
    assert plan.remedy(own, lineage, offered, END, is_accepted=is_accepted) == expected


@pytest.mark.parametrize(
    ("lineage", "offered"),
    [
        (LINEAGE, ()),
        (LINEAGE, (Reign(1, FOREIGN, 1),)),
        ((*LINEAGE, NEXT), LINEAGE),
    ],
)
def test_remedy_is_to_hold(lineage, offered):
    """Cites R12."""
    assert isinstance(plan.remedy(OWN, lineage, offered, END, is_accepted=False), Hold)


def test_offer_may_name_a_reign_that_wrote_nothing_and_was_given_up():
    """Cites R4."""
    bench = Bench()
    bench.refuse()
    given_up = Reign(2, FOREIGN, AT.offset + 1)
    size = len(IMAGE)
    bench.receive(SnapshotOffer(1, (*LINEAGE, given_up), AT, 9, 9, 3, size, SHA, "none", 0))
    assert isinstance(bench.jobs()[0], Receive)


def test_offer_of_a_reign_that_wrote_and_is_not_the_masters_is_refused():
    """Cites R4."""
    bench = Bench()
    bench.refuse()
    foreign = Reign(2, FOREIGN, AT.offset)
    size = len(IMAGE)
    with pytest.raises(ProtocolViolation):
        bench.receive(SnapshotOffer(1, (*LINEAGE, foreign), AT, 9, 9, 3, size, SHA, "none", 0))
