"""Full resync between real nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.support import HOST, Answer, Cluster, Node, eventually
from tests.system.test_replication import await_equal_nodes, await_more_writes

SETTINGS = {
    "replication__reconnect_delay_ms": 500,
    "persistence__wal__max_size_mb": 1,
    "persistence__snapshot__operation_threshold": 50,
    "persistence__snapshot__min_interval_secs": 1,
    # With one snapshot the log is cut right behind it.
    "persistence__snapshot__max_snapshots": 1,
}
SYNC_SECONDS = 40


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, 1, **SETTINGS)
    yield made
    made.kill()


class Asking:
    """Asks a node for one key all the time, and keeps what came back."""

    def __init__(self, node: Node, key: str) -> None:
        self._node = node
        self._key = key
        self._should_stop = False
        self.answers: list[tuple[int, object]] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._should_stop = True
        self._thread.join()

    def _ask(self) -> None:
        while not self._should_stop:
            answer = self._node.answer_or_none(f"/kv/get/{self._key}")
            if answer is None and self.answers:
                self.answers.append((0, None))
            elif answer is not None:
                self.answers.append((answer.status, answer.json()))
            time.sleep(0.005)


def cut_log(master: Node) -> None:
    """Write until the master's log no longer begins at 1."""
    value = os.urandom(48 * 1024).hex()

    def begins_later() -> bool:
        for number in range(20):
            answer = master.request("POST", "/kv/set", {"key": f"fill:{number}", "value": value})
            assert answer.status == 200
        segments = sorted((master.data_dir / "wal").glob("synap-*.wal"))
        return not segments[0].name.endswith("0001.wal")

    eventually(begins_later, SYNC_SECONDS)


@pytest.mark.timeout(120)
def test_empty_replica_joins_under_load_behind_a_cut_log(cluster: Cluster) -> None:
    """Cites R1 and R8."""
    master, replica = cluster.master, cluster.replicas[0]
    master.start()
    assert master.request("POST", "/kv/set", {"key": "known", "value": "v"}).status == 200
    counted = count_once(master)
    cut_log(master)
    with Load(f"http://{HOST}:{master.port}") as load, Asking(replica, "known") as asking:
        await_more_writes(load)
        replica.launch()
        eventually(lambda: (200, "v") in asking.answers, SYNC_SECONDS)
        await_more_writes(load)
    assert load.faults() == []
    await_equal_nodes(cluster)
    refused = [answer for answer in asking.answers if answer != (200, "v")]
    assert {status for status, _ in refused} <= {503}
    assert {body["reason"] for _, body in refused} <= {"syncing", "starting"}
    assert asking.answers.index((200, "v")) == len(refused)
    eventually(lambda: resyncs(replica, "full") == 1)
    remembered = [node.request("GET", "/idempotency/once") for node in (master, replica)]
    assert remembered[0].json()["position"] == counted.headers["x-synap-position"]
    assert remembered[1].body == remembered[0].body
    master.kill()
    assert replica.request("POST", "/replication/promote", {"force": True}).status == 200
    again = count_once(replica)
    assert (again.body, again.headers["idempotent-replayed"]) == (counted.body, "true")


def count_once(node: Node) -> Answer:
    """Send the same increment with the same key."""
    headers = {"Idempotency-Key": "once"}
    answer = node.request("POST", "/kv/incr", {"key": "counter"}, headers=headers)
    assert answer.status == 200, answer.body
    return answer


def resyncs(node: Node, kind: str) -> float:
    """Return what the node's metrics tell of its resyncs."""
    head = f'synap_replication_resyncs_total{{kind="{kind}"}} '
    lines = node.request("GET", "/metrics").body.decode().splitlines()
    return next(float(line.removeprefix(head)) for line in lines if line.startswith(head))


@pytest.mark.timeout(120)
def test_replica_that_was_away_too_long_answers_all_the_time(cluster: Cluster) -> None:
    """Cites R8."""
    master, replica = cluster.master, cluster.replicas[0]
    cluster.start()
    assert master.request("POST", "/kv/set", {"key": "known", "value": "v"}).status == 200
    await_equal_nodes(cluster)
    replica.kill()
    cut_log(master)
    with Asking(replica, "known") as asking:
        replica.launch()
        eventually(lambda: "is in place" in replica.log, SYNC_SECONDS)
        await_equal_nodes(cluster)
    served = asking.answers[asking.answers.index((200, "v")) :]
    assert set(served) == {(200, "v")}


@pytest.mark.timeout(120)
def test_diverged_replica_takes_its_masters_data_when_the_operator_accepts(
    cluster: Cluster,
) -> None:
    """Cites R12."""
    master, replica = cluster.master, cluster.replicas[0]
    cluster.start()
    assert master.request("POST", "/kv/set", {"key": "known", "value": "old"}).status == 200
    await_equal_nodes(cluster)
    assert accept("--data-dir", str(replica.data_dir)).returncode == 1
    master.kill()
    master.data_dir.rename(master.folder / "gone")
    master.start()
    assert master.request("POST", "/kv/set", {"key": "other", "value": "new"}).status == 200
    eventually(
        lambda: replica.request("GET", "/health/replication").json()["status"] == "diverged",
        SYNC_SECONDS,
    )
    assert replica.request("GET", "/kv/get/known").json() == "old"
    told = accept("--url", f"http://{HOST}:{replica.port}")
    assert (told.returncode, "accepted" in told.stdout) == (0, True), told.stderr
    await_equal_nodes(cluster)
    assert replica.request("GET", "/kv/get/known").status == 404
    assert list((replica.data_dir / "diverged").glob("*/wal/*.wal"))


def accept(*where: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "workers.main", "replication", "accept"]
    return subprocess.run(
        [*command, *where],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
