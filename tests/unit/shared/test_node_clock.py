"""The clock that all processes of a node go by."""

from __future__ import annotations

import time

from synap.shared.node_clock import NodeClock, measured_offset

HOUR_NS = 3_600_000_000_000


def test_node_clock_goes_by_the_owners_word_and_without_one_by_the_machine() -> None:
    clock, word = NodeClock(), [measured_offset() + HOUR_NS]
    assert abs(clock.now_ns() - time.time_ns()) < 1_000_000_000
    clock.follow(word)
    assert abs(clock.now_ns() - time.time_ns() - HOUR_NS) < 1_000_000_000
    clock.forget([0])
    assert abs(clock.now_ns() - time.time_ns() - HOUR_NS) < 1_000_000_000
    clock.forget(word)
    assert abs(clock.now_ns() - time.time_ns()) < 1_000_000_000


def test_time_from_which_deadlines_count_is_rounded_up() -> None:
    clock = NodeClock()
    for _ in range(1000):
        before_ns = clock.now_ns()
        assert clock.begun_ms() * 1_000_000 >= before_ns
