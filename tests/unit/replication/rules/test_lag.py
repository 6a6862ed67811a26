"""Lag in entries and in time, and since when what is lacking is known."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from synap.replication.rules.lag import (
    UNKNOWN_LAG_MS,
    Lag,
    OffsetClock,
    fresh_since_ns,
    lag_entries,
    lag_ms,
)
from synap.replication.rules.progress import NS_PER_MS

SECOND_NS = 1_000_000_000


def test_lag_entries_of_a_replica_ahead_of_what_it_heard_is_zero():
    assert lag_entries(10, 12) == 0


def test_lag_ms_with_everything_applied_and_a_heard_master_is_zero():
    assert lag_ms(5 * SECOND_NS, 0, 4 * SECOND_NS, SECOND_NS) == 0


def test_lag_ms_is_the_age_of_what_is_unapplied():
    assert lag_ms(5 * SECOND_NS, 2 * SECOND_NS, 5 * SECOND_NS, SECOND_NS) == 3000


def test_lag_ms_grows_with_the_masters_silence():
    assert lag_ms(9 * SECOND_NS, 0, 4 * SECOND_NS, SECOND_NS) == 5000


def test_lag_ms_of_data_whose_age_nobody_knows_is_above_every_bound():
    assert lag_ms(5 * SECOND_NS, 0, 0, SECOND_NS) == UNKNOWN_LAG_MS


def test_lag_ms_of_data_that_is_older_than_the_machine_runs_is_its_age():
    assert lag_ms(5 * SECOND_NS, 0, fresh_since_ns(5 * SECOND_NS, 60_000), SECOND_NS) == 60_000
    assert lag_ms(5 * SECOND_NS, 0, fresh_since_ns(5 * SECOND_NS, 5000), SECOND_NS) == 5000


def test_lag_ms_of_a_silent_master_counts_from_the_older_of_the_two():
    assert lag_ms(9 * SECOND_NS, 2 * SECOND_NS, 4 * SECOND_NS, SECOND_NS) == 7000


def test_offset_clock_tells_since_when_the_first_unapplied_entry_is_known():
    clock = OffsetClock()
    clock.note(10, 1 * SECOND_NS)
    clock.note(20, 2 * SECOND_NS)
    assert [clock.since_ns(offset) for offset in (0, 9, 10, 19, 20)] == [
        SECOND_NS, SECOND_NS, 2 * SECOND_NS, 2 * SECOND_NS, 0,
    ]  # fmt: skip


def test_offset_clock_forgets_what_is_applied():
    clock = OffsetClock()
    clock.note(10, SECOND_NS)
    clock.forget(10)
    assert clock.since_ns(0) == 0


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3 * NS_PER_MS)), max_size=50),
    repeat=st.sampled_from([1, 300]),
    applied=st.floats(0, 1),
)
def test_offset_clock_never_makes_an_entry_too_young(steps, repeat, applied):
    clock, offset, now_ns = OffsetClock(), 0, 1
    born: list[int] = []
    for more_offsets, more_ns in steps * repeat:
        now_ns += more_ns
        offset += more_offsets
        born += [now_ns] * more_offsets
        clock.note(offset, now_ns)
    at = int(applied * offset)
    since_ns = clock.since_ns(at)
    if at == offset:
        assert since_ns == 0
    else:
        assert 1 <= since_ns <= born[at]


def test_lag_of_what_the_stream_lost_is_as_old_as_the_last_applied_frame():
    lag = Lag(applied_time_ms=50_000)
    lag.hear_unseen(7, clock_ms=53_000, now_ns=9 * SECOND_NS)
    assert lag.since_ns(6) == 6 * SECOND_NS


def test_lag_of_what_the_stream_lost_is_no_older_than_the_moment_without_any():
    lag = Lag(applied_time_ms=50_000)
    lag.note_synced(0, 8 * SECOND_NS)
    lag.hear_unseen(7, clock_ms=53_000, now_ns=9 * SECOND_NS)
    assert lag.since_ns(6) == 8 * SECOND_NS


def test_lag_keeps_its_age_over_a_new_link_but_not_over_a_new_reign():
    lag = Lag(applied_time_ms=0)
    lag.hear(7, SECOND_NS)
    lag.begin_link()
    assert (lag.master_offset, lag.since_ns(6)) == (0, SECOND_NS)
    lag.begin_reign()
    assert (lag.master_offset, lag.since_ns(6)) == (0, 0)
