"""How many seals a promotion needs, and who is ahead of a candidate."""

from __future__ import annotations

from itertools import combinations

import pytest

from synap.failover.rules import Standing, ahead_of, best, needed_seals, sealing_epoch
from synap.replication.rules.reigns import Rank


@pytest.mark.parametrize("voters", range(1, 7))
def test_seals_meet_every_set_that_may_have_acknowledged(voters: int) -> None:
    """Cites S3; one seal fewer misses one."""
    everybody = range(voters)
    for quorum in range(1, voters + 1):
        needed = needed_seals(voters, quorum)
        for acked in combinations(everybody, quorum):
            assert all(set(acked) & set(each) for each in combinations(everybody, needed))
        if needed > 1:
            assert not set(everybody[:quorum]) & set(everybody[quorum : quorum + needed - 1])


def test_without_a_quorum_the_own_seal_is_enough() -> None:
    assert [needed_seals(voters, 0) for voters in (1, 3)] == [1, 1]


def test_one_that_holds_a_later_reign_is_ahead_of_one_with_a_longer_log() -> None:
    late, long = Standing("late", Rank(3, 3, 20)), Standing("long", Rank(2, 9, 50))
    assert best([long, late]) is late
    assert ahead_of(long.rank, [long, late]) is late
    assert ahead_of(late.rank, [long, late]) is None


def test_next_epoch_is_above_all_that_are_known() -> None:
    assert sealing_epoch([4, 7]) == 8
    assert sealing_epoch([]) == 1
