"""A master that is lost, and the operator's one command: seals, promotion, and the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import synap_here
from tests.support import Cluster, Node, eventually
from tests.system.test_roles import HEARTBEAT, facts, put

pytestmark = pytest.mark.timeout(180)


def url_of(node: Node) -> str:
    return f"http://127.0.0.1:{node.port}"


def test_failover_needs_the_seals_and_says_what_it_did(tmp_path: Path) -> None:
    """Cites S1 to S3. Each write waits for one of two replicas, so both are needed."""
    settings = {**HEARTBEAT, "replication__min_replicas_to_write": 1}
    with Cluster(tmp_path, 2, **settings) as trio:
        one, two = trio.replicas
        eventually(lambda: put(trio.master, "first", "1", 2) == 200)
        eventually(lambda: len(facts(one)["voters"]) == len(facts(two)["voters"]) == 2)
        heard = synap_here("failover", "--url", url_of(one), "--url", url_of(two))
        assert heard.returncode == 1
        assert "still heard" in heard.stderr
        trio.master.kill()
        eventually(lambda: facts(one)["status"] == facts(two)["status"] == "disconnected")
        alone = synap_here("promote", "--url", url_of(one))
        assert alone.returncode == 1
        assert "1 of 2 voters answer, and 2 are needed" in alone.stderr
        assert facts(one)["sealed_epoch"] == 0
        done = synap_here("failover", "--url", url_of(one), "--url", url_of(two))
        assert done.returncode == 0, done.stderr
        assert "is the master from epoch 2 on" in done.stdout
        new = one if facts(one)["role"] == "master" else two
        other = two if new is one else one
        assert put(new, "second", "2", 1) == 200
        assert facts(other)["sealed_epoch"] == 2


def test_sealed_replica_acknowledges_no_more_until_its_master_is_promoted_again(
    tmp_path: Path,
) -> None:
    """Cites S1 and S2."""
    with Cluster(tmp_path, 1, **HEARTBEAT) as pair:
        (replica,) = pair.replicas
        assert eventually(lambda: put(pair.master, "first", "1", 1) == 200)
        seal = {"epoch": 2, "candidate": "replica1"}
        answer = replica.request("POST", "/replication/seal", seal)
        assert answer.json()["rank"][:2] == [1, 1]
        assert put(pair.master, "second", "2", 1) == 503
        assert replica.request("POST", "/replication/seal", seal | {"candidate": "x"}).status == 409
        url = url_of(pair.master)
        again = synap_here("promote", "--force", "--url", url, "--voter", url_of(replica))
        assert "epoch 3" in again.stdout
        assert eventually(lambda: put(pair.master, "third", "3", 1) == 200)
