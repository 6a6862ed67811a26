"""A cluster restarted node by node: the order, the waits, and when it stops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workers.cli.cluster_status import ClusterStatus, NodeStatus
from workers.cli.http_call import CallFailed
from workers.cli.rolling import Hands, Rolling, RollingFailed


class FakeCluster:
    """A cluster whose nodes come back a while after they were restarted."""

    def __init__(self, *, has_agents: bool = False) -> None:
        self.now = 1000.0
        self.done: list[str] = []
        self.master = "m"
        self.hops = {"m": 0, "r1": 1, "r2": 1, "leaf": 2}
        self.started = dict.fromkeys(self.hops, 0.0)
        self.versions = dict.fromkeys(self.hops, "1")
        self.back_after = 3.0
        self.has_agents = has_agents

    def look(self) -> ClusterStatus:
        return ClusterStatus([self._row(name) for name in self.hops], "")

    def _row(self, name: str) -> NodeStatus:
        role = "master" if name == self.master else "replica"
        state = "writable" if role == "master" else "in_sync"
        if self.now < self.started[name]:
            state = "unreachable"
        hops = None if role == "master" else max(self.hops[name], 1)
        return NodeStatus(name, f"http://{name}:1", role, state, lag_ms=0, hops=hops)

    def get(self, url: str, path: str, timeout_seconds: float):
        name = url.removeprefix("http://").removesuffix(":1")
        if self.now < self.started[name]:
            raise CallFailed(f"{name} is away")
        if path == "/cluster":
            return {"failover": {}} if self.has_agents else {}
        uptime = int(self.now - self.started[name])
        return {"server": {"uptime_seconds": uptime, "version": self.versions[name]}}

    def restart(self, node: NodeStatus) -> None:
        self.done.append(node.node)
        self.started[node.node] = self.now + self.back_after
        self.versions[node.node] = "2"
        if self.has_agents and node.node == self.master:
            self.master = "r1"

    def move_master(self, to: str) -> None:
        self.done.append(f"move to {to}")
        self.master = to

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def roll(self, version: str = "") -> int:
        hands = Hands(self.look, self.get, self.restart, self.move_master)
        return Rolling(
            hands, version=version, patience_seconds=60, tell=lambda _: None,
            now=lambda: self.now, sleep=self.sleep,
        ).run()  # fmt: skip


def test_leaves_come_first_and_the_old_master_last_behind_a_switchover():
    cluster = FakeCluster()
    assert cluster.roll() == 4
    assert cluster.done == ["leaf", "r1", "r2", "move to r1", "m"]


def test_where_agents_run_the_master_is_stopped_and_hands_over_by_itself():
    cluster = FakeCluster(has_agents=True)
    cluster.roll()
    assert cluster.done == ["leaf", "r1", "r2", "m"]


def test_nodes_that_run_the_version_are_left_alone():
    cluster = FakeCluster()
    cluster.versions |= {"leaf": "2", "r1": "2"}
    assert cluster.roll("2") == 2
    assert cluster.done == ["r2", "move to r1", "m"]


def test_node_that_does_not_come_back_stops_it():
    cluster = FakeCluster()
    cluster.back_after = 100.0
    with pytest.raises(RollingFailed, match="leaf was not restarted"):
        cluster.roll()
    assert cluster.done == ["leaf"]


def test_node_that_comes_back_with_another_version_stops_it():
    cluster = FakeCluster()
    with pytest.raises(RollingFailed, match="leaf came back with version 2"):
        cluster.roll("3")
    assert cluster.done == ["leaf"]


def test_cluster_that_is_not_well_is_not_begun_with():
    cluster = FakeCluster()
    cluster.started["r2"] = 10_000.0
    with pytest.raises(RollingFailed, match="not well before it begins: r2 is unreachable"):
        cluster.roll()
    assert cluster.done == []


def test_two_masters_are_not_well():
    cluster = FakeCluster()
    look = cluster.look

    def with_two() -> ClusterStatus:
        rows = look().nodes
        return ClusterStatus([*rows, replace(rows[0], node="other")], "")

    cluster.look = with_two
    with pytest.raises(RollingFailed, match="2 nodes take writes"):
        cluster.roll()
