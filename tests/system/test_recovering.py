"""A master that may have lost the end of its log, and whose replica does not come back."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.test_power_cut import pretend_reboot
from tests.support import HOST, Node, eventually

FASTER = {
    "replication__heartbeat_interval_ms": 100,
    "replication__reconnect_delay_ms": 100,
}


@pytest.mark.parametrize("quorum", [0, 1])
def test_operator_has_a_recovering_master_go_on_without_its_replica(
    tmp_path: Path, quorum: int
) -> None:
    with ExitStack() as stack:
        master = Node(
            tmp_path / "master", "master",
            {
                **FASTER, "replication__role": "master", "replication__restart_wait_secs": 3600,
                "replication__min_replicas_to_write": quorum, "replication__ack_timeout_ms": 1000,
            },
        )  # fmt: skip
        replica = Node(
            tmp_path / "replica", "replica",
            {
                **FASTER, "replication__role": "replica",
                "replication__master_address": f"{HOST}:{master.pub_port}",
                "replication__master_sync_address": f"{HOST}:{master.sync_port}",
            },
        )  # fmt: skip
        for node in (master, replica):
            node.folder.mkdir()
            stack.enter_context(node)
        eventually(lambda: put(master, "before") == (200, None), 20)
        replica.kill()
        master.kill()
        pretend_reboot(master)
        master.start()
        eventually(lambda: facts(master).get("waiting_for"), 20)
        assert facts(master)["read_only"] == "recovering"
        assert [each["id"] for each in facts(master)["waiting_for"]] == ["replica"]
        assert put(master, "refused") == (503, "recovering")
        assert master.request("GET", "/primary").status == 503
        assert master.request("GET", "/kv/get/before").json() == "v"
        refused = master.request("POST", "/replication/promote", {})
        assert (refused.status, refused.json()["reason"]) == (409, "force_wanted")
        master.kill()
        master.start()
        eventually(lambda: facts(master).get("read_only") == "recovering", 20)
        assert master.request("POST", "/replication/promote", {"force": True}).status == 200
        eventually(lambda: master.request("GET", "/primary").status == 200, 20)
        if not quorum:
            assert put(master, "after") == (200, None)
        replica.start()
        eventually(lambda: put(master, "later") == (200, None), 20)
        eventually(lambda: replica.request("GET", "/kv/get/later").status == 200, 20)
        assert replica.request("GET", "/kv/get/before").json() == "v"


def test_recovering_master_goes_on_when_its_replica_is_forgotten(tmp_path: Path) -> None:
    with ExitStack() as stack:
        master = Node(
            tmp_path / "master", "master",
            {**FASTER, "replication__role": "master", "replication__restart_wait_secs": 3600},
        )  # fmt: skip
        replica = Node(
            tmp_path / "replica", "replica",
            {
                **FASTER, "replication__role": "replica",
                "replication__master_address": f"{HOST}:{master.pub_port}",
                "replication__master_sync_address": f"{HOST}:{master.sync_port}",
            },
        )  # fmt: skip
        for node in (master, replica):
            node.folder.mkdir()
            stack.enter_context(node)
        eventually(lambda: put(master, "before") == (200, None), 20)
        kept = master.data_dir / "replicas.json"
        eventually(lambda: kept.exists() and "replica" in kept.read_text())
        replica.kill()
        master.kill()
        pretend_reboot(master)
        master.start()
        eventually(lambda: facts(master).get("waiting_for"), 20)
        waiting = b"synap_replication_restart_waiting_for 1.0"
        eventually(lambda: waiting in master.request("GET", "/metrics").body)
        forgotten = master.request("POST", "/replication/forget", {"replica": "replica"})
        assert forgotten.json() == {"success": True, "replica": "replica"}
        eventually(lambda: put(master, "after") == (200, None), 20)
        assert master.request("GET", "/kv/get/before").json() == "v"


def facts(node: Node) -> dict[str, object]:
    return node.request("GET", "/health/replication").json()


def put(node: Node, key: str) -> tuple[int, str | None]:
    """Return status and reason of a write."""
    answer = node.request("POST", "/kv/set", {"key": key, "value": "v"})
    return answer.status, answer.json().get("reason")
