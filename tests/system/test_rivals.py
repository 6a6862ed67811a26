"""Two masters of one cluster: in seconds one of them is left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synap.replication.publishing.rival_watch import load_peers
from tests.support import Cluster, Node, eventually
from tests.system.test_roles import (
    HEARTBEAT,
    SECONDS,
    await_silence,
    facts,
    follow,
    is_level,
    promote,
    put,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, 2, **HEARTBEAT) as cluster:
        assert put(cluster.master, "first", "1", 2) == 200
        yield cluster


def await_peers(*replicas: Node) -> None:
    """Wait until each replica knows where all of them would be as masters."""
    wanted = sorted(f"127.0.0.1:{replica.sync_port}" for replica in replicas)

    def kept(replica: Node) -> list[str]:
        return sorted(load_peers(replica.data_dir / "peers.json"))

    eventually(lambda: all(kept(replica) == wanted for replica in replicas), SECONDS)


def fenced(*nodes: Node) -> list[Node]:
    return [node for node in nodes if facts(node)["read_only"] == "stale_epoch"]


def test_two_replicas_promoted_at_once_are_one_master_in_seconds(trio: Cluster) -> None:
    """E6, E7."""
    old, one, two = trio.nodes
    await_peers(one, two)
    old.kill()
    for replica in (one, two):
        await_silence(replica)
    with ThreadPoolExecutor(2) as pool:
        assert {taken["epoch"] for taken in pool.map(promote, (one, two))} == {2}
    (lower,) = eventually(lambda: fenced(one, two), 10)
    (higher,) = {one, two} - {lower}
    assert put(lower, "k", "v") == 503
    assert lower.request("GET", "/primary").json()["reasons"] == ["stale_epoch"]
    assert "writes are refused: " in lower.log
    refused = lower.request("POST", "/kv/set", {"key": "k", "value": "v"})
    winner = f"http://127.0.0.1:{higher.port}"
    assert (refused.json()["reason"], refused.json()["master"]) == ("stale_epoch", winner)
    assert refused.headers["x-synap-master"] == winner
    assert put(higher, "k", "v") == 200
    assert higher.request("GET", "/primary").status == 200
    lower.kill()
    lower.start()
    assert fenced(one, two) == [lower]
    follow(lower, higher, force=True)
    eventually(lambda: is_level(higher, lower), SECONDS)
    assert lower.request("GET", "/kv/get/k").json() == "v"


def test_replica_that_changes_from_one_master_to_another_settles_who_reigns(
    tmp_path: Path,
) -> None:
    """E2, E6: they are met by no question, because neither knows the other's address."""
    with Cluster(tmp_path, 3, **HEARTBEAT) as cluster:
        old, one, two, third = cluster.nodes
        assert put(old, "first", "1", 3) == 200
        old.kill()
        for replica in (one, two, third):
            await_silence(replica)
            (replica.data_dir / "peers.json").unlink(missing_ok=True)
        two.stop()
        promote(one)
        assert put(one, "a", "1") == 200
        one.stop()
        two.start()
        promote(two)
        assert put(two, "b", "1") == 200
        follow(third, two)
        eventually(lambda: is_level(two, third), SECONDS)
        one.start()
        follow(third, one, force=True)
        eventually(lambda: len(fenced(one, two)) == 1 or is_level(one, third), SECONDS)
        if not fenced(one):
            # Its reign outranks: the replica put what it had of the other one aside.
            follow(third, two, force=True)
            eventually(lambda: fenced(two), SECONDS)
        assert len(fenced(one, two)) == 1
