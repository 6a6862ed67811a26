"""What a replica takes for its master's clock."""

from __future__ import annotations

import pytest

from synap.replication.rules.master_clock import MasterClock

MS = 1_000_000
NOW_MS = 1_700_000_000_000


def test_master_clock_goes_by_the_quickest_heartbeat() -> None:
    clock = MasterClock()
    for number, late_ms in enumerate((30, 5, 900, 40)):
        clock.hear(NOW_MS + number, (100 + number + late_ms) * MS)
    assert clock.offset_ns == (NOW_MS - 105) * MS


def test_master_clock_that_was_set_back_is_followed_after_some_heartbeats() -> None:
    clock = MasterClock()
    clock.hear(NOW_MS, 100 * MS)
    for _ in range(8):
        clock.hear(NOW_MS - 60_000, 100 * MS)
    assert clock.offset_ns == (NOW_MS - 60_100) * MS


def test_master_clock_of_another_master_is_followed_at_once() -> None:
    clock = MasterClock()
    clock.hear(NOW_MS, 100 * MS)
    clock.begin_link()
    assert clock.offset_ns == (NOW_MS - 100) * MS
    clock.hear(NOW_MS - 60_000, 100 * MS)
    assert clock.offset_ns == (NOW_MS - 60_100) * MS


@pytest.mark.parametrize("clock_ms", [0, 2**63 - 1])
def test_master_clock_that_can_not_be_is_not_believed(clock_ms: int) -> None:
    clock = MasterClock()
    clock.hear(clock_ms, 100 * MS)
    assert clock.offset_ns == 0
