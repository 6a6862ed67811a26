"""When a child is started again, and when it is taken for dead."""

from __future__ import annotations

from workers.child import Liveness, RestartPolicy


def test_restart_after_early_deaths_doubles_up_to_the_cap() -> None:
    policy = RestartPolicy(first_seconds=0.1, cap_seconds=1.0, limit=100)
    delays = [policy.delay_after(started=now, now=now + 0.5) for now in range(7)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_restart_after_a_long_run_is_immediate_and_forgets() -> None:
    policy = RestartPolicy(stable_seconds=2.0, first_seconds=0.1)
    for now in (0.0, 1.0, 2.0):
        policy.delay_after(started=now, now=now + 0.5)
    assert policy.delay_after(started=3.0, now=5.0) == 0.0
    assert policy.delay_after(started=5.0, now=5.5) == 0.0
    assert policy.delay_after(started=5.5, now=6.0) == 0.1


def test_restart_gives_up_at_the_limit_within_the_window() -> None:
    policy = RestartPolicy(limit=3, window_seconds=60.0)
    assert [policy.delay_after(now, now) for now in (0.0, 1.0, 2.0)] == [0.0, 0.1, None]


def test_restart_counts_only_deaths_within_the_window() -> None:
    policy = RestartPolicy(limit=3, window_seconds=60.0)
    assert [policy.delay_after(now, now) for now in (0.0, 1.0, 61.0)] == [0.0, 0.1, 0.0]


def looks(liveness: Liveness, ticks: list[int], step_seconds: float) -> list[bool]:
    return [
        liveness.is_mute(tick, place * step_seconds) for place, tick in enumerate(ticks, start=1)
    ]


def test_liveness_with_a_tick_that_stands_still_is_mute_at_the_limit() -> None:
    assert looks(Liveness(limit_seconds=2.0), [5, 5, 5, 5], 1.0) == [False, False, True, True]


def test_liveness_with_moving_ticks_is_never_mute() -> None:
    assert not any(looks(Liveness(limit_seconds=2.0), [1, 2, 2, 3, 3, 4], 1.0))


def test_liveness_before_the_first_tick_is_not_mute() -> None:
    assert not any(looks(Liveness(limit_seconds=2.0), [0, 0, 0, 0, 0], 1.0))


def test_liveness_after_a_pause_of_everything_is_not_mute() -> None:
    assert looks(Liveness(limit_seconds=2.0), [7, 7], 1000.0) == [False, False]
