"""When a snapshot is due."""

import pytest

from synap.snapshot.schedule import SnapshotPolicy, is_due

POLICY = SnapshotPolicy(interval_seconds=300, operation_threshold=10_000, min_interval_seconds=30)


@pytest.mark.parametrize(
    ("entries", "seconds", "due"),
    [
        (0, 1e9, False),
        (1, 299.9, False),
        (1, 300, True),
        (9_999, 299.9, False),
        (10_000, 29.9, False),
        (10_000, 30, True),
        (-5, 1e9, False),
    ],
)
def test_is_due_by_entries_and_time(entries: int, seconds: float, due: bool) -> None:
    assert is_due(POLICY, entries=entries, seconds=seconds) is due


def test_is_due_a_long_one_is_followed_by_a_longer_rest() -> None:
    assert not is_due(POLICY, entries=10_000, seconds=399, last_took_seconds=100)
    assert is_due(POLICY, entries=10_000, seconds=400, last_took_seconds=100)


def test_is_due_where_the_log_does_not_lead_on_from_the_newest() -> None:
    assert is_due(POLICY, entries=1, seconds=30, is_urgent=True)
    assert not is_due(POLICY, entries=1, seconds=29.9, is_urgent=True)
    assert not is_due(POLICY, entries=0, seconds=1e9, is_urgent=True)
