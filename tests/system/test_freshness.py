"""How old a replica says its data is when it has heard nobody since it started."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import HOST, Cluster, Node, eventually, free_ports


def lag_ms(node: Node) -> int:
    return int(node.request("GET", "/kv/get/k").headers["x-synap-lag-ms"])


def is_fit(node: Node, max_lag_ms: int) -> bool:
    return node.request("GET", f"/replica?max_lag_ms={max_lag_ms}").status == 200


@pytest.mark.parametrize("is_killed", [False, True])
def test_replica_that_restarts_without_its_master_is_as_old_as_its_data(
    tmp_path: Path, is_killed: bool
) -> None:
    with Cluster(tmp_path, 1, replication__heartbeat_interval_ms=100) as cluster:
        replica = cluster.replicas[0]
        assert cluster.master.request("POST", "/kv/set", {"key": "k", "value": 1}).status == 200
        eventually(lambda: replica.request("GET", "/kv/get/k").status == 200)
        cluster.master.stop()
        away_since = time.monotonic()
        (replica.kill if is_killed else replica.stop)()
        replica.start()
        age_ms = (time.monotonic() - away_since) * 1000
        assert lag_ms(replica) >= age_ms - 200
        assert not is_fit(replica, 500)
        cluster.master.start()
        eventually(lambda: is_fit(replica, 500))


def test_replica_that_follows_a_silent_master_gets_older(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1, replication__heartbeat_interval_ms=100) as cluster:
        replica = cluster.replicas[0]
        assert cluster.master.request("POST", "/kv/set", {"key": "k", "value": 1}).status == 200
        eventually(lambda: replica.request("GET", "/kv/get/k").status == 200)
        (port,) = free_ports(1)
        body = {"master_address": f"{HOST}:{port}", "force": True}
        assert replica.request("POST", "/replication/follow", body).status == 200
        eventually(lambda: lag_ms(replica) > 1000)
        assert not is_fit(replica, 1000)
