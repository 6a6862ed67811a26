"""Reads that tell only what replicas hold."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import Answer, Cluster, Node, eventually
from tests.system.test_roles import HEARTBEAT

pytestmark = pytest.mark.timeout(120)

READS = [
    ("GET", "/kv/get/k", None),
    ("GET", "/raw/k", None),
    ("GET", "/kv/get/missing", None),
    ("GET", "/kv/scan", None),
    ("POST", "/kv/mget", {"keys": ["k"]}),
    ("POST", "/api/v1/command", {"command": "kv.get", "payload": {"key": "k"}}),
]
ASKED = {"X-Synap-Min-Replicas": "1"}


@contextmanager
def silent(node: Node) -> Iterator[None]:
    """Have a replica's log stand still."""
    owner = node.owner_pid()
    os.kill(owner, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(owner, signal.SIGCONT)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("plain"), 1, **HEARTBEAT, replication__ack_timeout_ms=300
    ) as cluster:
        assert put(cluster.master, "old", ASKED).status == 200
        yield cluster


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("held"), 1, **HEARTBEAT, replication__ack_timeout_ms=300,
        replication__min_replicas_to_write=1, replication__read_held=True,
        replication__replica_timeout_secs=1,
    ) as cluster:  # fmt: skip
        eventually(lambda: put(cluster.master, "old").status == 200)
        yield cluster


def put(node: Node, key: str, headers: dict[str, str] | None = None) -> Answer:
    return node.request("POST", "/kv/set", {"key": key, "value": "v"}, headers)


def told(answer: Answer) -> tuple[int, str, bool]:
    body = answer.json()
    return answer.status, body["reason"], body["retryable"]


@pytest.mark.parametrize(("method", "path", "body"), READS)
def test_read_of_what_no_replica_holds_is_refused_where_it_is_asked_for(
    plain: Cluster, method: str, path: str, body: object
) -> None:
    """Q5."""
    (replica,) = plain.replicas
    with silent(replica):
        assert put(plain.master, "k").status == 200
        assert plain.master.request("GET", "/kv/get/k").status == 200
        assert told(plain.master.request(method, path, body, ASKED)) == (503, "not_held", True)
        assert plain.master.request("GET", "/kv/get/old", headers=ASKED).status == 200
    answer = eventually(
        lambda: (found := plain.master.request(method, path, body, ASKED)).status != 503 and found
    )
    assert answer.status == (404 if "missing" in path else 200)


def test_batch_refuses_its_reads_alone_where_too_few_hold_them(plain: Cluster) -> None:
    (replica,) = plain.replicas
    reads = [{"command": "kv.get", "payload": {"key": key}} for key in ("k", "old", "k")]
    with silent(replica):
        put(plain.master, "k")
        body = {"type": "batch", "commands": reads}
        answer = plain.master.request("POST", "/api/v1/command", body, ASKED)
    results = answer.json()["results"]
    assert [result["success"] for result in results] == [False, False, False]
    assert "fewer than 1 replicas hold" in results[0]["error"]


def test_replica_sends_a_read_that_wants_replicas_to_the_master(plain: Cluster) -> None:
    (replica,) = plain.replicas
    assert told(replica.request("GET", "/kv/get/old", headers=ASKED))[:2] == (
        421, "read_only_replica",
    )  # fmt: skip
    assert replica.request("GET", "/kv/get/old", headers=ASKED | {
        "X-Synap-Min-Replicas": "0",
    }).status == 200  # fmt: skip


def test_read_held_hides_a_write_that_its_client_was_not_told_of(held: Cluster) -> None:
    master, (replica,) = held.master, held.replicas
    with silent(replica):
        keyed = {"Idempotency-Key": "k"}
        assert told(put(master, "k", keyed)) == (503, "quorum_timeout", True)
        assert told(master.request("GET", "/kv/get/k")) == (503, "not_held", True)
        assert master.request("GET", "/kv/get/old").status == 200
    eventually(lambda: master.request("GET", "/kv/get/k").status == 200)
    assert eventually(lambda: replica.request("GET", "/kv/get/k").status == 200)


def test_master_without_its_quorum_is_not_primary_until_it_is_back(held: Cluster) -> None:
    master, (replica,) = held.master, held.replicas
    assert master.request("GET", "/primary").status == 200
    with silent(replica):
        answer = eventually(
            lambda: (found := master.request("GET", "/primary")).status == 503 and found
        )
        assert answer.json()["reasons"] == ["no_quorum"]
        assert master.request("GET", "/health").json()["acknowledges_no_writes"] == "no_quorum"
    eventually(lambda: master.request("GET", "/primary").status == 200)
    assert "acknowledges_no_writes" not in master.request("GET", "/health").json()
