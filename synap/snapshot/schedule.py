"""When a snapshot is due: the rule, from plain values. No clock, no files."""

from __future__ import annotations

import msgspec

# Snapshots take at most one part in so many of the time, however large the store has become.
_REST_FACTOR = 4


class SnapshotPolicy(msgspec.Struct, frozen=True):
    """How often snapshots are wanted; the configuration's values.

    Attributes:
        interval_seconds: Longest time between two while something changes.
        operation_threshold: Entries after which one is due sooner.
        min_interval_seconds: Shortest time between two.
    """

    interval_seconds: float
    operation_threshold: int
    min_interval_seconds: float


def is_due(
    policy: SnapshotPolicy,
    *,
    entries: int,
    seconds: float,
    last_took_seconds: float = 0.0,
    is_urgent: bool = False,
) -> bool:
    """Return whether a snapshot is due.

    Args:
        entries: Those in the log after the newest snapshot.
        seconds: Time since the last one was begun, or tried.
        last_took_seconds: How long that one took.
        is_urgent: The log does not lead on from the newest snapshot.
    """
    if entries <= 0 or seconds < max(policy.min_interval_seconds, _REST_FACTOR * last_took_seconds):
        return False
    is_wanted = entries >= policy.operation_threshold or seconds >= policy.interval_seconds
    return is_wanted or is_urgent
