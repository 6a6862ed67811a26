"""Latency at half of what a system can do, where requests come on their own and not in step.

wrk sends a connection's next request when it has the last answer. Here each connection waits before
each request, for a time drawn anew, so that requests come nearly as from independent clients. Both
systems get the same rate: half of what the slower one can do.
"""

from __future__ import annotations

from dataclasses import replace

from ops.bench.contender import Contender, p50_ms, p99_ms, rate, ratio, take_turns
from ops.bench.fleet import redis, synap
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.throughput import contender

TITLE = "Latency at half the maximum rate"
HEADER = ("", "a second", "p50, ms", "p99, ms", "ratio of p99", "goal")
# name, operation, appendfsync of Redis
ROWS = (("GET", "get", "no"), ("SET, log synced every second", "set", "everysec"))
GOAL = "1"
_CALIBRATION_SECONDS = 1


def run(settings: Settings) -> Section:
    """Measure GET and SET."""
    rows, faults = [], []
    for name, operation, append_fsync in ROWS:
        members = [settings.fleet.get(make) for make in (synap("periodic"), redis(append_fsync))]
        both = [contender(each, operation, settings) for each in members]
        for each in both:
            each.attempt(each.prepare)
        _slow_down(both, settings.calibrations)
        take_turns(both, settings.rounds)
        ours, theirs = both
        rows.append(
            (
                name,
                f"{ours.median(rate, ',.0f')} / {theirs.median(rate, ',.0f')}",
                f"{ours.median(p50_ms, '.2f')} / {theirs.median(p50_ms, '.2f')}",
                f"{ours.median(p99_ms, '.2f')} / {theirs.median(p99_ms, '.2f')}",
                ratio(ours, theirs, p99_ms),
                GOAL,
            )
        )
        faults += [f"{name}: {each.system.name}: {each.fault}" for each in both if each.fault]
    text = (
        f"wrk with 1 thread, {settings.keys:,} random keys, values of 64 bytes; against webdis, "
        f"Synap's figure first. Each of {settings.connections} connections waits before each "
        "request, for times that are spread as those between independent events, in whole ms. The "
        "rate is half of what the slower system does without waiting, for both; medians of "
        f"{settings.rounds} rounds of {settings.seconds} s. The goal is a ratio of 1 or less."
    )
    return Section(TITLE, text, HEADER, rows, faults)


def _slow_down(contenders: list[Contender], calibrations: int) -> None:
    """Give each load the delay that makes half of the slowest one's rate of it."""
    full: list[float] = []
    for each in contenders:
        each.attempt(lambda each=each: full.append(_rate_of(each)))  # type: ignore[misc]
    for each in contenders:
        each.attempt(lambda each=each: _calibrate(each, min(full) / 2, calibrations))  # type: ignore[misc]


def _rate_of(each: Contender) -> float:
    return each.take("full", _CALIBRATION_SECONDS).outcome.per_second


def _calibrate(each: Contender, target: float, calibrations: int) -> None:
    connections = each.load.connections
    delay_ms = connections / target * 1000
    for _ in range(calibrations):
        each.load = replace(each.load, delay_ms=max(delay_ms, 0.01))
        delay_ms += connections * (1 / target - 1 / _rate_of(each)) * 1000
    each.load = replace(each.load, delay_ms=max(delay_ms, 0.01))
