"""Replicas that are gone for good: out of the roster, the metrics, and what a restart waits for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import synap_here
from tests.support import HOST, Cluster, Node, eventually


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    settings = {"replication__replica_timeout_secs": 2, "replication__heartbeat_interval_ms": 200}
    with Cluster(tmp_path, 1, **settings) as cluster:
        yield cluster


def url_of(node: Node) -> str:
    return f"http://{HOST}:{node.port}"


def statuses(master: Node) -> dict[str, str]:
    replicas = master.request("GET", "/health/replication").json()["replicas"]
    return {each["id"]: each["status"] for each in replicas}


def metric(node: Node, name: str) -> float:
    text = node.request("GET", "/metrics").body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def forget(master: Node, name: str) -> tuple[int, str]:
    done = synap_here("replication", "forget", name, "--url", url_of(master))
    return done.returncode, done.stderr


def test_replica_that_is_gone_is_forgotten_and_one_that_is_there_is_not(cluster: Cluster) -> None:
    master, replica = cluster.nodes
    eventually(lambda: statuses(master) == {"replica1": "in_sync"})
    kept = master.data_dir / "replicas.json"
    eventually(lambda: "replica1" in kept.read_text())
    code, words = forget(master, "replica1")
    assert (code, "is connected" in words) == (1, True)
    replica.stop()
    eventually(lambda: statuses(master) == {"replica1": "disconnected"})
    # Whoever asked may look at once.
    body = {"replica": "replica1"}
    assert master.request("POST", "/replication/forget", body).status == 200
    assert statuses(master) == {}
    assert "replica1" not in kept.read_text()
    gone = 'synap_replication_replicas{status="disconnected"}'
    eventually(
        lambda: (
            gone not in master.request("GET", "/metrics").body.decode() or metric(master, gone) == 0
        )
    )
    code, words = forget(master, "replica1")
    assert (code, "knows no replica replica1" in words) == (1, True)
    replica.start()
    eventually(lambda: statuses(master) == {"replica1": "in_sync"})


def test_node_that_waits_for_nobody_says_so(cluster: Cluster) -> None:
    assert metric(cluster.master, "synap_replication_restart_waiting_for") == 0
