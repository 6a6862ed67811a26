"""A mirror kept by the change feed is the node's store, whatever is killed meanwhile."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.length import IS_LONG, ROUNDS
from tests.conftest import StartNode
from tests.mirror import Mirror
from tests.support import Cluster, Node, children_of, eventually
from tests.system.test_roles import HEARTBEAT, await_silence, promote

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)
# Each kill is followed by a second of writes or so.
KILLS = ROUNDS if IS_LONG else 3
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


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Node, Node]]:
    with Cluster(folder, 1, **HEARTBEAT) as cluster:
        yield cluster.master, cluster.replicas[0]


def test_promotion_that_loses_something_is_a_reset_and_a_planned_one_is_none(
    tmp_path: Path,
) -> None:
    with pair(tmp_path) as (old, new), Mirror(old) as mirror:
        with Load(old, seed=2) as load:
            load.await_more()
        end_expiry(old)
        mirror.await_level(old)
        # A client may go to any node: on each the same positions count.
        mirror.target = new
        mirror.cut()
        mirror.await_level(new)
        assert old.request("POST", "/kv/set", {"key": "both", "value": "1"}).status == 200
        mirror.await_level(old)
        assert mirror.resets == []
        mirror.target = old
        mirror.cut()
        new.stop()
        for number in range(5):
            old.request("POST", "/kv/set", {"key": f"lost:{number}", "value": "1"})
        mirror.await_level(old)
        old.kill()
        mirror.target = new
        new.start()
        await_silence(new)
        promote(new)
        for number in range(9):
            new.request("POST", "/kv/set", {"key": f"kept:{number}", "value": "2"})
        mirror.await_level(new)
        assert mirror.resets == ["diverged"]
        assert mirror.faults == []
