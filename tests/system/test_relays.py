"""A replica behind a replica, as processes: one master, one relay, one leaf."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import HOST, Node, eventually, free_port_block

FAST = {
    "replication__heartbeat_interval_ms": 200,
    "replication__reconnect_delay_ms": 200,
    # How often a leaf that found no relay at its start looks for one again.
    "replication__replica_timeout_secs": 1,
}


@pytest.fixture
def nodes(tmp_path: Path):
    master = Node(tmp_path / "master", "master", {"replication__role": "master", **FAST})
    below = {
        "replication__role": "replica",
        "replication__master_address": f"{HOST}:{master.pub_port}",
        "replication__master_sync_address": f"{HOST}:{master.sync_port}",
        **FAST,
    }
    first = free_port_block(2)
    listening = {
        "replication__relay": True,
        "replication__replica_listen_address": f"{HOST}:{first}",
        "replication__sync_listen_address": f"{HOST}:{first + 1}",
    }
    relay = Node(tmp_path / "relay", "relay", {**below, **listening})
    leaf = Node(tmp_path / "leaf", "leaf", {**below, "replication__upstream": f"{HOST}:{first}"})
    nodes = (master, relay, leaf)
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            eventually(node.is_healthy)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def facts(node: Node):
    return node.request("GET", "/health/replication").json()


def upstream_of(node: Node, name: str):
    members = node.request("GET", "/cluster").json()["members"]
    return {each["node_id"]: each["upstream"] for each in members}.get(name)


def until_alike(*nodes: Node) -> None:
    eventually(lambda: len({node.request("GET", "/digest").body for node in nodes}) == 1)


def test_leaf_of_a_killed_relay_goes_on_at_the_master_by_frames(nodes):
    master, relay, leaf = nodes
    for number in range(20):
        master.request("POST", "/kv/set", {"key": f"k{number}", "value": "v" * 100})
    until_alike(master, relay, leaf)
    eventually(lambda: facts(leaf)["path"] == ["relay"] and facts(leaf)["status"] == "in_sync")
    assert facts(leaf)["hops"] == 2
    assert facts(leaf)["master_url"] == facts(relay)["master_url"]
    eventually(lambda: upstream_of(relay, "leaf") == "relay")

    relay.kill()
    master.request("POST", "/kv/set", {"key": "after", "value": 1})
    eventually(lambda: facts(leaf)["hops"] == 1 and facts(leaf)["status"] == "in_sync")
    until_alike(master, leaf)
    metrics = leaf.request("GET", "/metrics").body.decode()
    resyncs = [line for line in metrics.splitlines() if 'resyncs_total{kind="full' in line]
    assert [line.split()[-1] for line in resyncs] == ["0.0"]
