"""What `synap cluster` names its nodes, and says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from workers.cluster import Announcement, ClusterPlan, _addresses, _welcome, planned_nodes


def plan(folder: Path = Path("data"), replicas: int = 2) -> ClusterPlan:
    return ClusterPlan(replicas, folder, 15500, 1, "warning")


NODES = planned_nodes(plan())


def test_new_cluster_is_told_with_the_first_node_to_write_to() -> None:
    words = _welcome(NODES, {"node1": "master", "node2": "replica", "node3": "replica"})
    assert "node1      master   http://127.0.0.1:15500\nnode2      replica " in words
    assert "POST http://127.0.0.1:15500/kv/set" in words
    assert "curl http://127.0.0.1:15520/kv/get" in words


def test_cluster_behind_a_switchover_is_told_with_the_node_that_is_the_master_now() -> None:
    words = _welcome(NODES, {"node1": "replica", "node2": "replica", "node3": "master"})
    assert "node1      replica  http://127.0.0.1:15500\n" in words
    assert "node3      master   http://127.0.0.1:15520\n" in words
    assert "POST http://127.0.0.1:15520/kv/set" in words
    assert "curl http://127.0.0.1:15510/kv/get" in words


def test_cluster_of_one_node_reads_where_it_writes() -> None:
    words = _welcome(NODES[:1], {"node1": "master"})
    assert "curl http://127.0.0.1:15500/kv/get" in words


def test_change_of_the_master_is_told_once_while_all_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    roles = {15500: "master", 15510: "replica", 15520: "replica"}
    seconds = iter(range(100))
    look = Announcement(NODES, Console(), lambda port: roles[port], lambda: next(seconds))
    look()
    assert "POST http://127.0.0.1:15500/kv/set" in capsys.readouterr().out
    # One that does not answer for a moment is what it was.
    for roles[15500], roles[15510] in (("", "replica"), ("replica", "master"), ("", "master")):
        for _ in range(6):
            look()
    assert capsys.readouterr().out == "node2 is the master now; write to http://127.0.0.1:15510\n"


def test_folder_of_before_keeps_the_names_that_its_nodes_know_each_other_by(
    tmp_path: Path,
) -> None:
    (tmp_path / "replica1").mkdir()
    names = [node.overrides["server.node_id"] for node in planned_nodes(plan(tmp_path))]
    assert names == ["master", "replica1", "replica2"]
    assert NODES[0].overrides["data_dir"] == Path.cwd() / "data/node1"
    (tmp_path / "node1").mkdir()
    assert planned_nodes(plan(tmp_path))[0].name == "node1"


def test_ports_of_every_node_are_looked_at_for_any_may_become_the_master() -> None:
    assert _addresses(NODES)["ROUTER of node3"] == "127.0.0.1:15522"
    assert len(_addresses(NODES)) == 9
