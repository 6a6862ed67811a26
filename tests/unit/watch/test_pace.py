"""How often watchers are told: a few at once, many seldom, nobody later than is promised."""

from __future__ import annotations

import pytest

from synap.watch.pace import LONGEST_SECONDS, LOOK_SECONDS, Pace

BUSY_A_SECOND = 5000.0


def follow(watchers: int, events_a_second: float, seconds: float = 10.0) -> tuple[float, float]:
    """Return how many tellings a second there are, and the longest pause after the first second."""
    pace, now, told, events, longest = Pace(), 0.0, 0, 0, 0.0
    pause = LOOK_SECONDS
    while now < seconds:
        now += pause
        found = int(now * events_a_second) - events
        events += found
        tellings = watchers if found else 0
        told += tellings
        pause = pace.pause(tellings, found, pause, 0.0)
        longest = max(longest, pause if now > 1 else 0.0)
    return told / seconds, longest


@pytest.mark.parametrize(
    ("watchers", "least", "most"),
    [(0, 0, 0), (1, 490, 520), (5, 490, 530), (10, 490, 550), (1000, 50_000, 55_000)],
)
def test_tellings_are_bounded_as_far_as_the_longest_pause_allows(
    watchers: int, least: int, most: int
) -> None:
    tellings, longest = follow(watchers, BUSY_A_SECOND)
    assert least <= tellings <= most
    assert longest <= LONGEST_SECONDS


@pytest.mark.parametrize(("watchers", "events"), [(10, 20.0), (1000, 20.0), (200, 80.0)])
def test_nothing_is_waited_for_where_little_would_come(watchers: int, events: float) -> None:
    tellings, longest = follow(watchers, events)
    assert tellings == pytest.approx(watchers * events, rel=0.02)
    assert longest == LOOK_SECONDS


def test_burst_that_ends_owes_nothing_for_long() -> None:
    pace = Pace()
    assert pace.pause(10_000, 100, 0.002, 0.0) == LONGEST_SECONDS
    assert pace.pause(0, 0, LONGEST_SECONDS, 0.0) == LOOK_SECONDS


@pytest.mark.parametrize(("idle", "pause"), [(0.4, 0.002), (1.0, 0.008), (6.0, 0.02)])
def test_looks_are_rarer_where_nothing_happens(idle: float, pause: float) -> None:
    assert Pace().pause(0, 0, 0.002, idle) == pause
