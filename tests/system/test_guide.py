"""The guide's own steps against a running cluster of one master and three replicas."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import Cluster, Node, eventually

TTL_SECONDS = 3600
USER = "user:100"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on which the guide's first step was taken: `user:100` is set on the master."""
    with Cluster(tmp_path_factory.mktemp("guide"), replicas=3) as cluster:
        write = {"key": USER, "value": "Alice", "ttl": TTL_SECONDS}
        assert cluster.master.request("POST", "/kv/set", write).status == 200
        yield cluster


def test_set_on_the_master_answers_with_success_and_offset(cluster: Cluster) -> None:
    answer = cluster.master.request("POST", "/kv/set", {"key": "user:101", "value": "Bob"})
    assert answer.json() == {
        "success": True, "key": "user:101", "written": True,
        "version": answer.headers["x-synap-position"],
    }  # fmt: skip
    assert int(answer.headers["x-synap-offset"]) > 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_set_on_the_master_is_read_from_each_replica(cluster: Cluster, number: int) -> None:
    replica = cluster.replicas[number]
    eventually(partial(has_user, replica))
    assert replica.request("GET", f"/kv/get/{USER}").json() == "Alice"


def test_read_with_the_writes_offset_sees_it_on_every_replica(cluster: Cluster) -> None:
    for number, replica in enumerate(cluster.replicas):
        write = {"key": "user:102", "value": f"Carol {number}"}
        offset = cluster.master.request("POST", "/kv/set", write).headers["x-synap-offset"]
        read = replica.request("GET", "/kv/get/user:102", headers={"X-Synap-Min-Offset": offset})
        assert read.json() == f"Carol {number}"


def test_ttl_of_a_key_is_the_same_on_every_node(cluster: Cluster) -> None:
    for node in cluster.nodes:
        eventually(partial(has_user, node))
        ttl = node.request("GET", f"/kv/{USER}/ttl").json()["ttl"]
        assert TTL_SECONDS - 60 < ttl <= TTL_SECONDS


def test_write_at_a_replica_is_refused_and_names_the_master(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        answer = replica.request("POST", "/kv/set", {"key": "user:103", "value": "Eve"})
        assert answer.status == 421
        assert answer.json()["reason"] == "read_only_replica"
        assert cluster.master.request("GET", "/kv/get/user:103").status == 404


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_health_of_each_node_names_its_role(cluster: Cluster, number: int) -> None:
    health = cluster.nodes[number].request("GET", "/health").json()
    assert (health["status"], health["service"]) == ("healthy", "synap")
    assert health["role"] == ("replica" if number else "master")


def test_replication_status_of_the_master_lists_each_replica_in_sync(cluster: Cluster) -> None:
    eventually(lambda: replica_statuses(cluster.master) == ["in_sync"] * 3)
    status = cluster.master.request("GET", "/health/replication").json()
    assert status["role"] == "master"
    assert {each["id"] for each in status["replicas"]} == {"replica1", "replica2", "replica3"}


def test_replication_status_of_each_replica_reaches_the_masters_offset(cluster: Cluster) -> None:
    master = cluster.master.request("GET", "/health/replication").json()
    for replica in cluster.replicas:
        eventually(partial(has_applied, replica, master["current_offset"]))
        status = replica.request("GET", "/health/replication").json()
        assert (status["role"], status["history"]) == ("replica", master["history"])


def replica_statuses(master: Node) -> list[str]:
    """Return what the master says of each replica's link."""
    status = master.request("GET", "/health/replication").json()
    return [replica["status"] for replica in status["replicas"]]


def has_applied(replica: Node, offset: int) -> bool:
    """Say whether a replica has applied `offset`, by its own account."""
    local_offset: int = replica.request("GET", "/health/replication").json()["local_offset"]
    return local_offset >= offset


def has_user(node: Node) -> bool:
    """Say whether a node answers with the key of the guide's first step."""
    return node.request("GET", f"/kv/get/{USER}").status == 200
