"""When a replica appends what it has heard."""

from __future__ import annotations

import pytest

from synap.replication.rules.pace import LONGEST_GATHER_SECONDS, Pace


def test_first_frame_is_appended_at_once() -> None:
    assert Pace().wait_seconds(1000.0) == 0.0


@pytest.mark.parametrize(
    ("took_seconds", "gather_seconds"),
    [(0.0, 0.0), (0.000_1, 0.000_4), (0.000_5, 0.002), (0.01, LONGEST_GATHER_SECONDS)],
)
def test_frames_are_gathered_in_proportion_to_the_last_append(
    took_seconds: float, gather_seconds: float
) -> None:
    pace = Pace()
    pace.appended(1000.0, 1000.0 + took_seconds)
    ended = 1000.0 + took_seconds
    assert pace.wait_seconds(ended) == pytest.approx(gather_seconds, abs=1e-9)
    assert pace.wait_seconds(ended + gather_seconds / 2) == pytest.approx(
        gather_seconds / 2, abs=1e-9
    )


def test_after_a_pause_nothing_is_gathered() -> None:
    pace = Pace()
    pace.appended(1000.0, 1000.1)
    assert pace.wait_seconds(1000.1 + LONGEST_GATHER_SECONDS) == 0.0
    assert pace.wait_seconds(2000.0) == 0.0
