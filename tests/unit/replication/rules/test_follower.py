"""The replica's side of a link, driven by hand: messages and times in, requests out."""

from __future__ import annotations

import ast
import inspect
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.errors import LinkLost, ProtocolViolation
from synap.frame import VERSION
from synap.position import Reign
from synap.replication.rules import follower
from synap.replication.rules.lag import lag_ms
from synap.replication.rules.messages import (
    AboutMaster,
    Ack,
    Credit,
    Fetch,
    Heartbeat,
    Hello,
    Published,
    Refusal,
)
from synap.replication.rules.progress import NS_PER_MS, LinkState
from synap.replication.rules.resync import CREDIT
from tests.unit.replication.rules.follower_bench import (
    FOREIGN,
    FRAMES,
    HISTORY,
    LINEAGE,
    SECOND_NS,
    Bench,
    log_of,
)


def test_follower_says_nothing_before_a_heartbeat():
    """Cites J1."""
    bench = Bench()
    assert bench.settle() == []
    assert bench.state is LinkState.CONNECTING


def test_first_heartbeat_leads_to_a_hello_with_the_position():
    """Cites J1."""
    bench = Bench(held=3)
    bench.beat(10)
    assert bench.sent() == [
        Hello("replica", FRAMES[2].position, LINEAGE, format=VERSION, lends=True)
    ]


def test_welcome_leads_to_a_fetch_up_to_the_first_kept_frame():
    """Cites J2 and J5."""
    bench = Bench()
    bench.beat(5)
    bench.publish(FRAMES[6], FRAMES[7])
    bench.sent()
    bench.welcome(7)
    assert bench.settle() == [Fetch(1, 0, 6, CREDIT), Ack(0, 0, "catching_up")]


def test_catch_up_joins_the_stream_without_a_gap():
    """Cites J5."""
    bench = Bench()
    bench.beat(5)
    bench.publish(FRAMES[6], FRAMES[7])
    bench.welcome(7)
    bench.settle()
    bench.chunk(1, 0, FRAMES[:3], is_last=False)
    assert Credit(1, 1) in bench.settle()
    bench.chunk(1, 1, FRAMES[3:6], is_last=True)
    assert bench.settle() == [Ack(8, 1, "in_sync")]
    assert bench.log.frames == FRAMES[:8]


def test_empty_replica_adopts_the_masters_lineage():
    """Cites J3."""
    bench = Bench()
    bench.join(0)
    assert bench.log.lineage == LINEAGE


def test_welcome_that_the_own_lineage_speaks_against_is_not_followed():
    """Cites P4."""
    bench = Bench(held=3)
    bench.beat(10)
    bench.welcome(10, (Reign(1, FOREIGN, 1),))
    bench.settle()
    assert bench.state is LinkState.DIVERGED
    assert bench.log.lineage == LINEAGE


def test_live_frame_is_appended_and_acknowledged():
    """Cites A1."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.publish(FRAMES[3])
    assert bench.settle() == [Ack(4, 1, "in_sync")]


def test_several_frames_at_hand_are_one_append_and_one_ack():
    """Cites A1."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.publish(*FRAMES[3:9])
    assert bench.settle() == [Ack(9, 1, "in_sync")]


def test_repeated_frame_is_dropped():
    """Cites J4."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.publish(FRAMES[1], FRAMES[2])
    assert bench.settle() == []
    assert bench.log.frames == FRAMES[:3]


def test_gap_in_the_stream_is_fetched_and_counted():
    """Cites J6."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.publish(FRAMES[5])
    assert bench.settle() == [Fetch(1, 3, 5, CREDIT)]
    assert bench.follower.gaps == 1


def test_heartbeat_shows_a_gap_at_the_streams_end():
    """Cites J6."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.beat(5)
    assert Fetch(1, 3, 5, CREDIT) in bench.settle()
    assert bench.log.position.offset == 3


def test_frame_of_another_history_is_ignored():
    """Cites S3."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.publish(FRAMES[3], history=FOREIGN)
    assert bench.settle() == []


def test_new_history_in_a_heartbeat_leads_to_a_new_hello():
    """Cites H3."""
    bench = Bench(held=3)
    bench.join(3)
    bench.settle()
    bench.beat(3, FOREIGN)
    assert bench.sent() == [
        Hello("replica", FRAMES[2].position, LINEAGE, format=VERSION, lends=True)
    ]


def test_what_is_held_counts_in_a_joined_log_and_goes_with_its_reign():
    """Cites Q6."""
    bench = Bench(held=3)

    def held() -> tuple[int, ...] | None:
        return bench.follower.status(bench.now_ns).held

    bench.beat(3, held=(3, 2))
    assert held() == ()
    bench.welcome(3)
    bench.beat(3, held=(3, 2))
    assert held() == (3, 2)
    bench.beat(3, FOREIGN, held=(9, 9))
    assert held() == ()


def test_master_that_does_not_tell_what_is_held_is_followed():
    """Cites Q6."""
    bench = Bench(held=3)
    bench.join(3)
    bench.beat(3, held=None)
    assert (bench.state, bench.follower.status(bench.now_ns).held) == (LinkState.IN_SYNC, None)


def test_damaged_frame_in_the_stream_is_a_violation():
    """Cites J7."""
    bench = Bench(held=3)
    bench.join(3)
    with pytest.raises(ProtocolViolation):
        bench.follower.hear(Published(HISTORY), FRAMES[3].encoded[:-1] + b"?", bench.now_ns)


def test_frame_that_does_not_follow_by_its_checksum_is_a_violation_and_not_appended():
    """Cites J7."""
    bench = Bench(held=3)
    bench.join(3)
    bench.publish(log_of(4, b"other")[3])
    with pytest.raises(ProtocolViolation, match="do not follow"):
        bench.settle()
    assert bench.log.frames == FRAMES[:3]


def test_chunk_of_an_old_request_is_ignored():
    """Cites C2."""
    bench = Bench()
    bench.join(5)
    bench.settle()
    bench.chunk(99, 0, FRAMES[:5], is_last=True)
    assert bench.log.frames == []


def test_lost_chunk_leads_to_a_new_fetch_from_where_the_log_stands():
    """Cites C2."""
    bench = Bench()
    bench.join(9)
    bench.settle()
    bench.chunk(1, 0, FRAMES[:3], is_last=False)
    bench.settle()
    bench.chunk(1, 2, FRAMES[6:9], is_last=True)
    assert bench.settle() == [Fetch(2, 3, 9, CREDIT)]


@pytest.mark.parametrize(
    ("reason", "state"),
    [("needs_full_resync", LinkState.SYNCING), ("diverged", LinkState.DIVERGED)],
)
def test_refused_replica_keeps_its_log_and_says_hello_again_later(reason, state):
    """Cites P6."""
    bench = Bench(held=3)
    bench.beat(9)
    bench.receive(Refusal(reason, "because"))
    bench.publish(*FRAMES[3:9])
    bench.settle()
    status = bench.follower.status(bench.now_ns)
    assert (status.state, status.reason, status.note) == (state, reason, "because")
    assert bench.log.frames == FRAMES[:3]
    bench.now_ns += 6 * SECOND_NS
    bench.beat(9)
    bench.sent()
    bench.follower.tick(bench.now_ns)
    assert [type(request) for request in bench.sent()] == [Hello]
    assert bench.state is state


def test_many_wishes_for_a_hello_are_answered_by_one():
    """Cites H2."""
    bench = Bench(held=3)
    bench.join(3)
    for _ in range(5):
        bench.receive(Refusal("hello_wanted"))
    assert [type(request) for request in bench.sent()] == [Hello]


def test_silence_of_three_heartbeats_loses_the_link():
    """Cites L1."""
    bench = Bench(held=3)
    bench.join(3)
    bench.now_ns += 3 * SECOND_NS
    bench.follower.tick(bench.now_ns)
    bench.now_ns += 1
    with pytest.raises(LinkLost, match="heard nothing"):
        bench.follower.tick(bench.now_ns)


@pytest.mark.parametrize("is_welcome", [False, True])
def test_master_that_owes_an_answer_loses_the_link_though_its_heart_beats(is_welcome):
    """Cites L3."""
    bench = Bench(held=3)
    bench.beat(9)
    if is_welcome:
        bench.welcome(9)
        bench.settle()
    bench.now_ns += 4 * SECOND_NS
    bench.beat(9)
    with pytest.raises(LinkLost):
        bench.follower.tick(bench.now_ns)


def test_lost_link_is_disconnected_until_the_master_is_heard_again():
    """Cites L4."""
    bench = Bench(held=3)
    bench.join(3)
    bench.follower.disconnect("heard nothing")
    assert bench.state is LinkState.DISCONNECTED
    bench.follower.connect(bench.now_ns)
    assert bench.state is LinkState.DISCONNECTED
    bench.beat(3)
    assert bench.state is LinkState.CONNECTING


def test_replica_that_can_not_keep_up_is_lagging():
    bench = Bench(held=3)
    bench.join(3)
    bench.publish(FRAMES[5])
    for _ in range(11):
        bench.now_ns += SECOND_NS
        bench.beat(6)
    assert bench.state is LinkState.LAGGING
    assert bench.follower.status(bench.now_ns).lag_since_ns == bench.now_ns - 11 * SECOND_NS


def test_status_has_what_the_master_tells_of_itself_and_the_end_of_its_lease():
    bench = Bench(held=3)
    about = AboutMaster("0.1.0", 5, "disk_full", lease_ms=3000)
    bench.follower.hear(Heartbeat(HISTORY, 1, 3, 1000, 1000, about=about), b"", bench.now_ns)
    status = bench.follower.status(bench.now_ns + SECOND_NS)
    assert status.about == about
    assert status.lease_until_ns == bench.now_ns + 3 * SECOND_NS


def test_ack_tells_when_the_newest_snapshot_was_taken():
    bench = Bench(held=3)
    bench.follower.snapshot_ms = 1234
    bench.beat(3)
    bench.welcome(3)
    assert bench.settle()[-1] == Ack(3, 1, "in_sync", 1234)


def test_heartbeat_never_moves_the_applied_offset():
    """Cites S2."""
    bench = Bench(held=3)
    bench.join(3)
    bench.beat(20)
    bench.settle()
    status = bench.follower.status(bench.now_ns)
    assert (status.position.offset, status.master_offset) == (3, 20)


def test_replica_that_comes_back_behind_knows_how_old_what_it_lacks_may_be():
    """An applied frame of the master's ms 1, a heartbeat of its ms 1000: at most 999 ms old."""
    bench = Bench(held=3)
    bench.beat(9)
    since_ns = bench.follower.status(bench.now_ns).lag_since_ns
    assert bench.now_ns - since_ns == 999 * NS_PER_MS


def test_hello_forgets_the_fetch_under_way():
    """Cites C2."""
    bench = Bench()
    bench.join(5)
    bench.settle()
    bench.receive(Refusal("hello_wanted"))
    bench.chunk(1, 0, FRAMES[:5], is_last=True)
    assert bench.log.frames == []
    assert [type(request) for request in bench.sent()] == [Hello]


def test_hello_keeps_what_the_stream_brought():
    """Cites J5."""
    bench = Bench(held=3)
    bench.join(3)
    bench.publish(FRAMES[5])
    bench.receive(Refusal("hello_wanted"))
    bench.welcome(6)
    assert Fetch(1, 3, 5, CREDIT) in bench.settle()


def test_refusal_forgets_what_the_stream_brought():
    """Cites P6."""
    bench = Bench(held=3)
    bench.beat(9)
    bench.publish(FRAMES[8])
    bench.receive(Refusal("diverged"))
    bench.receive(Refusal("hello_wanted"))
    bench.welcome(9)
    assert Fetch(1, 3, 9, CREDIT) in bench.settle()


def test_welcome_forgets_the_refusal_before_it():
    bench = Bench(held=3)
    bench.beat(9)
    bench.receive(Refusal("diverged", "because"))
    bench.receive(Refusal("hello_wanted"))
    bench.welcome(9)
    status = bench.follower.status(bench.now_ns)
    assert (status.state, status.reason, status.note) == (LinkState.CATCHING_UP, "", "")


def test_welcome_forgets_that_the_replica_was_level():
    bench = Bench(held=3)
    bench.join(3)
    assert bench.state is LinkState.IN_SYNC
    bench.receive(Refusal("hello_wanted"))
    bench.welcome(9)
    assert bench.state is LinkState.CATCHING_UP


def test_new_link_forgets_what_the_one_before_said_and_brought():
    """Cites L4."""
    bench = Bench(held=3)
    bench.join(3)
    bench.publish(FRAMES[5])
    bench.follower.settle(bench.now_ns)
    bench.follower.connect(bench.now_ns)
    assert bench.sent() == []
    bench.join(6)
    assert bench.settle() == [Fetch(2, 3, 6, CREDIT), Ack(3, 1, "catching_up")]


def test_stage_is_set_by_transitions_alone():
    methods = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(follower)))
        if isinstance(node, ast.FunctionDef) and "self._stage = " in ast.unparse(node)
    ]
    setting = {method.name for method in methods} - {"__init__"}
    assert len(setting) == len(follower.Stage)
    assert all(name.startswith("_become_") for name in setting)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_stream_with_catch_up_ends_with_the_masters_log(seed):
    """Cites J4, J5 and J6: loss, reordering and repeats in the stream, lost chunks in catch-up."""
    random = Random(seed)
    bench = Bench(held=random.randint(0, 5))
    bench.beat(random.randint(5, 30))
    bench.welcome(5)
    for frame in random.choices(FRAMES, k=random.randint(0, 60)):
        bench.publish(frame)
        _serve(bench, bench.settle(), random)
    while bench.log.position.offset < 30:
        bench.beat(30)
        _serve(bench, bench.settle(), random)
    assert bench.log.frames == FRAMES


def _serve(bench: Bench, requests: list, random: Random) -> None:
    """Answer fetches as a master does, but lose a chunk now and then."""
    for fetch in (request for request in requests if isinstance(request, Fetch)):
        wanted = FRAMES[fetch.after_offset : fetch.until_offset]
        size = random.randint(1, 10)
        parts = [wanted[at : at + size] for at in range(0, len(wanted), size)]
        lost = random.randrange(3 * len(parts))
        for number, part in enumerate(parts):
            if number != lost:
                bench.chunk(fetch.request, number, part, number == len(parts) - 1)
        if lost == len(parts) - 1:
            # Nothing shows that the last one is gone but time: the link is made anew.
            bench.follower.disconnect("the catch-up makes no progress")
            bench.follower.connect(bench.now_ns)
            bench.beat(30)
            bench.welcome(30)


def test_what_an_ended_reign_had_beyond_the_new_ones_log_is_no_lag():
    bench = Bench(held=3)
    bench.beat(10)
    bench.now_ns += SECOND_NS
    lineage = (*LINEAGE, Reign(2, FOREIGN, 4))
    bench.beat(3, history=FOREIGN)
    bench.welcome(3, lineage)
    for _ in range(20):
        bench.now_ns += SECOND_NS
        bench.beat(3, history=FOREIGN)
    bench.settle()
    assert bench.state is LinkState.IN_SYNC


def lag_of(bench: Bench) -> int:
    status = bench.follower.status(bench.now_ns)
    return lag_ms(bench.now_ns, status.lag_since_ns, status.fresh_ns, status.heartbeat_ns)


def test_lag_of_a_replica_that_is_refused_grows_while_its_master_is_heard():
    bench = Bench(held=3)
    bench.join(3)
    assert lag_of(bench) == 0
    bench.receive(Refusal("hello_wanted"))
    bench.receive(Refusal("diverged", "another history"))
    for _ in range(20):
        bench.now_ns += SECOND_NS
        bench.beat(3)
    assert lag_of(bench) == 20_000


def test_lag_of_a_new_follower_is_that_of_the_one_before_until_it_is_welcome():
    bench = Bench(held=3, fresh_ns=940 * SECOND_NS)
    bench.beat(3)
    assert lag_of(bench) == 60_000
    bench.welcome(3)
    assert lag_of(bench) == 0
