"""Encryption on a real cluster: fail-over, following, and who does not get in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synap.replication.transport.curve import make_secret_key
from tests.support import HOST, Cluster, Node, eventually
from tests.system.test_roles import (
    HEARTBEAT,
    SECONDS,
    await_silence,
    facts,
    follow,
    get,
    is_level,
    promote,
    put,
)
from workers.process import EXIT_REFUSED


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two replicas, each with a key of its own and the same two lists."""
    folder = tmp_path_factory.mktemp("curve")
    public = {name: make_secret_key(folder / name) for name in ("master", "replica1", "replica2")}
    cluster = Cluster(
        folder / "nodes",
        2,
        **HEARTBEAT,
        replication__curve__enabled="true",
        replication__curve__server_key=",".join(public.values()),
        replication__curve__allowed_keys=",".join(public.values()),
    )
    for node, name in zip(cluster.nodes, public, strict=True):
        node.settings["replication.curve.secret_key_file"] = folder / name
    with cluster:
        yield cluster


def test_fail_over_promotion_and_following_work_with_encryption(trio: Cluster) -> None:
    """Cites K4 and E3: each node's key is another one, and none is configured anew."""
    old, new, third = trio.nodes
    assert put(old, "key", "1", 2) == 200
    assert [facts(node)["encrypted"] for node in trio.nodes] == [True] * 3
    old.kill()
    await_silence(new)
    promote(new, force=True)
    follow(third, new)
    eventually(lambda: is_level(new, third), SECONDS)
    assert put(new, "key", "2", 1) == 200
    # The herald of the promoted master finds the old one's key, and tells it.
    old.start()
    eventually(lambda: facts(old)["read_only"] == "stale_epoch", SECONDS)
    follow(old, new)
    eventually(lambda: is_level(new, old), SECONDS)
    assert put(new, "key", "3", 2) == 200
    assert [get(node, "key") for node in (old, third)] == ["3", "3"]


def test_plain_node_is_refused_and_shown_what_to_do(trio: Cluster, tmp_path: Path) -> None:
    """Cites K2, K3 and K5."""
    (master,) = [node for node in trio.nodes if facts(node)["role"] == "master"]
    before = facts(master)["handshakes_failed_total"]
    plain = Node(
        tmp_path,
        "plain",
        {
            **HEARTBEAT,
            "replication__role": "replica",
            "replication__master_address": f"{HOST}:{master.pub_port}",
            "replication__master_sync_address": f"{HOST}:{master.sync_port}",
        },
    )
    try:
        plain.launch()
        eventually(lambda: plain.answer_or_none("/health"), SECONDS)
        eventually(lambda: "uses CurveZMQ" in str(facts(plain)["note"]), SECONDS)
        eventually(lambda: facts(master)["handshakes_failed_total"] != before, SECONDS)
        assert facts(plain)["encrypted"] is False
        assert plain.request("GET", "/kv/get/key").json()["reason"] == "syncing"
    finally:
        plain.kill()


def test_node_whose_key_file_others_may_read_does_not_start(tmp_path: Path) -> None:
    """Cites K6."""
    public = make_secret_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    node = Node(
        tmp_path,
        "node",
        {
            "replication__role": "master",
            "replication__curve__enabled": "true",
            "replication__curve__secret_key_file": tmp_path / "key",
            "replication__curve__server_key": public,
            "replication__curve__allowed_keys": public,
        },
    )
    node.launch()
    try:
        assert node.wait() == EXIT_REFUSED
        assert f"`chmod 600 {tmp_path / 'key'}`" in node.log
    finally:
        node.kill()
