"""Membership on real nodes: closed where clients need credentials, and said where it is open."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.chaos.test_retries import Balancer, Counting
from tests.support import Cluster, Node, eventually, free_port_block
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
from workers.cli.app import app
from workers.process import EXIT_REFUSED, PARENT_VARIABLE, child_environment

EVERYWHERE = "0.0.0.0"
SECRET = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two replicas that share one secret, by the files of its variable."""
    folder = tmp_path_factory.mktemp("membership")
    assert CliRunner().invoke(app, ["secret", str(folder / "secret")]).exit_code == 0
    cluster = Cluster(folder / "nodes", 2, **HEARTBEAT)
    for node in cluster.nodes:
        node.settings["replication.secret"] = (folder / "secret").read_text().strip()
    with cluster:
        yield cluster


# Several starts of processes, which a busy machine is slow at.
@pytest.mark.timeout(180)
def test_fail_over_works_with_one_secret(trio: Cluster, tmp_path: Path) -> None:
    """Cites K7 and E3: promotion, following, and the old master is told.

    What clients send again with the same Idempotency-Key meanwhile counts once.
    """
    old, *replicas = trio.nodes
    assert put(old, "key", "1", 2) == 200
    assert [(facts(node)["encrypted"], facts(node)["open"]) for node in trio.nodes] == [
        (True, False)
    ] * 3
    with led_to(old, tmp_path) as balancer:
        load = Counting(balancer, has_keys=True)
        with load.running():
            load.await_more()
            os.kill(old.owner_pid(), signal.SIGKILL)
            load.await_more()
            balancer.kill()
            balancer.start()
            load.await_more()
            old.kill()
            for node in replicas:
                await_silence(node)
            # Each write is at one of them at least: that one has the longer log.
            third, new = sorted(replicas, key=lambda node: int(str(facts(node)["local_offset"])))
            promote(new, force=True)
            follow(third, new)
            balancer.lead_to(new)
            load.await_more()
    load.check(int(get(new, "counter")))
    eventually(lambda: is_level(new, third), SECONDS)
    old.start()
    eventually(lambda: facts(old)["read_only"] == "stale_epoch", SECONDS)
    follow(old, new, force=True)
    eventually(lambda: is_level(new, old), SECONDS)
    assert put(new, "key", "2", 2) == 200
    assert [get(node, "key") for node in (old, third)] == ["2", "2"]


@contextmanager
def led_to(node: Node, folder: Path) -> Iterator[Balancer]:
    balancer = Balancer(folder, node)
    balancer.start()
    try:
        yield balancer
    finally:
        balancer.kill()


def test_secret_that_is_there_is_kept_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for told in ("made", "kept"):
        result = CliRunner().invoke(app, ["secret", str(file)])
        assert (result.exit_code, result.output.split()[0]) == (0, told)
        content = file.read_text()
    assert file.read_text() == content
    assert len(content.strip()) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("role", ["master", "replica"])
def test_node_that_asks_clients_but_no_peers_does_not_start(tmp_path: Path, role: str) -> None:
    """Cites K8."""
    settings = {
        "replication.role": role,
        "replication.master_address": "127.0.0.1:1",
        "auth.enabled": True,
        "auth.root.password": "correct horse",
    }
    node = Node(tmp_path, "node", settings)
    node.settings["replication.replica_listen_address"] = f"{EVERYWHERE}:{node.pub_port}"
    node.launch()
    try:
        assert node.wait() == EXIT_REFUSED
        assert "set replication.secret, the same on all nodes" in node.log
    finally:
        node.kill()


def test_standalone_node_that_asks_clients_but_no_peers_takes_no_other_role(tmp_path: Path) -> None:
    """Cites K8: the role changes without a new start of the node."""
    node = Node(tmp_path, "node", {"auth.enabled": True, "auth.root.password": "correct horse"})
    node.settings["replication.replica_listen_address"] = f"{EVERYWHERE}:{node.pub_port}"
    login = {"Authorization": "Basic cm9vdDpjb3JyZWN0IGhvcnNl"}
    with node:
        for path, body in (("promote", {}), ("follow", {"master_address": "127.0.0.1:1"})):
            answer = node.request("POST", f"/replication/{path}", body, login)
            assert answer.status == 409, answer.body
            assert "set replication.secret" in answer.json()["error"]


def test_open_node_says_so_wherever_an_operator_looks(tmp_path: Path) -> None:
    """Cites K8."""
    node = Node(tmp_path, "node", {"replication.role": "master"})
    node.settings["replication.replica_listen_address"] = f"{EVERYWHERE}:{node.pub_port}"
    with node:
        assert facts(node)["open"] is True
        assert "WARNING" in next(line for line in node.log.splitlines() if "is served all" in line)
        assert b"synap_replication_open 1.0" in node.request("GET", "/metrics").body
        url = f"http://127.0.0.1:{node.port}"
        shown = CliRunner().invoke(app, ["status", "--url", url])
        assert "node: replication is open to whoever reaches its ports" in shown.output
        (row,) = json.loads(CliRunner().invoke(app, ["status", "-o", "json", "--url", url]).output)
        assert row["open"] is True


def test_node_with_a_secret_is_open_to_nobody(tmp_path: Path) -> None:
    node = Node(tmp_path, "node", {"replication.role": "master", "replication.secret": SECRET})
    node.settings["replication.replica_listen_address"] = f"{EVERYWHERE}:{node.pub_port}"
    with node:
        assert (facts(node)["open"], facts(node)["encrypted"]) == (False, True)
        assert "is served all" not in node.log
        assert SECRET not in node.log
        assert b"synap_replication_open 0.0" in node.request("GET", "/metrics").body


@pytest.mark.timeout(90)
def test_cluster_command_makes_a_closed_cluster(tmp_path: Path) -> None:
    """Cites K7: with a secret of its own, in its folder."""
    port, data = free_port_block(13), tmp_path / "data"
    places = ("--data-dir", str(data), "--base-port", str(port))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.main", "cluster", "--replicas", "1", *places],
            env={**child_environment(os.environ, None, {}), PARENT_VARIABLE: ""},
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: "Ctrl-C stops everything." in (tmp_path / "log").read_text(), 40.0)
        replica = Node(tmp_path, "replica1", {})
        replica.port = port + 10
        eventually(lambda: facts(replica)["status"] == "in_sync")
        assert facts(replica)["encrypted"] is True
        assert stat.S_IMODE((data / "replication.secret").stat().st_mode) == 0o600
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
