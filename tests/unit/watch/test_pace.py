"""How often watchers are told: a few at once, many seldom, nobody later than is promised."""

from __future__ import annotations

import pytest

from synap.watch.pace import LONGEST_SECONDS, LOOK_SECONDS, Pace


def tellings_a_second(watchers: int, seconds: float = 10.0) -> float:
    """Return how many there are where each look finds something for all."""
    pace, now, told = Pace(), 0.0, 0
    pause = LOOK_SECONDS
    while now < seconds:
        now += pause
        told += watchers
        pause = pace.pause(watchers, pause, 0.0)
    return told / seconds


@pytest.mark.parametrize(
    ("watchers", "least", "most"),
    [(0, 0, 0), (1, 490, 520), (5, 490, 520), (10, 490, 520), (1000, 50_000, 51_000)],
)
def test_tellings_are_bounded_as_far_as_the_longest_pause_allows(
    watchers: int, least: int, most: int
) -> None:
    assert least <= tellings_a_second(watchers) <= most


def test_watchers_of_a_quiet_log_are_told_at_the_next_look() -> None:
    pace = Pace()
    pace.pause(0, 1.0, 0.0)
    pauses = [pace.pause(10 if number % 50 == 0 else 0, 0.002, 0.0) for number in range(1000)]
    assert set(pauses) == {LOOK_SECONDS}


def test_one_that_tells_ten_thousand_owes_nothing_for_long() -> None:
    pace = Pace()
    assert pace.pause(10_000, 0.002, 0.0) == LONGEST_SECONDS
    assert pace.pause(0, LONGEST_SECONDS, 0.0) == LOOK_SECONDS


@pytest.mark.parametrize(("idle", "pause"), [(0.4, 0.002), (1.0, 0.008), (6.0, 0.02)])
def test_looks_are_rarer_where_nothing_happens(idle: float, pause: float) -> None:
    assert Pace().pause(0, 0.002, idle) == pause
