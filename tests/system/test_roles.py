"""Quorum writes, promotion, following and status on real nodes that are stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from synap.replication.publishing.known_replicas import load_replicas
from tests.command_line import synap_here
from tests.support import HOST, Cluster, Node, eventually

HEARTBEAT = {"replication__heartbeat_interval_ms": 100, "replication__reconnect_delay_ms": 200}
SECONDS = 30

# Several starts of processes each, which a busy machine is slow at.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def steady_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master with one replica, for tests that leave the roles as they are."""
    yield from started(tmp_path_factory.mktemp("pair"), 1)


@pytest.fixture(scope="module")
def steady_trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master with two replicas, for tests that leave all as it was."""
    yield from started(tmp_path_factory.mktemp("trio"), 2)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    """A master with one replica, level."""
    yield from started(tmp_path, 1)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Cluster]:
    """A master with two replicas, level."""
    yield from started(tmp_path, 2)


def started(folder: Path, replicas: int) -> Iterator[Cluster]:
    with Cluster(folder, replicas, **HEARTBEAT) as cluster:
        assert put(cluster.master, "first", "1", replicas) == 200
        yield cluster


def put(node: Node, key: str, value: str, min_replicas: int | None = None) -> int:
    """Set a key and return the status; 0 where there was no answer."""
    headers = {} if min_replicas is None else {"X-Synap-Min-Replicas": str(min_replicas)}
    try:
        return node.request("POST", "/kv/set", {"key": key, "value": value}, headers).status
    except (OSError, HTTPException):
        return 0


def facts(node: Node) -> dict[str, object]:
    found: dict[str, object] = node.request("GET", "/health/replication").json()
    return found


def get(node: Node, key: str) -> object:
    return node.request("GET", f"/kv/get/{key}").json()


def promote(node: Node, force: bool = False) -> dict[str, object]:
    answer = node.request("POST", "/replication/promote", {"force": force}, timeout_seconds=30)
    assert answer.status == 200, answer.body
    taken: dict[str, object] = answer.json()
    # The answer does not wait for a machine that takes ten seconds to start a process.
    eventually(lambda: facts(node)["role"] == "master" and node.is_healthy(), SECONDS)
    return taken


def follow(node: Node, master: Node, force: bool = False) -> None:
    body = {
        "master_address": f"{HOST}:{master.pub_port}",
        "master_sync_address": f"{HOST}:{master.sync_port}",
        "force": force,
    }
    answer = node.request("POST", "/replication/follow", body, timeout_seconds=30)
    assert answer.status == 200, answer.body


def await_silence(replica: Node) -> None:
    """Wait until the replica knows that its master is gone."""
    eventually(lambda: facts(replica)["status"] == "disconnected", SECONDS)


def is_level(master: Node, replica: Node) -> bool:
    one, other = facts(master), facts(replica)
    return (
        other["role"] == "replica"
        and other["status"] == "in_sync"
        and one["current_offset"] == other["local_offset"]
        and one["epoch"] == other["epoch"]
    )


def synap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return synap_here(*arguments, COLUMNS="200")


def test_write_is_answered_when_the_replica_has_it(steady_pair: Cluster) -> None:
    """Q1."""
    answer = steady_pair.master.request(
        "POST", "/kv/set", {"key": "k", "value": "v"}, {"X-Synap-Min-Replicas": "1"}
    )
    assert answer.status == 200
    assert int(str(facts(steady_pair.replicas[0])["local_offset"])) >= int(
        answer.headers["x-synap-offset"]
    )


def test_write_that_too_few_replicas_have_says_so_and_is_logged(steady_pair: Cluster) -> None:
    """Q3."""
    replica = steady_pair.replicas[0]
    os.kill(replica.owner_pid(), signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = steady_pair.master.request(
            "POST", "/kv/set", {"key": "k", "value": "v"}, {"X-Synap-Min-Replicas": "1"}
        )
        took = time.monotonic() - began
        assert put(steady_pair.master, "other", "v") == 200
    finally:
        os.kill(replica.owner_pid(), signal.SIGCONT)
    assert (answer.status, answer.json()["reason"]) == (503, "quorum_timeout")
    assert answer.json()["retryable"] is False
    assert "logged on the master" in answer.json()["error"]
    assert 0.9 < took < 3
    assert get(steady_pair.master, "k") == "v"
    eventually(lambda: put(steady_pair.master, "k", "w", 1) == 200, SECONDS)


def test_waiting_write_does_not_hold_up_the_others(steady_pair: Cluster) -> None:
    """Q4."""
    done: list[int] = []
    waiting = threading.Thread(target=lambda: done.append(put(steady_pair.master, "slow", "v", 2)))
    waiting.start()
    began = time.monotonic()
    for number in range(50):
        assert put(steady_pair.master, f"fast:{number}", "v") == 200
    assert time.monotonic() - began < 0.9
    assert not done
    waiting.join()
    assert done == [503]


def test_request_for_replicas_at_a_standalone_node_is_refused(tmp_path: Path) -> None:
    with Node(tmp_path / "alone", "alone", {}) as node:
        assert put(node, "k", "v", 1) == 400
        assert put(node, "k", "v", 0) == 200
        assert put(node, "k", "v", 1000) == 400


def test_promotion_beside_a_living_master_wants_force(steady_pair: Cluster) -> None:
    answer = steady_pair.replicas[0].request("POST", "/replication/promote", {})
    assert (answer.status, answer.json()["reason"]) == (409, "force_wanted")
    assert "still heard" in answer.json()["error"]
    assert facts(steady_pair.replicas[0])["role"] == "replica"


def test_promoted_role_survives_a_restart(pair: Cluster) -> None:
    """E1."""
    replica = pair.replicas[0]
    pair.master.kill()
    await_silence(replica)
    taken = promote(replica)
    assert (taken["role"], taken["epoch"], taken["lost"]) == ("master", 2, [])
    assert put(replica, "second", "2") == 200
    replica.kill()
    replica.start()
    assert facts(replica)["role"] == "master"
    assert (get(replica, "first"), get(replica, "second")) == ("1", "2")
    assert put(replica, "third", "3") == 200


def test_old_master_that_comes_back_takes_no_writes_until_it_follows(trio: Cluster) -> None:
    """E2, E3, E4, E5."""
    old, new, third = trio.nodes
    eventually(lambda: len(load_replicas(old.data_dir / "replicas.json")) == 2, SECONDS)
    old.kill()
    await_silence(new)
    promote(new)
    follow(third, new)
    eventually(lambda: is_level(new, third), SECONDS)
    assert put(new, "second", "2", 1) == 200
    seen = len(old.log)
    old.start()
    again = old.log[seen:]
    assert 0 <= again.find("writes are refused") < again.find("publishing on"), again
    answer = old.request("POST", "/kv/set", {"key": "k", "value": "v"})
    assert (answer.status, answer.json()["reason"]) == (503, "stale_epoch")
    old.kill()
    old.start()
    assert put(old, "k", "v") == 503
    assert get(old, "first") == "1"
    follow(old, new)
    eventually(lambda: is_level(new, old), SECONDS)
    assert get(old, "second") == "2"
    old.kill()
    old.start()
    assert put(new, "third", "3", 2) == 200
    assert (
        synap("digest", *[f"--url=http://{HOST}:{node.port}" for node in trio.nodes]).returncode
        == 0
    )


def test_switchover_under_load_loses_no_write_and_repoints_everyone(steady_trio: Cluster) -> None:
    """W1, W3, W4: there and back, each asked of a node that is not the master."""
    with Following(steady_trio) as load:
        for to in (steady_trio.replicas[0], steady_trio.master):
            load.await_more(100)
            done = synap("switchover", "--to", to_url(to), "--url", to_url(steady_trio.replicas[1]))
            assert done.returncode == 0, (done.stdout, done.stderr)
            assert "no write was lost" in done.stdout
            for other in steady_trio.nodes:
                assert other is to or is_level_soon(to, other)
        load.await_more(100)
    assert load.unexpected == []
    assert {key for key in load.acknowledged if get(steady_trio.master, key) != key} == set()
    digest = synap("digest", *[f"--url={to_url(node)}" for node in steady_trio.nodes])
    assert digest.returncode == 0, digest.stdout
    print(f"\nwrites were away for {load.longest_gap:.2f} s at most, as clients saw it")


def test_switchover_to_a_replica_that_stalls_leaves_the_master_in_office(
    steady_pair: Cluster,
) -> None:
    """W3: the pause also ends where whoever asked for it is killed, W1."""
    master, replica = steady_pair.nodes
    os.kill(replica.owner_pid(), signal.SIGSTOP)
    try:
        assert put(master, "ahead", "1") == 200
        paused = master.request("POST", "/replication/pause", {"seconds": 0.5})
        assert paused.json()["offset"] == facts(master)["current_offset"]
        assert put(master, "waited", "1") == 200
        failed = synap("switchover", "--to", "replica1", "--timeout", "1", "--url", to_url(master))
        assert failed.returncode == 1
        assert "nothing was changed" in failed.stderr
        assert put(master, "after", "1") == 200
    finally:
        os.kill(replica.owner_pid(), signal.SIGCONT)
    assert facts(master)["role"] == "master"
    refused = replica.request("POST", "/replication/pause", {"seconds": 1})
    assert (refused.status, refused.json()["reason"]) == (409, "role_error")
    wrong = master.request("POST", "/replication/pause", {"seconds": 0})
    assert (wrong.status, wrong.json()["reason"]) == (422, "invalid_field")
    accepted = replica.request("POST", "/replication/accept", {})
    assert (accepted.status, accepted.json()["reason"]) == (409, "nothing_to_accept")


def to_url(node: Node) -> str:
    return f"http://{HOST}:{node.port}"


def is_level_soon(master: Node, replica: Node) -> bool:
    return eventually(lambda: facts(replica)["epoch"] == facts(master)["epoch"], SECONDS)


class Following:
    """Clients that write where they are sent, as those that know X-Synap-Master do.

    Attributes:
        acknowledged: Keys, each with itself as its value.
        longest_gap: Seconds between two acknowledged writes, over all clients.
        unexpected: Answers that say anything but success or where to go.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.acknowledged: list[str] = []
        self.longest_gap = 0.0
        self.unexpected: list[str] = []
        self._nodes = {to_url(node): node for node in cluster.nodes}
        self._first = cluster.master
        self._last = 0.0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]

    def __enter__(self) -> Following:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for each in self._threads:
            each.join()

    def await_more(self, count: int) -> None:
        target = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= target, SECONDS)

    def _run(self, name: int) -> None:
        node, number = self._first, 0
        while not self._is_over.is_set():
            number += 1
            node = self._write(node, f"{name}:{number}")

    def _write(self, node: Node, key: str) -> Node:
        while not self._is_over.is_set():
            answer = node.request("POST", "/kv/set", {"key": key, "value": key})
            if answer.status == 200:
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - (self._last or now))
                self._last = now
                self.acknowledged.append(key)
                break
            told = answer.json()
            if answer.status == 421:
                node = self._nodes.get(told["master"], node)
            elif not told["retryable"]:
                self.unexpected.append(f"{answer.status} {told}")
            self._is_over.wait(0.01)
        return node


def test_status_finds_every_node_from_any(steady_trio: Cluster) -> None:
    for node in steady_trio.nodes:
        shown = synap("status", "--url", f"http://{HOST}:{node.port}", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        rows = json.loads(shown.stdout)
        assert [row["node"] for row in rows] == ["master", "replica1", "replica2"]
        assert [row["url"] for row in rows] == [
            f"http://{HOST}:{each.port}" for each in steady_trio.nodes
        ]
        assert {row["state"] for row in rows} == {"writable", "in_sync"}
    table = synap("status", "--url", f"http://{HOST}:{steady_trio.replicas[1].port}").stdout
    assert all(name in table for name in ("master", "replica1", "replica2", "in_sync"))


def test_status_shows_nodes_that_do_not_answer(steady_trio: Cluster) -> None:
    steady_trio.replicas[0].kill()
    shown = synap("status", "--url", f"http://{HOST}:{steady_trio.replicas[1].port}", "-o", "json")
    states = {row["node"]: row["state"] for row in json.loads(shown.stdout)}
    assert states == {"master": "writable", "replica1": "unreachable", "replica2": "in_sync"}
    steady_trio.replicas[0].start()
    eventually(lambda: is_level(steady_trio.master, steady_trio.replicas[0]), SECONDS)


def test_digest_fails_where_nodes_differ(pair: Cluster, tmp_path: Path) -> None:
    urls = [f"--url=http://{HOST}:{node.port}" for node in pair.nodes]
    assert synap("digest", *urls).returncode == 0
    with Node(tmp_path / "other", "other", {}) as other:
        put(other, "first", "2")
        different = synap("digest", urls[0], f"--url=http://{HOST}:{other.port}")
        assert different.returncode == 1
        assert "differ" in different.stderr


def test_old_master_with_writes_of_its_own_harms_nobody_and_rejoins(pair: Cluster) -> None:
    """E2, E3, E4: what only it has goes aside, the acknowledged writes stay."""
    old, new = pair.nodes
    os.kill(new.owner_pid(), signal.SIGSTOP)
    for number in range(20):
        assert put(old, f"alone:{number}", "v") == 200
    old.kill()
    os.kill(new.owner_pid(), signal.SIGCONT)
    await_silence(new)
    promote(new, force=True)
    assert put(new, "after", "1") == 200
    old.start()
    eventually(lambda: facts(old)["read_only"] == "stale_epoch", SECONDS)
    assert get(old, "alone:0") == "v"
    follow(old, new)
    eventually(lambda: is_level(new, old), SECONDS)
    assert (get(old, "after"), get(old, "first")) == ("1", "1")
    digests = [node.request("GET", "/digest").json() for node in pair.nodes]
    assert digests[0] == digests[1]
