"""The write gate: each reason, its rank, and what is tried where it holds."""

from __future__ import annotations

from itertools import combinations

import pytest

from synap.errors import (
    DataDirLost,
    DiskFull,
    MemoryLimit,
    NoLease,
    Recovering,
    ReignEnded,
    WriteRefused,
    WritesPaused,
)
from synap.writer.pause import Pause
from synap.writer.write_gate import Reason, WriteGate

NOW = 100.0
# From the lowest rank to the highest: the word on the board, and whether nothing is tried.
REASONS = {
    Reason.WRITES_PAUSED: ("writes_paused", True),
    Reason.MEMORY_LIMIT: ("memory_limit", False),
    Reason.DISK_FULL: ("disk_full", False),
    Reason.RECOVERING: ("recovering", True),
    Reason.NO_LEASE: ("no_lease", True),
    Reason.REIGN_ENDED: ("stale_epoch", True),
    Reason.DATA_DIR_LOST: ("data_dir_lost", True),
}
ERRORS: dict[Reason, type[WriteRefused]] = {
    Reason.WRITES_PAUSED: WritesPaused,
    Reason.MEMORY_LIMIT: MemoryLimit,
    Reason.DISK_FULL: DiskFull,
    Reason.RECOVERING: Recovering,
    Reason.NO_LEASE: NoLease,
    Reason.REIGN_ENDED: ReignEnded,
    Reason.DATA_DIR_LOST: DataDirLost,
}


class Bench:
    """A gate, its pause, and what it has shown at each change."""

    def __init__(self, ended_by_epoch: int = 0) -> None:
        self.pause = Pause(hold_seconds=2.0)
        self.now = NOW
        self.shown: list[Reason | None] = []
        self.gate = WriteGate(
            self.pause, lambda: self.shown.append(self.gate.shown()), ended_by_epoch,
            now=lambda: self.now,
        )  # fmt: skip

    def let_hold(self, reason: Reason) -> None:
        if reason is Reason.WRITES_PAUSED:
            self.pause.begin(NOW, 5.0)
        elif reason is Reason.REIGN_ENDED:
            self.gate.end_reign(7)
        else:
            self.gate.refuse(reason.error())


def test_gate_without_reasons_lets_writes_through() -> None:
    gate = Bench().gate
    assert (gate.shown(), gate.refusal(), gate.has_reasons) == (None, None, False)


def test_every_reason_has_its_row_here_and_a_rank_of_its_own() -> None:
    assert sorted(Reason, key=lambda reason: reason.rank) == list(REASONS)
    assert len({reason.rank for reason in Reason}) == len(REASONS)


@pytest.mark.parametrize("reason", Reason)
def test_reason_is_shown_by_its_word_and_closes_or_not(reason: Reason) -> None:
    bench = Bench()
    bench.let_hold(reason)
    word, is_closing = REASONS[reason]
    assert bench.gate.shown() is reason
    assert reason.error.reason == word
    refusal = bench.gate.refusal()
    assert type(refusal) is (ERRORS[reason] if is_closing else type(None))


@pytest.mark.parametrize(("lower", "higher"), list(combinations(REASONS, 2)))
def test_higher_reason_is_shown_whichever_came_first(lower: Reason, higher: Reason) -> None:
    for order in ((lower, higher), (higher, lower)):
        bench = Bench()
        for reason in order:
            bench.let_hold(reason)
        assert bench.gate.shown() is higher


def test_lifted_reason_uncovers_the_one_below() -> None:
    bench = Bench()
    bench.gate.refuse(MemoryLimit())
    bench.gate.refuse(DiskFull())
    bench.gate.lift(Reason.DISK_FULL)
    bench.gate.lift(Reason.MEMORY_LIMIT)
    memory, disk = Reason.MEMORY_LIMIT, Reason.DISK_FULL
    assert bench.shown == [memory, disk, memory, None]


def test_reason_that_holds_already_or_never_held_changes_nothing() -> None:
    bench = Bench()
    bench.gate.lift(Reason.DISK_FULL)
    bench.gate.refuse(DiskFull())
    bench.gate.refuse(DiskFull())
    bench.gate.show_memory(is_refusing=False)
    assert bench.shown == [Reason.DISK_FULL]


def test_refusals_are_logged_once_and_their_end_when_none_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    with caplog.at_level("WARNING"):
        for _ in range(2):
            bench.gate.refuse(DiskFull())
        bench.gate.show_memory(is_refusing=True)
        bench.gate.lift(Reason.DISK_FULL)
        bench.gate.show_memory(is_refusing=False)
    assert [record.action for record in caplog.records] == ["read_only", "read_only", "writable"]


def test_reign_that_ended_before_the_start_closes_the_gate() -> None:
    gate = Bench(ended_by_epoch=7).gate
    assert (gate.shown(), gate.ended_by_epoch) == (Reason.REIGN_ENDED, 7)
    refusal = gate.refusal()
    assert isinstance(refusal, ReignEnded)
    assert "epoch 7" in refusal.message


def test_who_waits_in_a_pause_in_which_the_reign_ended_is_to_try_again() -> None:
    """W4: the heir may be there by then."""
    bench = Bench()
    bench.pause.begin(NOW, 5.0)
    bench.gate.end_reign(7, "http://heir:1")
    assert isinstance(bench.gate.refusal(), WritesPaused)
    assert (bench.gate.shown(), bench.gate.heir_url) == (Reason.REIGN_ENDED, "http://heir:1")
    bench.now += 5.0
    assert isinstance(bench.gate.refusal(), ReignEnded)


def test_pause_holds_writes_and_then_refuses_them() -> None:
    """W2."""
    bench = Bench()
    bench.pause.begin(NOW, 5.0)
    assert bench.gate.is_holding()
    bench.now += 2.0
    assert not bench.gate.is_holding()
    assert isinstance(bench.gate.refusal(), WritesPaused)


def test_error_that_tells_no_reason_is_no_reason() -> None:
    with pytest.raises(TypeError, match="WriteRefused"):
        Bench().gate.refuse(WriteRefused())
