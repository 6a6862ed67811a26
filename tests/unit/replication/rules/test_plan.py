"""What a joining replica gets, over every way in which two logs can be related."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.position import START, Position, Reign
from synap.replication.rules.plan import (
    CatchUp,
    Diverged,
    FullResync,
    MasterFacts,
    decide,
    objection,
)
from synap.replication.rules.reigns import outranks


def reign(epoch: int, first_offset: int, seed: int = 0) -> Reign:
    return Reign(epoch, bytes([epoch, seed]) * 8, first_offset)


def at(epoch: int, offset: int, rolling: int | None = None) -> Position:
    return Position(epoch, offset, offset * 7 if rolling is None else rolling)


ONE = (reign(1, 1),)
TWO = (reign(1, 1), reign(2, 51))


def facts(lineage=ONE, end=None, first_offset=1, at_replica=None) -> MasterFacts:
    return MasterFacts(lineage, end or at(1, 100), first_offset, at_replica)


def test_decide_for_an_empty_replica_and_a_whole_log_is_catch_up_from_zero():
    assert decide(START, (), facts(at_replica=START)) == CatchUp(0)


def test_decide_for_an_empty_replica_and_an_empty_master_is_catch_up():
    assert decide(START, (), facts(end=START, at_replica=START)) == CatchUp(0)


def test_decide_for_an_empty_replica_and_a_cut_log_is_full_resync():
    assert decide(START, (), facts(first_offset=20)) == FullResync(
        "the replica asks for offset 1, the master's log begins at 20"
    )


def test_decide_for_a_replica_behind_is_catch_up_from_where_it_stands():
    assert decide(at(1, 40), ONE, facts(at_replica=at(1, 40))) == CatchUp(40)


def test_decide_for_a_replica_that_has_all_is_catch_up():
    assert decide(at(1, 100), ONE, facts(at_replica=at(1, 100))) == CatchUp(100)


def test_decide_for_a_replica_just_before_the_log_begins_is_catch_up():
    assert decide(at(1, 19), ONE, facts(first_offset=20, at_replica=at(1, 19))) == CatchUp(19)


def test_decide_for_a_replica_before_the_log_begins_is_full_resync():
    assert isinstance(decide(at(1, 18), ONE, facts(first_offset=20)), FullResync)


def test_decide_for_a_replica_of_an_earlier_reign_is_catch_up():
    master = facts(TWO, at(2, 100), at_replica=at(1, 50))
    assert decide(at(1, 50), ONE, master) == CatchUp(50)


def test_decide_for_another_history_of_the_same_epoch_is_diverged():
    foreign = (reign(1, 1, seed=9),)
    answer = decide(at(1, 40), foreign, facts(at_replica=at(1, 40)))
    assert isinstance(answer, Diverged)
    assert answer.common_offset == 0
    assert "share no history" in answer.reason


def test_decide_for_a_replica_with_data_and_an_empty_master_is_diverged():
    """An empty, reborn master wipes nobody: cites P2."""
    answer = decide(at(1, 40), ONE, facts((reign(1, 1, seed=5),), START))
    assert isinstance(answer, Diverged)


def test_decide_for_a_replica_ahead_of_the_master_is_diverged_at_the_masters_end():
    assert decide(at(1, 120), ONE, facts()).common_offset == 100


def test_decide_for_a_replica_ahead_of_a_promotion_is_diverged_where_the_reign_ended():
    answer = decide(at(1, 60), ONE, facts(TWO, at(2, 100)))
    assert isinstance(answer, Diverged)
    assert answer.common_offset == 50


def test_decide_for_two_promotions_at_the_same_place_is_diverged_there():
    other = (reign(1, 1), reign(2, 51, seed=3))
    answer = decide(at(2, 80), other, facts(TWO, at(2, 100)))
    assert isinstance(answer, Diverged)
    assert answer.common_offset == 50


def test_decide_for_an_equal_offset_with_another_checksum_is_diverged():
    answer = decide(at(1, 40, rolling=1), ONE, facts(at_replica=at(1, 40, rolling=2)))
    assert isinstance(answer, Diverged)


def test_decide_for_an_offset_inside_a_frame_is_diverged():
    assert isinstance(decide(at(1, 40), ONE, facts(at_replica=None)), Diverged)


def test_decide_for_a_replica_that_has_seen_a_later_epoch_is_diverged():
    """Cites P3."""
    answer = decide(at(1, 40), TWO, facts(at_replica=at(1, 40)))
    assert isinstance(answer, Diverged)
    assert "has ended" in answer.reason


def test_objection_of_an_empty_replica_is_none():
    assert objection(START, (), ONE, at(1, 100)) is None


def test_objection_to_a_master_without_a_lineage_is_diverged():
    assert isinstance(objection(START, (), (), START), Diverged)


@pytest.mark.parametrize("own", [at(1, 1), at(1, 50)])
def test_objection_to_a_continued_lineage_is_none(own):
    assert objection(own, ONE, TWO, at(2, 100)) is None


@pytest.mark.parametrize(
    ("own", "offered", "end"),
    [
        (at(1, 40), (reign(1, 1, seed=9),), at(1, 100)),
        (at(1, 40), ONE, at(1, 39)),
        (at(1, 60), TWO, at(2, 100)),
        (at(1, 40), (reign(1, 1, seed=9),), START),
    ],
    ids=["foreign", "master behind", "ahead of a promotion", "empty master"],
)
def test_objection_to_what_is_not_a_continuation_is_diverged(own, offered, end):
    """A replica with data believes no welcome that its own lineage speaks against: cites P4."""
    assert isinstance(objection(own, ONE, offered, end), Diverged)


LINEAGES = st.lists(
    st.tuples(st.integers(1, 2), st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=4
)


def _lineage(steps: list[tuple[int, int, int]]) -> tuple[Reign, ...]:
    epoch, first_offset, reigns = 0, 1, []
    for more_epochs, more_offsets, seed in steps:
        epoch += more_epochs
        reigns.append(reign(epoch, first_offset, seed))
        first_offset += more_offsets
    return tuple(reigns)


def _position_at(lineage: tuple[Reign, ...], offset: int) -> Position:
    """Stand for a log of frames of one entry, whose checksum names each entry's reign."""
    rolling = 0
    epoch = 0
    for each in range(1, offset + 1):
        writer = [r for r in lineage if r.first_offset <= each][-1]
        epoch = writer.epoch
        rolling = crc32(b"%d %d %d" % (rolling, each, writer.epoch) + writer.history)
    return Position(epoch, offset, rolling)


@settings(deadline=None)
@given(ours=LINEAGES, theirs=LINEAGES, offset=st.integers(0, 60), end=st.integers(0, 60))
def test_decide_grants_catch_up_only_where_the_replicas_log_is_a_beginning(
    ours, theirs, offset, end
):
    """Cites P1."""
    replica_lineage, master_lineage = _lineage(ours), _lineage(theirs)
    replica = _position_at(replica_lineage, offset)
    there = _position_at(master_lineage, offset) if offset <= end else None
    master = MasterFacts(master_lineage, _position_at(master_lineage, end), 1, there)
    answer = decide(replica, replica_lineage, master)
    if isinstance(answer, CatchUp):
        assert there == replica
        assert objection(replica, replica_lineage, master_lineage, master.position) is None
    elif offset > 0 and not outranks(replica_lineage, master_lineage):
        assert there != replica
