"""`/metrics` on a whole node, and the collector on states that a healthy node is not in."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from synap import __version__
from synap.http.api.endpoints.metrics import NodeCollector, NodeState
from synap.shared.board import BoardView, NodeDetails, ReplicaFacts, SnapshotFacts
from synap.shared.counters import Counter
from tests.integration.http_support import Client, make_config, open_board, serving
from tests.support import Node, children_of, eventually

# What the node must tell of, whatever its role.
FAMILIES = {
    "synap_http_requests", "synap_http_request_duration_seconds", "synap_keys", "synap_reads",
    "synap_expired", "synap_evicted", "synap_store_bytes", "synap_store_readers",
    "synap_wal_fsync_duration_seconds", "synap_wal_batch_entries", "synap_wal_bytes",
    "synap_snapshot_last_success_timestamp_seconds", "synap_replication_offset",
    "synap_replication_lag_entries", "synap_replication_lag_seconds",
    "synap_replication_resyncs", "synap_replication_gaps", "synap_role", "synap_epoch",
    "synap_read_only", "synap_build_info", "synap_process_cpu_seconds",
    "synap_process_resident_memory_bytes", "synap_process_open_fds",
}  # fmt: skip


def parse(text: str) -> dict[str, Metric]:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    return families


def scrape(client: Client) -> dict[str, Metric]:
    answer = client.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return parse(answer.body.decode())


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """Return the sum of a sample over the labels that are not given; 0.0 for none."""
    return sum(
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def requests(client: Client, route: str = "/kv/get/{key}", code: str = "200") -> float:
    return value(scrape(client), "synap_http_requests_total", route=route, code=code)


def test_metrics_name_every_family_of_the_contract(client: Client, key: str) -> None:
    client.put(key, 1)
    families = scrape(client)
    assert FAMILIES - families.keys() == set()
    assert value(families, "synap_build_info", version=__version__) == 1
    assert value(families, "synap_role", role="standalone") == 1
    assert value(families, "synap_role") == 1
    assert value(families, "synap_keys") >= 1
    assert value(families, "synap_store_bytes", kind="used") > 0


def test_requests_are_counted_over_all_workers_by_route_and_code(client: Client, key: str) -> None:
    client.put(key, 1)
    found, missed = requests(client), requests(client, code="404")
    for _ in range(20):
        client.get(f"/kv/get/{key}")
    client.get(f"/kv/get/{key}-missing")
    assert requests(client) == found + 20
    assert requests(client, code="404") == missed + 1


def test_durations_add_up_to_the_requests(client: Client, key: str) -> None:
    client.put(key, 1)
    families = scrape(client)
    name, labels = "synap_http_request_duration_seconds", {"route": "/kv/set", "method": "POST"}
    counted = value(families, f"{name}_count", **labels)
    assert counted == value(families, "synap_http_requests_total", **labels) > 0
    assert counted == value(families, f"{name}_bucket", **labels, le="+Inf")
    assert 0 < value(families, f"{name}_sum", **labels) < 10 * counted


def test_no_key_and_no_unknown_path_becomes_a_label(client: Client, key: str) -> None:
    client.put(key, 1)
    client.get(f"/kv/get/{key}")
    client.get(f"/nothing/{key}")
    client.send("BREW", f"/kv/get/{key}")
    text = client.get("/metrics").body.decode()
    assert key.rpartition(":")[2] not in text
    assert 'route="none"' in text
    assert "BREW" not in text


def test_log_counts_frames_and_their_entries(client: Client, key: str) -> None:
    before = scrape(client)
    client.post("/kv/mset", {"pairs": [[f"{key}:{number}", 1] for number in range(3)]})

    def gained(name: str) -> float:
        return value(scrape(client), name) - value(before, name)

    frames, entries = gained("synap_wal_batch_entries_count"), gained("synap_wal_batch_entries_sum")
    # Keys of the tests before may be due just then, and go in frames of their own.
    expired = gained("synap_expired_total")
    assert 1 <= frames <= 1 + expired
    assert 3 <= entries <= 3 + expired
    eventually(lambda: gained("synap_wal_fsync_duration_seconds_count") > 0)


def test_counts_survive_a_killed_worker_and_a_killed_writer(
    client: Client, key: str, http_node: Node
) -> None:
    client.post("/kv/set", {"key": key, "value": 1, "expiry": {"type": "milliseconds", "value": 1}})
    eventually(lambda: value(scrape(client), "synap_expired_total") > 0)
    before = scrape(client)
    victims = [children_of(http_node.http_pid())[0], http_node.owner_pid()]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: http_node.owner_pid() not in (0, victims[1]))
    eventually(lambda: len(set(children_of(http_node.http_pid())) - {victims[0]}) == 2)
    eventually(lambda: client.post("/kv/set", {"key": key, "value": 2}).status == 200)
    after = scrape(client)
    fallen = {
        (sample.name, *sample.labels.values())
        for family in before.values()
        if family.type in ("counter", "histogram") and "process" not in family.name
        for sample in family.samples
        if value(after, sample.name, **sample.labels) < sample.value
    }
    assert fallen == set()


def test_each_process_of_the_node_has_its_metrics(client: Client, http_node: Node) -> None:
    families = scrape(client)
    shown = {
        (sample.labels["process"], int(sample.labels["pid"]))
        for sample in families["synap_process_open_fds"].samples
    }
    workers = {("http_worker", pid) for pid in children_of(http_node.http_pid())}
    others = {
        ("supervisor", http_node.pid),
        ("http_server", http_node.http_pid()),
        ("writer", http_node.owner_pid()),
    }
    assert shown - {pair for pair in shown if pair[0] == "snapshot"} == workers | others
    assert value(families, "synap_process_cpu_seconds_total") > 0


def test_node_without_a_store_still_has_metrics(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with open_board(config), serving(config) as client:
        families = scrape(client)
    assert "synap_keys" not in families
    assert value(families, "synap_role", role="standalone") == 1


def collected(role: str, view: BoardView, details: NodeDetails) -> dict[str, Metric]:
    state = NodeState(
        name="n1", role=role, view=view, details=details, applied_offset=view.applied_offset,
        lag_ms=1500, limit_bytes=0, request_limits=(10, 2000), counts=[0] * len(Counter),
        store=None, is_open=False,
    )  # fmt: skip
    return {family.name: family for family in NodeCollector(state, {}).collect()}


@pytest.mark.parametrize(
    ("status", "is_up"),
    [("in_sync", 1), ("lagging", 1), ("catching_up", 1), ("disconnected", 0), ("diverged", 0)],
)
def test_replica_tells_its_link_and_its_lag(status: str, is_up: int) -> None:
    view = BoardView(role="replica", status=status, applied_offset=90, master_offset=100)
    families = collected("replica", view, NodeDetails())
    assert value(families, "synap_replication_link_up") == is_up
    assert value(families, "synap_replication_lag_entries", replica="n1") == 10
    assert value(families, "synap_replication_lag_seconds", replica="n1") == 1.5
    assert value(families, "synap_replication_offset", kind="master") == 100


def test_master_tells_what_is_remembered_of_requests_and_how_much_may_be() -> None:
    details = NodeDetails(request_records=3, request_bytes=500)
    families = collected("master", BoardView(role="master"), details)
    told = {
        name: value(families, f"synap_idempotency_{name}")
        for name in ("records", "max_records", "bytes", "max_bytes")
    }
    assert told == {"records": 3, "max_records": 10, "bytes": 500, "max_bytes": 2000}
    assert "synap_idempotency_records" not in collected("replica", BoardView(), details)


def test_master_tells_the_lag_of_each_replica_and_how_they_are() -> None:
    replicas = (
        ReplicaFacts("r1", "10.0.0.1", 100, 0, 0, "in_sync", 0),
        ReplicaFacts("r2", "10.0.0.2", 40, 60, 2000, "lagging", 0),
    )
    view = BoardView(role="master", applied_offset=100, master_offset=100)
    families = collected("master", view, NodeDetails(replicas=replicas))
    assert value(families, "synap_replication_lag_entries", replica="r2") == 60
    assert value(families, "synap_replication_lag_seconds", replica="r2") == 2
    assert value(families, "synap_replication_replicas", status="lagging") == 1
    assert "synap_replication_link_up" not in families


def test_refusal_of_writes_and_failing_snapshots_show() -> None:
    details = NodeDetails(snapshots=SnapshotFacts(last_ms=5000, error="no room"))
    families = collected("master", BoardView(role="master", read_only="disk_full"), details)
    assert value(families, "synap_read_only", reason="disk_full") == 1
    assert value(families, "synap_read_only") == 1
    assert value(families, "synap_snapshot_failing") == 1
    assert value(families, "synap_snapshot_last_success_timestamp_seconds") == 5
