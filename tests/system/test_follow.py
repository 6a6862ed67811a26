"""`synap follow` of what is no master: it says so, and the node stays what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import synap_here
from tests.support import HOST, Cluster, Node, free_ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("follow")
    with Cluster(folder, 0, replication__heartbeat_interval_ms=200) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = {"replication.role": "master", "replication.heartbeat_interval_ms": 200}
    with Node(tmp_path_factory.mktemp("other"), "other", settings) as node:
        yield node


def url_of(node: Node) -> str:
    return f"http://{HOST}:{node.port}"


def role_of(node: Node) -> tuple[str, bool]:
    answer = node.request("GET", "/health/replication").json()
    writes = node.request("POST", "/kv/set", {"key": "k", "value": 1}).status == 200
    return answer["role"], writes


def test_follow_of_an_http_port_changes_nothing_and_says_why(cluster: Cluster, other: Node) -> None:
    done = synap_here("follow", "--url", url_of(other), f"{HOST}:{cluster.master.port}")
    assert done.returncode == 1
    assert f"no master is heard at {HOST}:{cluster.master.port}" in done.stderr
    assert role_of(other) == ("master", True)


def test_follow_of_nobody_changes_nothing_and_says_why(other: Node) -> None:
    (port,) = free_ports(1)
    done = synap_here("follow", "--url", url_of(other), f"{HOST}:{port}")
    assert done.returncode == 1
    assert "Nothing was changed" in done.stderr
    assert role_of(other) == ("master", True)


def test_follow_of_a_url_asks_there_where_replication_listens(other: Node) -> None:
    done = synap_here("follow", "--url", url_of(other), url_of(other))
    assert done.returncode == 1
    assert (
        f"no master is heard at {HOST}:{other.pub_port}" in done.stderr or "itself" in done.stderr
    )
    assert role_of(other) == ("master", True)


def test_follow_waits_until_the_link_stands(cluster: Cluster, tmp_path: Path) -> None:
    with Node(tmp_path, "fresh", {"replication.role": "master"}) as node:
        done = synap_here("follow", "--url", url_of(node), url_of(cluster.master), "--force")
        assert done.returncode == 0, done.stderr
        assert any(word in done.stdout for word in ("in_sync", "catching_up", "syncing"))
