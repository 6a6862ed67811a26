"""A replica that promised an epoch: nothing of a reign below it is acknowledged, or told."""

from __future__ import annotations

import pytest

from synap.position import UNASKED, Lineage, Reign
from synap.replication.rules.messages import Ack, Heartbeat, Hello, Refusal, Welcome
from synap.replication.rules.progress import LinkState
from synap.replication.rules.reigns import asked_epoch, is_sealed
from tests.unit.replication.rules.follower_bench import FRAMES, HISTORY, LINEAGE, SECOND_NS, Bench

(FIRST,) = LINEAGE
NEXT = Reign(2, b"n" * 16, 4)
# What the master of the first reign begins by itself after a crash.
CRASHED = Reign(2, UNASKED + b"c" * 12, 4)
CRASHED_LATER = Reign(7, UNASKED + b"d" * 12, 9)


def sealed(held: int = 3, epoch: int = 2) -> Bench:
    """Return a joined replica that has just promised an epoch."""
    bench = Bench(held=held)
    bench.join(held)
    bench.settle()
    bench.log.sealed_epoch, bench.log.sealed_for = epoch, "master"
    bench.follower.seal()
    return bench


def test_sealed_replica_acknowledges_nothing_of_the_old_reign():
    """Cites S1."""
    bench = sealed()
    bench.publish(FRAMES[3])
    bench.beat(4)
    assert bench.settle() == []
    assert bench.log.frames == FRAMES[:3]


def test_seal_takes_back_an_ack_that_was_not_sent():
    """Cites S1."""
    bench = Bench(held=3)
    bench.join(4)
    bench.publish(FRAMES[3])
    bench.follower.settle(bench.now_ns)
    assert Ack(4, 1, LinkState.IN_SYNC) in bench.follower.outbox
    bench.log.sealed_epoch = 2
    bench.follower.seal()
    assert not [each for each in bench.sent() if isinstance(each, Ack)]


def test_sealed_replica_says_no_hello_to_the_old_master():
    """A hello tells a position, which counts as an ack does. Cites S1."""
    bench = sealed()
    bench.follower.disconnect("cut")
    bench.follower.connect(bench.now_ns)
    bench.beat(5)
    for _ in range(3):
        bench.now_ns += 6 * SECOND_NS
        bench.beat(5)
        bench.follower.tick(bench.now_ns)
        bench.receive(Refusal("hello_wanted"))
    assert bench.sent() == []
    assert "promised" in bench.follower.status(bench.now_ns).note


def test_sealed_replica_greets_the_candidate():
    """Cites S2."""
    bench = sealed()
    bench.follower.hear(Heartbeat(NEXT.history, 2, 3, 1000, 1000), b"", bench.now_ns)
    assert isinstance(bench.sent()[0], Hello)
    bench.receive(Welcome("master", FRAMES[2].position, (FIRST, NEXT), "http://n:1"))
    bench.follower.hear(Heartbeat(NEXT.history, 2, 3, 1000, 1000), b"", bench.now_ns)
    assert bench.settle() == [Ack(3, 1, "in_sync")]


def test_sealed_replica_follows_nobody_else_in_the_promised_epoch():
    """Two that were promoted with one number: an ack to the other one would be lost. Cites S2."""
    bench = sealed()
    bench.follower.hear(Heartbeat(NEXT.history, 2, 3, 1000, 1000), b"", bench.now_ns)
    bench.sent()
    bench.receive(Welcome("rival", FRAMES[2].position, (FIRST, NEXT), "http://n:1"))
    assert bench.settle() == []
    assert "promised epoch 2 to master" in bench.follower.status(bench.now_ns).note


@pytest.mark.parametrize(
    ("lineage", "joins"), [((FIRST, CRASHED_LATER), False), ((FIRST, NEXT, CRASHED_LATER), True)]
)
def test_welcome_of_an_unasked_reign_counts_by_the_promotion_before_it(
    lineage: Lineage, joins: bool
):
    """A master that crashed often has a high number, and no more right. Cites S2."""
    bench = Bench(held=3)
    bench.log.sealed_epoch, bench.log.sealed_for = 2, "master"
    bench.beat(3, CRASHED_LATER.history)
    assert isinstance(bench.sent()[0], Hello)
    bench.receive(Welcome("master", FRAMES[2].position, lineage, "http://m:1"))
    assert bool(bench.settle()) is joins
    assert (bench.state is LinkState.CONNECTING) is not joins


@pytest.mark.parametrize(
    ("history", "epoch", "expected"),
    [
        (HISTORY, 1, True),
        (NEXT.history, 2, False),
        (CRASHED.history, 2, True),
        # Whose it is its welcome says.
        (CRASHED_LATER.history, 7, False),
    ],
)
def test_seal_ends_reigns_below_it(history: bytes, epoch: int, expected: bool):
    assert is_sealed(2, history, epoch, (FIRST, CRASHED)) is expected
    assert not is_sealed(0, history, epoch, (FIRST, CRASHED))


def test_asked_epoch_is_that_of_the_newest_promotion():
    assert [asked_epoch(each) for each in ((), (FIRST, CRASHED), (FIRST, NEXT))] == [0, 1, 2]
