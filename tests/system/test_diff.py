"""`synap diff` on real nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.support import HOST, Cluster, Node, eventually
from tests.system.test_rot import VALUES, fill, flip_all, has_all

COMMAND = (sys.executable, "-P", "-m", "workers.main", "diff")


def diff(*nodes: Node, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    urls = [f"http://{HOST}:{node.port}" for node in nodes]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        [*COMMAND, *urls, *more], env=environment, capture_output=True, text=True, timeout=60
    )


def test_diff_names_what_differs_and_what_is_missing(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        master, replica = cluster.nodes
        fill(master)
        eventually(partial(has_all, replica))
        same = diff(master, replica)
        assert (same.returncode, same.stdout) == (0, ""), same.stderr
        assert f"{len(VALUES)} records compared, 0 differ" in same.stderr
        # Nobody has read them, so nothing mends them yet.
        flip_all(replica)
        found = diff(master, replica)
        assert found.returncode == 4
        assert found.stdout.splitlines() == [f"key {key}: differs" for key in VALUES]


def test_diff_of_nodes_without_a_common_history_says_so(tmp_path: Path) -> None:
    with (
        Node(tmp_path / "a", "a", {}) as one,
        Node(tmp_path / "b", "b", {}) as other,
    ):
        fill(one)
        run = diff(one, other, more=("--wait", "0.2"))
        assert run.returncode == 5, run.stdout + run.stderr
        assert "last reigns differ" in run.stderr


def test_diff_of_a_node_that_does_not_answer_exits_with_one(tmp_path: Path) -> None:
    with Node(tmp_path / "a", "a", {}) as node:
        stopped = Node(tmp_path / "b", "b", {})
        assert diff(node, stopped).returncode == 1
