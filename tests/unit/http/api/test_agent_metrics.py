"""The metrics of a fail-over agent."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from synap.failover.agent_state import AgentState
from synap.http.api.endpoints.agent_metrics import AgentCollector

LEADING = AgentState(
    leader="a", epoch=2, is_own=True, voters=("a", "b", "c"), missing=("c",), seals_needed=2,
    seals_ready=1, can_replace=True, would_lose=3, at_ms=1_000_000, lease_until_ms=1_009_000,
)  # fmt: skip


def shown(state: dict[str, object]) -> list[str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AgentCollector(state, 1_002_500))
    lines = generate_latest(registry).decode().splitlines()
    return [line.removeprefix("synap_failover_") for line in lines if not line.startswith("#")]


def test_leaders_agent_tells_its_lease_and_who_would_follow() -> None:
    assert shown(msgspec.json.decode(msgspec.json.encode(LEADING))) == [
        "leader 1.0", "engine_age_seconds 2.5", "lease_seconds 6.5", "has_leader 1.0",
        "paused 0.0", "voters 3.0", "voters_missing 1.0", "seals_needed 2.0",
        "seals_ready 1.0", "can_replace 1.0", "would_lose_entries 3.0",
    ]  # fmt: skip


@pytest.mark.parametrize("state", [{}, {"at_ms": "soon"}, {"voters": 3, "is_own": None}])
def test_agent_that_told_nothing_or_nonsense_leads_nowhere(state: dict[str, object]) -> None:
    assert shown(state)[0] == "leader 0.0"
