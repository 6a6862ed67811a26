"""Whom a restarted master waits for, and what it takes from whom."""

from __future__ import annotations

import pytest

from synap.errors import ProtocolViolation
from synap.position import Reign
from synap.replication.rules.messages import Hello, Loan, Recall
from synap.replication.rules.reigns import Rank, rank
from synap.replication.rules.restart import LOAN_TIMEOUT_NS, Guest, Restart
from tests.unit.replication.rules.follower_bench import FRAMES, HISTORY, LINEAGE, MemoryLog

UNTIL_NS = 1_000


def restart_at(offset: int, *known: str, quorum: int = 0) -> tuple[Restart, MemoryLog]:
    log = MemoryLog(FRAMES[:offset], LINEAGE)
    return Restart(log, known, quorum, UNTIL_NS), log


def guest(name: str, offset: int, *, lends: bool = True) -> Guest:
    return Guest(name.encode(), "", Hello(name, FRAMES[offset - 1].position, LINEAGE, lends=lends))


@pytest.mark.parametrize(
    ("quorum", "heard", "now_ns", "is_over"),
    [
        (0, "", UNTIL_NS - 1, False),
        (0, "", UNTIL_NS, True),
        (0, "abc", 0, True),
        (1, "ab", UNTIL_NS, False),
        (2, "a", UNTIL_NS, False),
        (2, "ab", UNTIL_NS - 1, False),
        (2, "ab", UNTIL_NS, True),
        (2, "ax", UNTIL_NS, False),
        (4, "", UNTIL_NS, True),
    ],
)
def test_wait_is_over_when_each_set_that_could_acknowledge_is_met(
    quorum: int, heard: str, now_ns: int, is_over: bool
) -> None:
    """Cites T2."""
    restart, _ = restart_at(3, "a", "b", "c", quorum=quorum)
    for name in heard:
        restart.hear(name)
    restart.tick(now_ns)
    assert restart.is_over is is_over


def test_restart_waits_no_more_for_a_replica_that_is_forgotten() -> None:
    restart, _ = restart_at(3, "a", "b")
    restart.hear("a")
    assert restart.forget("b")
    assert restart.awaited() == ()
    restart.tick(0)
    assert restart.is_over


def test_replica_that_lends_is_not_forgotten() -> None:
    restart, _ = restart_at(3, "a", "b")
    restart.borrow(guest("a", 5), 0)
    restart.borrow(guest("b", 6), 0)
    assert not restart.forget("a")
    assert not restart.forget("b")


def test_replica_ahead_lends_what_the_log_lacks() -> None:
    """Cites T3, T4."""
    restart, log = restart_at(3, "a")
    lender = guest("a", 5)
    assert restart.is_ahead(lender.hello)
    assert restart.borrow(lender, 0) == Recall(1, FRAMES[2].position, 0, 16)
    content = FRAMES[3].encoded + FRAMES[4].encoded
    assert restart.take(b"a", Loan(1, 0, len(content), content[:10]), 1) is None
    assert restart.take(b"a", Loan(1, 10, len(content), content[10:]), 1) is None
    assert log.position == FRAMES[4].position
    assert restart.finish_loan() == lender


def test_wait_is_not_over_while_somebody_lends() -> None:
    restart, _ = restart_at(3, "a")
    restart.borrow(guest("a", 5), 0)
    restart.tick(UNTIL_NS)
    assert not restart.is_over


def test_frames_of_another_log_are_not_taken() -> None:
    """Cites T4."""
    restart, log = restart_at(3, "a")
    restart.borrow(guest("a", 5), 0)
    content = FRAMES[4].encoded
    assert restart.take(b"a", Loan(1, 0, len(content), content), 1) is None
    assert (log.position, restart.lender()) == (FRAMES[2].position, None)
    assert "can't be used" in restart.awaited()[0].note


def test_damaged_loan_is_a_violation_and_ends() -> None:
    restart, log = restart_at(3, "a")
    restart.borrow(guest("a", 5), 0)
    with pytest.raises(ProtocolViolation):
        restart.take(b"a", Loan(1, 0, 8, b"nonsense"), 1)
    assert (log.position, restart.lender()) == (FRAMES[2].position, None)


def test_silent_lender_is_given_up() -> None:
    """Cites T6."""
    restart, _ = restart_at(3, "a")
    restart.borrow(guest("a", 5), 0)
    restart.tick(LOAN_TIMEOUT_NS + 1)
    assert restart.lender() is None


def test_older_replica_is_not_asked_and_named() -> None:
    restart, _ = restart_at(3, "a", quorum=1)
    assert restart.borrow(guest("a", 5, lends=False), 0) is None
    assert "upgrade" in restart.awaited()[0].note


def test_rank_is_by_the_reign_held_not_by_the_one_heard_of() -> None:
    lineage = (Reign(1, HISTORY, 1), Reign(2, HISTORY[::-1], 21))
    assert rank(lineage, 5) == Rank(1, 1, 5)
    assert rank(lineage[:1], 20) > rank(lineage, 5)
    assert rank(lineage, 20) > rank(lineage[:1], 30)
