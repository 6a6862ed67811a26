"""A mirror kept by the change feed is the node's store, whatever is killed meanwhile.

Short: kills of one node's processes, a switchover, a promotion that loses something. Long: many
rounds of any of these, with a comparison at both nodes after each.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.length import IS_LONG, ROUNDS
from tests.chaos.stage import Stage
from tests.conftest import StartNode
from tests.mirror import Mirror
from tests.support import Cluster, Node, children_of, eventually
from tests.system.test_roles import HEARTBEAT, await_silence, follow, promote

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)
# Each kill is followed by a second of writes or so.
KILLS = ROUNDS if IS_LONG else 3
SWITCHOVERS = max(1, ROUNDS // 4) if IS_LONG else 1
FAULTS = max(4, ROUNDS // 4)
SETTINGS = {"server__workers": 2, "persistence__wal__max_size_mb": 16}


class Load:
    """Writes, and removes, whatever becomes of it; the node may be gone at times."""

    def __init__(self, target: Node, seed: int) -> None:
        self.target = target
        self.written = 0
        self._random = random.Random(seed)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def await_more(self, count: int = 10) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.written + count
        eventually(lambda: self.written >= wanted, 60)

    def _run(self) -> None:
        while not self._is_over.is_set():
            path, body = self._request()
            try:
                answer = self.target.request("POST", path, body, timeout_seconds=3)
            except (OSError, http.client.HTTPException):
                continue
            self.written += answer.status == 200

    def _request(self) -> tuple[str, dict[str, object]]:
        chance = self._random
        names = [f"key:{chance.randrange(300)}" for _ in range(chance.randint(1, 5))]
        match chance.randrange(4):
            case 0:
                return "/kv/mdel", {"keys": names}
            case 1:
                # Removed by the sweeper.
                return "/kv/set", {"key": names[0], "value": "short", "ttl": 1}
        return "/kv/mset", {"pairs": [[name, chance.random()] for name in names]}


def kill_worker(node: Node) -> None:
    for pid in children_of(node.http_pid())[:1]:
        os.kill(pid, signal.SIGKILL)


def kill_owner(node: Node) -> None:
    if pid := node.owner_pid():
        os.kill(pid, signal.SIGKILL)


def kill_node(node: Node) -> None:
    node.kill()
    node.start()


def end_expiry(node: Node) -> None:
    """Wait until no key is left that has a deadline."""

    def has_none() -> bool:
        pages = node.request("GET", "/kv/scan?limit=10000").json()["keys"]
        stats = node.request("GET", "/digest").json()
        return bool(stats["keys"] == len(pages))

    eventually(has_none, 20)


KINDS: tuple[Callable[[Node], None], ...] = (kill_worker, kill_owner, kill_node)


def test_mirror_is_the_store_through_kills(start_node: StartNode) -> None:
    node = start_node(**SETTINGS)
    with Mirror(node) as mirror:
        with Load(node, seed=1) as load:
            load.await_more()
            for number in range(KILLS):
                KINDS[number % len(KINDS)](node)
                load.await_more()
                mirror.cut()
        end_expiry(node)
        mirror.await_level(node)
    assert mirror.faults == []
    assert mirror.resets == []
    assert mirror.connections > KILLS


def switch_over(stage: Stage, load: Load) -> None:
    """Have the other node be the master, and written to."""
    stage.switch_over()
    load.target = stage.master
    load.await_more()


def test_planned_change_of_master_is_no_reset_and_one_that_loses_something_is(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, 1, **HEARTBEAT) as cluster:
        stage = Stage(cluster)
        # It stays at one node, whichever role that has: at each the same positions count.
        with Mirror(stage.master) as mirror:
            with Load(stage.master, seed=2) as load:
                load.await_more()
                for _ in range(SWITCHOVERS):
                    switch_over(stage, load)
            end_expiry(stage.master)
            for node in (stage.master, stage.replica):
                mirror.target = node
                mirror.cut()
                mirror.await_level(node)
            assert mirror.resets == []
            lose_some(stage.replica, stage.master, mirror)
            mirror.await_level(stage.replica)
            assert mirror.resets == ["diverged"]
            assert mirror.faults == []


def lose_some(replica: Node, master: Node, mirror: Mirror) -> None:
    """Promote a replica that lacks what the mirror was told by its master."""
    mirror.target = master
    mirror.cut()
    replica.stop()
    for number in range(5):
        master.request("POST", "/kv/set", {"key": f"lost:{number}", "value": "1"})
    mirror.await_level(master)
    master.kill()
    mirror.target = replica
    replica.start()
    await_silence(replica)
    promote(replica)
    for number in range(9):
        replica.request("POST", "/kv/set", {"key": f"kept:{number}", "value": "2"})


def lose_the_last(stage: Stage, mirror: Mirror) -> None:
    """Promote a replica that lacks something, and have the old master follow it."""
    lose_some(stage.replica, stage.master, mirror)
    mirror.await_level(stage.replica)
    stage.swap()
    stage.replica.start()
    follow(stage.replica, stage.master, force=True)
    stage.await_level()


def run_round(stage: Stage, mirror: Mirror, fault: str, seed: int) -> None:
    """Write beside a fault, and compare at both nodes."""
    with Load(stage.master, seed) as load:
        load.await_more()
        match fault:
            case "writer":
                stage.lose_writer()
            case "node":
                stage.lose_node()
            case "switchover":
                switch_over(stage, load)
        load.await_more()
    end_expiry(stage.master)
    if fault == "loss":
        lose_the_last(stage, mirror)
    for node in random.Random(seed).sample((stage.master, stage.replica), 2):
        mirror.target = node
        mirror.cut()
        mirror.await_level(node)


@pytest.mark.skipif(not IS_LONG, reason="`make chaos` goes through all faults many times")
def test_mirror_is_the_store_after_each_of_many_faults(tmp_path: Path) -> None:
    faults = [("writer", "node", "switchover", "loss")[number % 4] for number in range(FAULTS)]
    random.Random(3).shuffle(faults)
    with Cluster(tmp_path, 1, **HEARTBEAT) as cluster:
        stage = Stage(cluster)
        with Mirror(stage.master) as mirror:
            for number, fault in enumerate(faults):
                run_round(stage, mirror, fault, number)
                print(number, fault, mirror.digest()[0], "keys", mirror.connections, "connections")
            assert mirror.resets == ["diverged"] * faults.count("loss")
            assert mirror.faults == []
