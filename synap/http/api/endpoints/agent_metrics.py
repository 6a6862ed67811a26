"""What a node's fail-over agent knows, as metrics; there where it has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_MS_PER_SECOND = 1000


class AgentCollector(Collector):
    """Yields the metrics of one look at what the agent told."""

    def __init__(self, state: Mapping[str, object], now_ms: int) -> None:
        """
        Args:
            state: The fields of `AgentState`; empty where it has not told anything yet.
            now_ms: Wall clock.
        """
        self._state = state
        self._now_ms = now_ms

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a value now."""
        state = self._state
        leads, until_ms = bool(state.get("is_own")), _number(state.get("lease_until_ms"))
        yield _gauge("leader", "1 where this node holds the leader's key.", leads)
        if not state.get("at_ms"):
            # It has reached no engine since the node's start.
            return
        age_ms = max(0, self._now_ms - _number(state.get("at_ms")))
        yield _gauge(
            "engine_age_seconds", "Since the engine answered the agent last.",
            age_ms / _MS_PER_SECOND,
        )  # fmt: skip
        if leads:
            yield _gauge(
                "lease_seconds", "For how much longer the leader's lease counts.",
                max(0, until_ms - self._now_ms) / _MS_PER_SECOND,
            )  # fmt: skip
        yield _gauge("has_leader", "1 where somebody holds the key.", bool(state.get("leader")))
        yield _gauge("paused", "1 in maintenance: nobody takes over.", bool(state.get("is_paused")))
        yield _gauge("voters", "Nodes whose acks may count.", _count(state.get("voters")))
        yield _gauge(
            "voters_missing", "Of these, the ones that are not there.", _count(state.get("missing"))
        )
        yield _gauge(
            "seals_needed", "Voters whose promise a lost master's place needs.",
            _number(state.get("seals_needed")),
        )  # fmt: skip
        yield _gauge(
            "seals_ready", "Voters besides the master that are there to give one.",
            _number(state.get("seals_ready")),
        )  # fmt: skip
        yield _gauge(
            "can_replace", "1 where a lost master would be replaced now.",
            bool(state.get("can_replace")),
        )  # fmt: skip
        yield _gauge(
            "would_lose_entries", "Of the master's, what the next one lacks, as far as is known.",
            _number(state.get("would_lose")),
        )  # fmt: skip


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"synap_failover_{name}", what, value)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _count(value: object) -> int:
    return len(value) if isinstance(value, list) else 0
