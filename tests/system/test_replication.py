"""Replication between real nodes whose processes come late, die and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.support import HOST, Cluster, Node, eventually

# A node that was away connects again within reconnect_delay_ms, and starts first.
CATCH_UP_SECONDS = 30
KEYS = 2000
KEYS_A_REQUEST = 200

MakeCluster = Callable[[int], Cluster]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make clusters that are not started yet; what runs of them is killed at the end."""
    made: list[Cluster] = []

    def make(replicas: int) -> Cluster:
        made.append(Cluster(tmp_path, replicas, replication__reconnect_delay_ms=500))
        return made[-1]

    yield make
    for cluster in made:
        cluster.kill()


@pytest.fixture(scope="module")
def module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster behind `shared_cluster`."""
    cluster = Cluster(tmp_path_factory.mktemp("shared"), 2, replication__reconnect_delay_ms=500)
    yield cluster
    cluster.kill()


@pytest.fixture
def shared_cluster(module_cluster: Cluster) -> Cluster:
    """A running cluster that tests share, with whatever those before left in it."""
    for node in module_cluster.nodes:
        if not node.is_running:
            node.start()
    return module_cluster


def test_replica_that_starts_late_catches_up_from_the_log(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    cluster.master.start()
    fill(cluster.master, "early")
    cluster.replicas[0].start()
    await_equal_nodes(cluster)
    assert value_of(cluster.replicas[0], f"early:{KEYS - 1}") == "early"


def test_replica_that_starts_before_its_master_joins_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    cluster.replicas[0].launch()
    eventually(cluster.replicas[0].owner_pid)
    cluster.master.start()
    fill(cluster.master, "first")
    await_equal_nodes(cluster)


def test_killed_replica_comes_back_with_what_it_missed(shared_cluster: Cluster) -> None:
    cluster = shared_cluster
    fill(cluster.master, "before")
    cluster.replicas[0].kill()
    fill(cluster.master, "meanwhile")
    cluster.replicas[0].start()
    await_equal_nodes(cluster)
    assert value_of(cluster.replicas[0], "meanwhile:0") == "meanwhile"


def test_killed_master_comes_back_and_its_replicas_go_on(shared_cluster: Cluster) -> None:
    cluster = shared_cluster
    fill(cluster.master, "before")
    await_equal_nodes(cluster)
    history = status_of(cluster.master)["history"]
    cluster.master.kill()
    assert value_of(cluster.replicas[0], "before:0") == "before"
    cluster.master.start()
    fill(cluster.master, "after")
    await_equal_nodes(cluster)
    assert {status_of(node)["history"] for node in cluster.nodes} == {history}


def test_master_that_stops_cleanly_comes_back_and_its_replica_goes_on(
    shared_cluster: Cluster,
) -> None:
    cluster = shared_cluster
    fill(cluster.master, "before")
    assert cluster.master.stop() == 0
    cluster.master.start()
    fill(cluster.master, "after")
    await_equal_nodes(cluster)


@pytest.mark.timeout(180)
def test_nodes_killed_under_concurrent_writes_end_equal(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3)
    cluster.start()
    load = Load(f"http://{HOST}:{cluster.master.port}")
    with load:
        for victim in (cluster.replicas[0], cluster.replicas[1], cluster.master):
            await_more_writes(load)
            victim.kill()
            victim.start()
        await_more_writes(load)
    assert load.faults() == []
    await_equal_nodes(cluster)


def fill(node: Node, name: str) -> None:
    """Write KEYS keys `<name>:<number>`, each with the name as its value."""
    for start in range(0, KEYS, KEYS_A_REQUEST):
        numbers = range(start, start + KEYS_A_REQUEST)
        pairs = [{"key": f"{name}:{number}", "value": name} for number in numbers]
        assert node.request("POST", "/kv/mset", {"pairs": pairs}).status == 200


def await_more_writes(load: Load, count: int = 400) -> None:
    """Wait until the load has had `count` more writes acknowledged."""
    target = load.acknowledged + count
    eventually(lambda: load.has_acknowledged(target), CATCH_UP_SECONDS)


def await_equal_nodes(cluster: Cluster) -> None:
    """Wait until every replica is in sync at the master's offset, and compare all digests."""
    for replica in cluster.replicas:
        eventually(partial(is_caught_up, cluster.master, replica), CATCH_UP_SECONDS)
    digests = [node.request("GET", "/digest").json() for node in cluster.nodes]
    assert all(digest == digests[0] for digest in digests), digests


def is_caught_up(master: Node, replica: Node) -> bool:
    """Whether a replica has applied what its master has logged, and says so."""
    if not replica.is_healthy():
        return False
    status = status_of(replica)
    return (
        status["status"] == "in_sync"
        and status["local_offset"] == status_of(master)["current_offset"]
    )


def status_of(node: Node) -> dict[str, object]:
    """Return a node's answer on its replication."""
    status: dict[str, object] = node.request("GET", "/health/replication").json()
    return status


def value_of(node: Node, key: str) -> object:
    """Return the value that a node answers for `key`."""
    return node.request("GET", f"/kv/get/{key}").json()
