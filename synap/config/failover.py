"""What follows from the keys of `failover`, for whoever starts an agent."""

from __future__ import annotations


def lease_margin(ttl_secs: float) -> float:
    """Return by how much a lease counts as shorter than the engine says, in seconds."""
    return max(1.0, ttl_secs / 10)
