"""From one version to another and back, node by node, under load (`make chaos` alone).

The version before is a tree of the repository's own history: `SYNAP_VERSION_BEFORE` names it, by
default the newest tag, or what was there fifty commits ago.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.length import IS_LONG
from tests.support import HOST, Background, Cluster, Node
from workers.cli import http_call
from workers.cli.cluster_status import NodeStatus, cluster_status
from workers.cli.rolling import Hands, Rolling
from workers.cli.switchover import Switchover

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="a part of make chaos"),
    pytest.mark.timeout(900),
]


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.fixture
def tree_before(tmp_path: Path) -> Iterator[Path]:
    revision = os.environ.get("SYNAP_VERSION_BEFORE")
    revision = revision or git("describe", "--tags", "--abbrev=0") or "HEAD~50"
    tree = tmp_path / "before"
    git("worktree", "add", "--detach", str(tree), revision)
    assert (tree / "synap").is_dir(), f"there is no {revision}"
    yield tree
    git("worktree", "remove", "--force", str(tree))


class Load(Background):
    """Writes one key after the other, wherever they are taken, and keeps what was acknowledged."""

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__()
        self.acknowledged: dict[str, str] = {}
        self._nodes = list(nodes)

    def run(self) -> None:
        number = 0
        while not self.is_over.wait(0.005):
            number += 1
            key, value = f"key {number}", f"value {number}"
            try:
                body = {"key": key, "value": value}
                answer = self._nodes[0].request("POST", "/kv/set", body, timeout_seconds=5)
            except (OSError, http.client.HTTPException):
                answer = None
            if answer is not None and answer.status == 200:
                self.acknowledged[key] = value
            else:
                self._nodes.append(self._nodes.pop(0))


def roll(cluster: Cluster, tree: Path) -> int:
    """Have every node run what `tree` holds; return how many were restarted."""
    nodes = {f"http://{HOST}:{node.port}": node for node in cluster.nodes}

    def restart(row: NodeStatus) -> None:
        node = nodes[row.url]
        node.stop()
        node._environment = {"PYTHONPATH": str(tree)}
        node.launch()

    def move_master(to: str) -> None:
        Switchover(http_call, timeout_seconds=10, tell=print).run(next(iter(nodes)), to)

    hands = Hands(lambda: cluster_status(list(nodes)), http_call.get, restart, move_master)
    return Rolling(hands, version="", patience_seconds=120, tell=print).run()


def test_cluster_goes_to_the_next_version_and_back_under_load(tmp_path: Path, tree_before: Path):
    cluster = Cluster(tmp_path / "nodes", 2, replication__min_replicas_to_write=1)
    for node in cluster.nodes:
        node._environment = {"PYTHONPATH": str(tree_before)}
    with cluster, Load(cluster.nodes) as load:
        for tree in (ROOT, tree_before):
            seen = len(load.acknowledged)
            assert roll(cluster, tree) == 3
            assert len(load.acknowledged) > seen + 100
        load.__exit__()
        urls = [f"http://{HOST}:{node.port}" for node in cluster.nodes]
        master = next(row for row in cluster_status(urls).nodes if row.role == "master")
        node = next(each for each in cluster.nodes if master.url.endswith(f":{each.port}"))
        lines = node.request("GET", "/kv/export").body.splitlines()[1:-1]
        stored = {each["key"]: each["value"] for each in map(json.loads, lines)}
        assert load.acknowledged.items() <= stored.items()
