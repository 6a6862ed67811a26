"""The node's own endpoints on a whole node."""

from synap import __version__
from tests.integration.http_support import Client, offset_of
from tests.support import Node, is_alive


def test_health_of_a_node_that_serves_is_200(client: Client) -> None:
    answer = client.get("/health")
    assert answer.status == 200
    assert answer.json() == {
        "status": "healthy",
        "service": "synap",
        "version": __version__,
        "role": "standalone",
    }


def test_replication_of_a_standalone_node_names_its_role_and_offset(
    client: Client, key: str
) -> None:
    offset = client.put(key, 1)
    facts = client.get("/health/replication").json()
    assert facts["role"] == "standalone"
    assert facts["epoch"] == 1
    assert len(facts["history"]) == 32
    assert facts["current_offset"] >= offset


def test_stats_tell_of_server_memory_keys_log_and_replication(
    client: Client, key: str, http_node: Node
) -> None:
    client.put(key, "x" * 1000)
    stats = client.get("/stats").json()
    assert stats["server"]["node_id"] == "http"
    assert stats["server"]["workers"] == 2
    assert all(is_alive(pid) for pid in stats["server"]["pids"].values())
    assert stats["server"]["pids"]["log_owner"] == http_node.owner_pid()
    assert 0 < stats["memory"]["used_bytes"] < stats["memory"]["limit_bytes"]
    assert stats["kv"].keys() >= client.get("/kv/stats").json().keys()
    assert stats["persistence"]["wal_bytes"] > 0
    assert stats["replication"]["role"] == "standalone"


def test_digest_changes_with_the_data_and_with_nothing_else(client: Client, key: str) -> None:
    client.put(key, 1)
    first = client.get("/digest")
    assert client.get("/digest").json() == first.json()
    assert first.json()["offset"] == offset_of(first)
    assert len(first.json()["digest"]) == 64
    client.put(key, 2)
    second = client.get("/digest").json()
    assert second["digest"] != first.json()["digest"]
    assert second["keys"] == first.json()["keys"]
