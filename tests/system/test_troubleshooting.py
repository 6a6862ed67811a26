"""The cases of docs/deployment.md, "When something is wrong": each one names its cause.

Faulty configurations, ports and directories in use are in test_cli.py, encryption that one side
speaks alone in test_curve.py, a full disk in test_disk_full.py, divergence in test_resync.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from synap.wal.segment import SEGMENT_HEADER_BYTES
from tests.support import Cluster, Node, eventually, free_port
from workers.process import EXIT_REFUSED

MISSING = "no-such-host.invalid"


def link(node: Node) -> dict[str, Any]:
    answer = node.answer_or_none("/health/replication")
    return answer.json() if answer is not None else {}


def put(node: Node, key: str) -> None:
    assert node.request("POST", "/kv/set", {"key": key, "value": "v"}).status == 200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("cluster"), 1, replication__heartbeat_interval_ms=100
    ) as cluster:
        yield cluster


def test_replica_that_lags_tells_by_how_much_and_since_when(cluster: Cluster) -> None:
    (replica,) = cluster.replicas
    eventually(lambda: link(replica)["status"] == "in_sync")
    os.kill(replica.owner_pid(), signal.SIGSTOP)
    try:
        put(cluster.master, "unseen")
        told = eventually(lambda: link(replica)["lag_ms"] > 500 and link(replica))
        assert told["last_sync"]
    finally:
        os.kill(replica.owner_pid(), signal.SIGCONT)
    eventually(lambda: link(replica)["lag_entries"] == 0 and link(replica)["lag_ms"] < 500)


def test_replica_without_its_master_names_the_address_it_looks_for(cluster: Cluster) -> None:
    (replica,) = cluster.replicas
    replica.stop()
    replica.settings["replication.master_address"] = f"{MISSING}:{free_port()}"
    replica.settings["replication.master_sync_address"] = f"{MISSING}:{free_port()}"
    replica.launch()
    told = eventually(lambda: link(replica).get("note") and link(replica))
    assert told["status"] in ("connecting", "disconnected")
    assert MISSING in told["note"]
    assert MISSING in replica.log


def test_restart_behind_a_crash_tells_what_was_replayed_and_cut(cluster: Cluster) -> None:
    node = cluster.master
    put(node, "kept")
    node.kill()
    segment = sorted((node.data_dir / "wal").glob("synap-*.wal"))[-1]
    with segment.open("ab") as file:
        file.write(b"half a frame")
    node.start()
    (told,) = re.findall(r"log open at .*", node.log.rpartition("master on http")[2])
    assert "12 bytes cut" in told
    assert node.request("GET", "/kv/get/kept").status == 200


def test_master_with_a_damaged_log_names_file_byte_and_tool(cluster: Cluster) -> None:
    node = cluster.master
    for number in range(3):
        put(node, f"behind:{number}")
    node.kill()
    segment = max((node.data_dir / "wal").glob("synap-*.wal"))
    content = bytearray(segment.read_bytes())
    # In the header of the first frame; whole ones follow.
    content[SEGMENT_HEADER_BYTES + 8] ^= 1
    segment.write_bytes(content)
    # With it the node would begin behind the place, and not read it.
    shutil.rmtree(node.data_dir / "store")
    node.launch()
    assert node.wait() == EXIT_REFUSED
    (told,) = [line for line in node.log.splitlines() if "synap wal" in line]
    assert segment.name in told
    assert f"byte {SEGMENT_HEADER_BYTES}" in told
