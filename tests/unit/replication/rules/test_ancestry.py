"""What a replica knows of the nodes above it, and a follower that hears a relay."""

from __future__ import annotations

import pytest

from synap.errors import LinkLost, UpstreamOrphaned
from synap.position import Reign
from synap.replication.rules.ancestry import Way
from synap.replication.rules.follower import Follower
from synap.replication.rules.follower_io import FollowerOptions
from synap.replication.rules.lag import lag_ms
from synap.replication.rules.messages import DIVERGED, MAX_HOPS, Heartbeat, Hello, Refusal
from synap.replication.rules.progress import NS_PER_MS, LinkState
from tests.unit.replication.rules import follower_bench
from tests.unit.replication.rules.follower_bench import FOREIGN, FRAMES, HISTORY, LINEAGE, SECOND_NS

NEXT = (*LINEAGE, Reign(2, FOREIGN, 6))


class Bench(follower_bench.Bench):
    """A follower of relays, by default of one that hears its master itself."""

    def __init__(self, held: int = 0, lineage=None) -> None:
        super().__init__(held, lineage)
        options = FollowerOptions(
            "leaf", "", 1000, 10_000, 5000, can_resync=True, votes=False, patience_ms=30_000
        )
        self.follower = Follower(self.log, options, 1 if held else 0)
        self.follower.connect(self.now_ns)

    def beat(self, last_offset, history=HISTORY, **told):
        beat = Heartbeat(history, 1, last_offset, 1000, 1000, **{"path": ("one",), **told})
        self.follower.hear(beat, b"", self.now_ns)


def beat_by(*path: str, age_ms: int = 0) -> Heartbeat:
    return Heartbeat(HISTORY, 1, 0, 1000, 1000, path=path, age_ms=age_ms)


def test_way_counts_the_links_to_the_master():
    way = Way("leaf", 0)
    assert way.hops == 0
    way.hear(beat_by(), 1)
    assert (way.hops, way.is_relayed) == (1, False)
    way.hear(beat_by("one", "two"), 1)
    assert (way.hops, way.is_relayed) == (3, True)


def test_way_that_leads_through_the_own_name_is_refused_as_a_loop():
    """Cites V2."""
    with pytest.raises(LinkLost, match="a loop is refused"):
        Way("two", 0).hear(beat_by("one", "two", "three"), 1)


def test_way_of_too_many_hops_is_refused():
    """Cites V2."""
    with pytest.raises(LinkLost, match="hops away"):
        Way("leaf", 0).hear(beat_by(*map(str, range(MAX_HOPS))), 1)


def test_replica_of_relays_says_that_it_does_not_vote():
    """Cites V5."""
    bench = Bench()
    bench.beat(0)
    (hello,) = bench.sent()
    assert isinstance(hello, Hello)
    assert not hello.votes


def test_age_of_what_a_relay_brings_is_that_of_its_master():
    """Cites V3."""
    bench = Bench(held=5)
    bench.beat(5, age_ms=8000)
    bench.welcome(5)
    status = bench.follower.status(bench.now_ns)
    assert lag_ms(bench.now_ns, status.lag_since_ns, status.fresh_ns, status.heartbeat_ns) == 8000


def test_entries_that_the_relay_lacks_too_count_as_lag():
    """Cites V3."""
    bench = Bench(held=5)
    bench.beat(5)
    bench.welcome(5)
    bench.beat(5, known_offset=8, lag_ms=700)
    assert bench.settle()[-1].offset == 5
    status = bench.follower.status(bench.now_ns)
    assert (status.master_offset, bench.now_ns - status.lag_since_ns) == (8, 700 * NS_PER_MS)
    bench.publish(*FRAMES[5:8])
    bench.settle()
    assert bench.follower.status(bench.now_ns).lag_since_ns == 0


def test_relay_tells_those_below_what_it_was_told():
    """Cites V1 and V3."""
    bench = Bench(held=5)
    assert bench.follower.ancestry(bench.now_ns) is None
    bench.beat(5, age_ms=300)
    bench.welcome(5)
    bench.now_ns += 200 * NS_PER_MS
    told = bench.follower.ancestry(bench.now_ns)
    assert told is not None
    assert (told.path, told.master, told.age_ms) == (("one",), "master", 500)
    assert (told.url, told.clock_ms) == (follower_bench.URL, 1200)


@pytest.mark.parametrize(
    ("lineage", "end"), [(LINEAGE, 5), ((Reign(1, HISTORY, 1),), 10)], ids=["shorter", "older"]
)
def test_relay_that_lacks_what_the_replica_holds_is_left_and_nothing_put_aside(lineage, end):
    """Cites V4."""
    bench = Bench(held=10, lineage=NEXT if end == 10 else LINEAGE)
    bench.beat(end)
    with pytest.raises(LinkLost, match="has not yet"):
        bench.receive(
            Refusal(DIVERGED, common_offset=5, lineage=lineage, position=FRAMES[end - 1].position)
        )
    assert not bench.follower.jobs
    assert bench.state is not LinkState.DIVERGED


def test_relay_without_a_master_is_left_for_another_one():
    """Cites V6."""
    bench = Bench(held=5)
    bench.beat(5)
    bench.welcome(5)
    bench.beat(5, age_ms=30_000)
    bench.follower.tick(bench.now_ns)
    bench.now_ns += SECOND_NS
    with pytest.raises(UpstreamOrphaned):
        bench.follower.tick(bench.now_ns)


def test_patient_replica_stays_with_a_relay_without_a_master_until_one_is_heard():
    """Cites V6."""
    bench = Bench(held=5)
    bench.beat(5, age_ms=40_000)
    bench.follower.be_patient()
    bench.follower.tick(bench.now_ns)
    bench.beat(5)
    bench.follower.tick(bench.now_ns)
    bench.beat(5, age_ms=40_000)
    with pytest.raises(UpstreamOrphaned):
        bench.follower.tick(bench.now_ns)


def test_new_link_is_not_judged_by_what_the_one_before_said():
    """Cites V6."""
    bench = Bench(held=5)
    bench.beat(5, age_ms=40_000)
    with pytest.raises(UpstreamOrphaned):
        bench.follower.tick(bench.now_ns)
    bench.follower.connect(bench.now_ns)
    bench.follower.tick(bench.now_ns)
    assert bench.follower.status(bench.now_ns).state is LinkState.CONNECTING
