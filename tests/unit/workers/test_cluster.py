"""What `synap cluster` says of its nodes."""

from __future__ import annotations

from pathlib import Path

from workers.cluster import ClusterPlan, _welcome, planned_nodes

NODES = planned_nodes(ClusterPlan(2, Path("data"), 15500, 1, "warning"))


def test_new_cluster_is_told_with_the_first_node_to_write_to() -> None:
    words = _welcome(NODES, {"master": "master", "replica1": "replica", "replica2": "replica"})
    assert "master     http://127.0.0.1:15500   replication on 15501 and 15502\n" in words
    assert "POST http://127.0.0.1:15500/kv/set" in words
    assert "curl http://127.0.0.1:15520/kv/get" in words


def test_cluster_behind_a_switchover_is_told_with_the_node_that_is_the_master_now() -> None:
    words = _welcome(NODES, {"master": "replica", "replica1": "replica", "replica2": "master"})
    assert "master     http://127.0.0.1:15500   read-only   it is the replica now\n" in words
    assert "replication on 15521 and 15522   it is the master now\n" in words
    assert "POST http://127.0.0.1:15520/kv/set" in words
    assert "curl http://127.0.0.1:15510/kv/get" in words


def test_cluster_of_one_node_reads_where_it_writes() -> None:
    words = _welcome(NODES[:1], {"master": "master"})
    assert "curl http://127.0.0.1:15500/kv/get" in words
