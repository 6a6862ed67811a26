"""`synap status` of nodes whose processes are stopped without a word."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.command_line import synap_here
from tests.support import HOST, Cluster, Node, eventually


@contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Stop supervisor and owner of `node`, so that nobody mends it."""
    pids = [node.pid, node.owner_pid()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def url_of(node: Node) -> str:
    return f"http://{HOST}:{node.port}"


def rows(node: Node) -> dict[str, Any]:
    done = synap_here("status", "--url", url_of(node), "-o", "json")
    return {row["node"]: row for row in json.loads(done.stdout)}


def test_replica_whose_owner_is_stopped_is_not_shown_as_in_sync(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1, replication__heartbeat_interval_ms=200) as cluster:
        master, replica = cluster.nodes
        # It is no row before it was heard.
        eventually(lambda: rows(master).get("replica1", {}).get("state") == "in_sync")
        assert synap_here("status", "--url", url_of(master), "--check").returncode == 0
        with frozen(replica):
            eventually(lambda: rows(master)["replica1"]["state"] == "replica_silent")
            assert rows(master)["replica1"]["lag_ms"] >= 4000
            checked = synap_here("status", "--url", url_of(master), "--check")
            assert checked.returncode == 4
            assert "replica1 is replica_silent" in checked.stderr
