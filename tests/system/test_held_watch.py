"""A watcher at a replica that is told only what so many replicas hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Cluster, Node, eventually
from tests.system.test_held_reads import put, silent
from tests.system.test_roles import HEARTBEAT

pytestmark = pytest.mark.timeout(120)


def told(node: Node, replicas: int) -> list[str]:
    """Return the keys of all changes that so many replicas hold."""
    query = f"from=0-00000000&wait=2&min_replicas={replicas}"
    events = node.request("GET", f"/watch?{query}").json()["events"]
    return [change["key"] for event in events for change in event["changes"]]


def test_watcher_at_a_replica_is_told_what_the_other_replica_holds_too(tmp_path: Path) -> None:
    with Cluster(tmp_path, 2, **HEARTBEAT) as cluster:
        here, other = cluster.replicas
        put(cluster.master, "old")
        eventually(lambda: told(here, 2) == ["old"])
        with silent(other):
            put(cluster.master, "new")
            # This one holds it, and its master has said so.
            eventually(lambda: told(here, 1) == ["old", "new"])
            assert told(here, 2) == ["old"]
        eventually(lambda: told(here, 2) == ["old", "new"])
