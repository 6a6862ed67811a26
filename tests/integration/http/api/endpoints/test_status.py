"""The node's own endpoints on a whole node."""

import os
import signal
import socket
from urllib.parse import quote

from synap import __version__
from tests.integration.http_support import Client, error_of, offset_of
from tests.support import HOST, Node, children_of, eventually, is_alive


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


def test_stats_tell_the_rates_and_the_workers(client: Client, key: str, http_node: Node) -> None:
    client.put(key, 1)
    for _ in range(20):
        client.get(f"/kv/get/{key}")
    rates = eventually(lambda: _rates_with_reads(client))
    assert rates.keys() == {"gets_per_second", "sets_per_second", "dels_per_second"}
    server = client.get("/stats").json()["server"]
    assert server["worker_pids"] == sorted(children_of(http_node.http_pid()))
    assert server["pids"]["supervisor"] == http_node.pid
    assert 0 < server["uptime_seconds"] < 3600


def _rates_with_reads(client: Client) -> dict[str, float]:
    rates: dict[str, float] = client.get("/stats").json()["kv"]["rates"]
    return rates if rates["gets_per_second"] > 0 else {}


def test_info_has_the_facts_of_stats_under_their_redis_names(client: Client, key: str) -> None:
    client.put(key, 1, ttl=1000)
    client.get(f"/kv/get/{key}")
    info, stats = client.get("/info").json(), client.get("/stats").json()
    assert info["memory"]["used_memory"] == stats["memory"]["used_bytes"]
    assert info["memory"]["maxmemory_policy"] == "noeviction"
    assert info["stats"]["keyspace_hits"] == stats["kv"]["operations"]["hits"]
    assert info["replication"]["role"] == "standalone"
    assert info["replication"]["master_repl_offset"] == stats["replication"]["current_offset"]
    assert info["keyspace"]["db0"]["keys"] == stats["kv"]["total_keys"]
    assert info["keyspace"]["db0"]["expires"] >= 1
    assert info["server"]["tcp_port"] == client.port
    assert info["clients"]["connected_clients"] >= 1


def test_info_of_a_section_is_that_one_alone_and_an_unknown_one_is_400(client: Client) -> None:
    assert list(client.get("/info?section=Replication").json()) == ["replication"]
    answer = client.get("/info?section=cpu")
    assert error_of(answer) == (400, "invalid_request", False)
    assert "keyspace" in answer.json()["error"]


def test_clients_are_the_connections_of_all_workers(client: Client, http_node: Node) -> None:
    sockets = [socket.create_connection((HOST, client.port)) for _ in range(8)]
    try:
        for each in sockets:
            each.sendall(b"GET /liveness HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert each.recv(12) == b"HTTP/1.1 200"
        facts = client.get("/clients").json()
        by_address = {each["address"]: each for each in facts["clients"]}
        assert facts["count"] == len(facts["clients"])
        for each in sockets:
            host, port = each.getsockname()
            assert by_address[f"{host}:{port}"]["worker"] in children_of(http_node.http_pid())
    finally:
        for each in sockets:
            each.close()


def test_memory_usage_grows_with_the_value_and_a_deadline(client: Client, key: str) -> None:
    client.put(key, "x" * 1000)
    path = f"/memory/{quote(key, safe='')}/usage"
    usage = client.get(path).json()
    assert 1000 < usage["bytes"] < 1200
    assert (usage["key"], usage["human"][-1]) == (key, "K")
    client.put(key, "x" * 1000, ttl=100)
    assert client.get(path).json()["bytes"] > usage["bytes"]
    assert error_of(client.get("/memory/no-such-key/usage"))[:2] == (404, "key_not_found")


def test_memory_usage_of_a_long_value_has_its_own_pages(client: Client, key: str) -> None:
    """A value of 2,100 bytes no longer fits into half a page: it gets one of its own."""
    client.put(key, "x" * 2100)
    usage = client.get(f"/memory/{quote(key, safe='')}/usage").json()
    assert usage["bytes"] == 10 + len(key.encode()) + 8 + 4096


def test_balancers_are_answered_while_every_write_waits(
    client: Client, key: str, http_node: Node
) -> None:
    body = b'{"key": "%b", "value": 1}' % key.encode()
    head = b"POST /kv/set HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    owner = http_node.owner_pid()
    os.kill(owner, signal.SIGSTOP)
    try:
        waiting = [socket.create_connection((HOST, client.port)) for _ in range(100)]
        for each in waiting:
            each.sendall(head + body)
        for path in ("/liveness", "/readiness", "/primary", "/read-only", "/health") * 4:
            assert http_node.request("GET", path, timeout_seconds=1.0).status == 200
        assert http_node.request("GET", "/replica", timeout_seconds=1.0).status == 503
    finally:
        os.kill(owner, signal.SIGCONT)
    for each in waiting:
        each.settimeout(10)
        assert each.recv(12) == b"HTTP/1.1 200"
        each.close()
