"""A real node: its processes killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.support import (
    HOST,
    Cluster,
    Node,
    children_of,
    command_of,
    descendants_of,
    eventually,
    free_port,
    free_port_block,
    is_alive,
)
from workers.process import PARENT_VARIABLE, child_environment

SHARED_SETTINGS = {"replication__role": "master"}


def set_key(node: Node, key: str, value: str) -> int:
    answer = node.request("POST", "/kv/set", {"key": key, "value": value})
    return answer.status


def test_node_on_sigterm_exits_clean_and_leaves_no_process(shared_node: Node) -> None:
    node = shared_node
    pids = descendants_of(node.pid)
    assert len(pids) == 3
    assert node.stop() == 0
    assert not any(map(is_alive, pids))


def test_node_started_again_has_its_data(shared_node: Node) -> None:
    node = shared_node
    assert set_key(node, "user:100", "Alice") == 200
    node.stop()
    node.start()
    assert node.request("GET", "/kv/get/user:100").json() == "Alice"


def test_node_on_a_data_directory_in_use_is_refused(shared_node: Node) -> None:
    node = shared_node
    second = subprocess.run(
        [sys.executable, "-P", "-m", "workers.main", "serve", "--data-dir", str(node.data_dir)],
        env={**child_environment(os.environ, None, {}), PARENT_VARIABLE: ""},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 3
    assert f"{node.data_dir} is in use by another process" in second.stderr
    assert node.is_healthy()


def test_node_whose_writer_is_killed_serves_reads_and_soon_writes(
    shared_node: Node,
) -> None:
    node = shared_node
    set_key(node, "before", "1")
    os.kill(node.owner_pid(), signal.SIGKILL)
    assert node.request("GET", "/kv/get/before").json() == "1"
    eventually(lambda: set_key(node, "after", "2") == 200)
    assert node.request("GET", "/kv/get/before").json() == "1"


def test_node_whose_http_process_is_killed_serves_again(shared_node: Node) -> None:
    node = shared_node
    set_key(node, "key", "1")
    first = node.http_pid()
    workers = children_of(first)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: node.http_pid() not in (0, first) and node.is_healthy())
    assert not any(map(is_alive, workers))
    assert node.request("GET", "/kv/get/key").json() == "1"


def test_node_whose_supervisor_is_killed_leaves_nothing_and_starts_again(
    shared_node: Node,
) -> None:
    node = shared_node
    set_key(node, "key", "1")
    pids = descendants_of(node.pid)
    os.kill(node.pid, signal.SIGKILL)
    node.wait()
    eventually(lambda: not any(map(is_alive, pids)))
    node.start()
    assert node.request("GET", "/kv/get/key").json() == "1"


def test_node_on_ttin_and_ttou_changes_its_workers(shared_node: Node) -> None:
    node = shared_node
    arbiter = node.http_pid()
    assert len(children_of(arbiter)) == 1
    os.kill(node.pid, signal.SIGTTIN)
    eventually(lambda: len(children_of(arbiter)) == 2)
    os.kill(node.pid, signal.SIGTTOU)
    eventually(lambda: len(children_of(arbiter)) == 1)


def test_gunicorn_file_runs_without_a_supervisor(tmp_path: Path) -> None:
    port = free_port()
    settings = {"server.host": HOST, "server.port": port, "server.workers": 1, "data_dir": tmp_path}
    file = Path(__file__).parents[2] / "gunicorn.conf.py"
    environment = {**child_environment(os.environ, None, settings), PARENT_VARIABLE: ""}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", str(file)],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    node = Node(tmp_path, "alone", {})
    node.port = port
    try:
        answer = eventually(lambda: node.answer_or_none("/health"))
        assert answer.json()["service"] == "synap"
    finally:
        process.terminate()
        process.communicate(timeout=15)


def test_cluster_serves_on_every_node_what_the_master_took(cluster: Cluster) -> None:
    written = cluster.master.request(
        "POST", "/kv/set", {"key": "user:100", "value": "Alice", "ttl": 3600}
    )
    assert written.status == 200
    wanted = {"X-Synap-Min-Offset": written.headers["x-synap-offset"]}
    for replica in cluster.replicas:
        assert replica.request("GET", "/kv/get/user:100", headers=wanted).json() == "Alice"


@pytest.mark.timeout(90)
def test_cluster_command_on_ctrl_c_is_gone_within_ten_seconds(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    places = ("--data-dir", str(tmp_path / "data"), "--base-port", str(free_port_block(23)))
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.main", "cluster", "--replicas", "2", *places],
            env={**child_environment(os.environ, None, {}), PARENT_VARIABLE: ""},
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: "Ctrl-C stops everything." in log_path.read_text(), 40.0)
        pids = descendants_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert len(pids) == 12
        assert not any(map(is_alive, pids))
    finally:
        process.kill()
        process.wait(timeout=10)


def test_node_without_persistence_says_so_and_begins_empty(start_node: StartNode) -> None:
    node = start_node(persistence__enabled=False)
    assert "persistence is off" in node.log
    folder = Path(node.log.split("everything lies in ")[1].split(" and is gone")[0])
    node.request("POST", "/kv/set", {"key": "key", "value": "kept while it runs"})
    writer = next(pid for pid in children_of(node.pid) if "workers.writer" in command_of(pid))
    os.kill(writer, signal.SIGKILL)
    eventually(lambda: not is_alive(writer))
    assert node.request("GET", "/kv/get/key").json() == "kept while it runs"
    assert not node.data_dir.exists()
    node.kill()
    node.start()
    assert node.request("GET", "/kv/get/key").status == 404
    # What the data's last node counted went with it.
    assert node.request("GET", "/kv/stats").json()["operations"]["sets"] == 0
    node.stop()
    assert [path.name for path in folder.iterdir()] == ["node.lock"]
