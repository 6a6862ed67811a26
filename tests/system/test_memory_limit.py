"""The memory limit of a real node, with reads through its HTTP workers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.support import HOST, Cluster, Node, eventually

MIB = 1024 * 1024
VALUE = "v" * 200


def mset(node: Node, keys: list[str]) -> int:
    pairs = [{"key": key, "value": VALUE} for key in keys]
    return node.request("POST", "/kv/mset", {"pairs": pairs}).status


def read(node: Node, keys: list[str]) -> int:
    """Read keys over one connection and return how many of them there are."""
    connection = http.client.HTTPConnection(HOST, node.port, timeout=10)
    found = 0
    for key in keys:
        connection.request("GET", f"/kv/get/{key}")
        answer = connection.getresponse()
        answer.read()
        found += answer.status == HTTPStatus.OK
    connection.close()
    return found


def memory(node: Node) -> dict[str, int]:
    facts = json.loads(node.request("GET", "/stats").body)["memory"]
    assert isinstance(facts, dict)
    return facts


def test_lru_keeps_what_http_workers_read(start_node: StartNode) -> None:
    node = start_node(kv_store__max_memory_mb=1, kv_store__eviction_policy="lru", server__workers=2)
    hot = [f"hot{number}" for number in range(100)]
    assert mset(node, hot) == HTTPStatus.OK
    for start in range(0, 10_000, 200):
        assert mset(node, [f"cold{start + n:06}" for n in range(200)]) == HTTPStatus.OK
        if start % 400 == 0:
            assert read(node, hot) >= 98
    facts = memory(node)
    assert facts["limit_bytes"] == MIB
    assert facts["used_bytes"] <= MIB + MIB // 100 + 2 * 200 * 276
    eventually(lambda: memory(node)["evicted_total"] > 5000)
    assert read(node, [f"cold{number:06}" for number in range(1000)]) < 50


def test_noeviction_answers_507_and_takes_writes_again(start_node: StartNode) -> None:
    node = start_node(kv_store__max_memory_mb=1)
    keys = [f"k{number:06}" for number in range(10_000)]
    batches = [keys[at : at + 100] for at in range(0, len(keys), 100)]
    taken = next(at for at, batch in enumerate(batches) if mset(node, batch) != HTTPStatus.OK)
    answer = node.request("POST", "/kv/set", {"key": "new", "value": VALUE})
    assert (answer.status, answer.json()["reason"]) == (507, "memory_limit")
    assert answer.json()["retryable"] is True
    assert read(node, keys[:100]) == 100
    assert node.request("GET", "/health").json()["read_only"] == "memory_limit"
    gone = [key for batch in batches[: taken // 2] for key in batch]
    deleted = node.request("POST", "/kv/mdel", {"keys": gone})
    assert deleted.json() == {"deleted": len(gone)}
    eventually(lambda: mset(node, ["new"]) == HTTPStatus.OK, 5.0)
    assert "read_only" not in node.request("GET", "/health").json()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    """A master that evicts, and a replica."""
    with Cluster(
        tmp_path, 1, kv_store__max_memory_mb=1, kv_store__eviction_policy="allkeys-lfu"
    ) as cluster:
        yield cluster


def test_replicas_follow_the_masters_evictions(pair: Cluster) -> None:
    master, (replica,) = pair.master, pair.replicas
    for start in range(0, 8000, 200):
        assert mset(master, [f"k{start + n:06}" for n in range(200)]) == HTTPStatus.OK
    eventually(lambda: memory(master)["evicted_total"] > 2000)
    eventually(lambda: digest(replica) == digest(master))


def digest(node: Node) -> bytes:
    return node.request("GET", "/digest").body
