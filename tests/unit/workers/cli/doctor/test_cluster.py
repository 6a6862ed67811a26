"""What `synap status` and `synap doctor` say is wrong with a cluster, and what to do about it."""

from __future__ import annotations

import pytest

from workers.cli.cluster_status import ClusterStatus, NodeStatus
from workers.cli.doctor.cluster import cluster_findings
from workers.cli.doctor.findings import Level

MASTER = NodeStatus("m", "http://m:1", "master", "writable", 1, 9)


def replica(state: str, lag_ms: int = 0) -> NodeStatus:
    return NodeStatus("r", "http://r:1", "replica", state, 1, 9, 0, lag_ms)


def test_sound_cluster_has_no_findings() -> None:
    assert cluster_findings(ClusterStatus([MASTER, replica("in_sync")], "")) == []
    alone = NodeStatus("s", "u", "standalone", "writable")
    assert cluster_findings(ClusterStatus([alone], "")) == []


@pytest.mark.parametrize(
    ("nodes", "unknown", "words", "remedy"),
    [
        (
            [MASTER, NodeStatus("n", "u", "master", "writable")], "",
            "2 nodes take writes: m, n", "synap follow",
        ),
        ([replica("disconnected")], "", "no node that answers takes writes", "synap failover"),
        (
            [NodeStatus("m", "u", "master", "disk_full")], "",
            "no node that answers takes writes", "make room",
        ),
        (
            [MASTER, NodeStatus("o", "http://o:1", "master", "stale_epoch")], "",
            "o is stale_epoch", "synap follow http://m:1 --url http://o:1",
        ),
        (
            [MASTER, NodeStatus("", "http://x:1", "", "unreachable")], "",
            "http://x:1 is unreachable", "look whether it runs",
        ),
        ([MASTER, replica("replica_silent")], "", "r is replica_silent", "hangs"),
        ([MASTER, replica("diverged")], "", "r is diverged", "synap replication accept"),
        ([MASTER, replica("in_sync", 10_001)], "", "r is 10001 ms behind", "CPU and disk"),
        ([MASTER], "other replicas", "not known here: other replicas", "--hosts"),
    ],
)  # fmt: skip
def test_cluster_that_is_not_as_it_should_be_has_a_remedy(
    nodes: list[NodeStatus], unknown: str, words: str, remedy: str
) -> None:
    found = cluster_findings(ClusterStatus(nodes, unknown))
    (told,) = [each for each in found if each.sentence.startswith(words)]
    assert told.level is Level.FAULT
    assert remedy in told.remedy


def test_replica_that_catches_up_is_a_warning() -> None:
    (told,) = cluster_findings(ClusterStatus([MASTER, replica("catching_up")], ""))
    assert told.level is Level.WARNING
