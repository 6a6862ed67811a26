"""Snapshots, recovery and migration of real nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from synap.snapshot.folder import snapshots
from synap.snapshot.image import verify_snapshot
from tests.conftest import StartNode
from tests.support import Cluster, Node, eventually, free_port


def put(node: Node, key: str, value: str = "v") -> int:
    answer = node.request("POST", "/kv/set", {"key": key, "value": value})
    assert answer.status == 200, answer.body
    return int(answer.headers["x-synap-offset"])


def digest(node: Node) -> dict[str, object]:
    return node.request("GET", "/digest").json()


def has_snapshot(node: Node, offset: int) -> bool:
    return (persistence(node)["last_snapshot"] or {}).get("offset") == offset


def persistence(node: Node) -> dict[str, Any]:
    return node.request("GET", "/stats").json()["persistence"]


def test_snapshot_by_request_is_durable_and_told(shared_node: Node) -> None:
    node = shared_node
    before = persistence(node)["snapshots"]
    offset = put(node, "a")
    answer = node.request("POST", "/snapshot")
    assert answer.status == 200, answer.body + node.log.encode()
    assert (answer.json()["success"], answer.json()["offset"]) == (True, offset)
    manifest = verify_snapshot(Path(answer.json()["file"]))
    assert (manifest.keys, manifest.position.offset) == (digest(node)["keys"], offset)
    assert node.request("POST", "/snapshot").json()["offset"] == offset
    eventually(partial(has_snapshot, node, offset))
    assert persistence(node)["snapshots"] == before + 1


def test_snapshot_command_takes_one_and_names_it(shared_node: Node) -> None:
    node = shared_node
    offset = put(node, "a")
    command = [sys.executable, "-P", "-m", "workers.main", "snapshot", "--url"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [*command, f"http://127.0.0.1:{node.port}"],
        env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    path, _, told = run.stdout.strip().partition(", offset ")
    assert (run.returncode, int(told)) == (0, offset)
    assert verify_snapshot(Path(path)).keys == digest(node)["keys"]
    run = subprocess.run(
        [*command, f"http://127.0.0.1:{free_port()}"],
        env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (run.returncode, "does not answer" in run.stderr) == (1, True)


def test_snapshots_come_by_themselves_and_old_ones_go(start_node: StartNode) -> None:
    node = start_node(
        persistence__snapshot__operation_threshold=5,
        persistence__snapshot__min_interval_secs=1,
        persistence__snapshot__max_snapshots=2,
        persistence__snapshot__compression=True,
    )
    taken: list[int] = []
    for round_ in range(3):
        for number in range(5):
            offset = put(node, f"key {round_} {number}")
        eventually(partial(has_snapshot, node, offset))
        taken.append(offset)
    found = snapshots(node.data_dir / "snapshots")
    assert [manifest.position.offset for _, manifest in found] == taken[:0:-1]
    assert {verify_snapshot(path).compression for path, _ in found} == {"zstd"}


def test_endless_overwrite_keeps_the_disk_bounded(start_node: StartNode) -> None:
    node = start_node(persistence__wal__max_size_mb=2, persistence__snapshot__max_snapshots=2)
    largest = 0
    for _ in range(12):
        for number in range(50):
            put(node, f"key {number % 10}", "v" * 100_000)
        assert node.request("POST", "/snapshot").status == 200
        eventually(lambda: persistence(node)["wal_bytes"] <= 12_000_000)
        largest = max(largest, size_of(node.data_dir))
    assert persistence(node)["wal_first_offset"] > 400
    assert largest < 25_000_000
    before = digest(node)
    node.kill()
    node.start()
    assert digest(node) == before


def test_replica_takes_snapshots_and_recovers_from_them(cluster: Cluster) -> None:
    master, replica = cluster.nodes[0], cluster.nodes[1]
    offset = put(master, "a")
    eventually(lambda: digest(replica)["offset"] == offset)
    assert replica.request("POST", "/snapshot").json()["offset"] == offset
    offset = put(master, "b")
    eventually(lambda: digest(replica)["offset"] == offset)
    replica.kill()
    shutil.rmtree(replica.data_dir / "store")
    replica.start()
    assert "from snapshot of offset 1" in replica.log
    offset = put(master, "c")
    eventually(lambda: digest(replica) == digest(master))


def test_tar_of_a_live_node_under_load_holds_all_that_was_acknowledged(
    start_node: StartNode, tmp_path: Path
) -> None:
    settings = {
        "persistence__wal__max_size_mb": 2,
        "persistence__snapshot__operation_threshold": 10,
        "persistence__snapshot__min_interval_secs": 1,
        "persistence__snapshot__max_snapshots": 3,
    }
    node = start_node("live", **settings)
    written: list[int] = []
    with under_load(node, written):
        eventually(lambda: persistence(node)["wal_first_offset"] > 1)
        for number in range(3):
            acknowledged = len(written)
            archive = tmp_path / f"{number}.tar"
            command = ["tar", "-C", str(node.data_dir), "-cf", str(archive), "."]
            # 1 says that a file changed while it was read.
            assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode in (0, 1)
            folder = tmp_path / f"restored{number}" / "data"
            folder.mkdir(parents=True)
            subprocess.run(["tar", "-C", str(folder), "-xf", str(archive)], check=True)
            restored = start_node(f"restored{number}", **settings)
            last = restored.request("GET", "/kv/get/last").json()
            assert int(last.partition(" ")[0]) >= acknowledged
            assert restored.request("GET", "/stats").json()["replication"]["epoch"] == 2
            put(restored, "more")
            restored.kill()


def test_migration_of_a_standalone_node_over_a_fresh_master(
    start_node: StartNode, tmp_path: Path
) -> None:
    old = start_node("old")
    for number in range(50):
        put(old, f"key {number}")
    with Cluster(tmp_path / "new", replicas=1) as cluster:
        master, replica = cluster.nodes
        subprocess.run(["cp", "-a", f"{old.data_dir}/.", f"{master.data_dir}/"], check=True)
        master.stop()
        master.start()
        assert digest(master)["digest"] == digest(old)["digest"]
        eventually(lambda: digest(replica) == digest(master))
        offset = put(master, "behind")
        eventually(lambda: digest(replica)["offset"] == offset)
        assert master.request("GET", "/stats").json()["server"]["role"] == "master"


def size_of(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if not path.is_symlink() and path.is_file():
                total += path.stat().st_blocks * 512
    return total


@contextmanager
def under_load(node: Node, written: list[int]) -> Iterator[None]:
    """Overwrite one key by its number, as fast as one client can, and note each answer."""
    stop = threading.Event()

    def write_on() -> None:
        while not stop.is_set():
            put(node, "last", f"{len(written) + 1} " + "v" * 20_000)
            written.append(len(written) + 1)

    writing = threading.Thread(target=write_on)
    writing.start()
    try:
        yield
    finally:
        stop.set()
        writing.join()
