"""What clients see of a cluster whose master is lost and whose replica is promoted.

Writes and reads wait for a replica. Before each loss the replicas are lost for a moment, so that
the master has writes that nobody else has: these may never have been seen. One promotion with every
test run, more with `make chaos`'s variable.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.chaos.length import IS_LONG
from tests.linearizability import SWAP, Operation, violations
from tests.support import Answer, Cluster, Node, eventually
from tests.system.test_linearizability import CLIENTS, KINDS, Client
from tests.system.test_roles import (
    HEARTBEAT,
    SECONDS,
    await_silence,
    facts,
    follow,
    is_level,
    promote,
    put,
)

PROMOTIONS = 12 if IS_LONG else 1
STEADY_SECONDS = 1.0
ALONE_SECONDS = 0.5
KEYS = 4
PACE_SECONDS = 0.01

pytestmark = pytest.mark.timeout(120 + 60 * PROMOTIONS)


class Stage:
    """Where clients go, and about which keys, which is told anew for each promotion."""

    def __init__(self, master: Node) -> None:
        self.master = master
        self.scene = 0
        self.is_open = threading.Event()
        self.is_open.set()


class Rover(Client):
    """Goes to whoever is the master, while there is one."""

    def __init__(self, stage: Stage, number: int, stop: threading.Event) -> None:
        super().__init__(stage.master, number, stop)
        self._stage = stage
        self._tokens: dict[str, str] = {}

    def run(self) -> None:
        value = self._number
        while not self._stop_wanted.is_set():
            if not self._stage.is_open.wait(0.1):
                continue
            self._node = self._stage.master
            value += CLIENTS
            key = f"scene:{self._stage.scene}:{self._random.randrange(KEYS)}"
            self._do(key, self._random.choice(KINDS), value)
            self._stop_wanted.wait(PACE_SECONDS)

    def _send(self, key: str, kind: str, value: int, expected: int) -> Answer:
        if kind != SWAP:
            return super()._send(key, kind, value, expected)
        body = {"key": key, "value": value, "if_version": self._tokens.get(key, "1-ffffffff")}
        return self._node.request("POST", "/kv/set", body)

    def _note(
        self, key: str, kind: str, called: float, returned: float, value: int, expected: int,
        answer: Answer,
    ) -> None:  # fmt: skip
        super()._note(key, kind, called, returned, value, expected, answer)
        if self.history[-1].version is not None:
            token = answer.headers["x-synap-position"]
            self._tokens[key] = answer.headers.get("etag", token).strip('"')


def lose_master(stage: Stage, replicas: list[Node]) -> None:
    """Kill the master while it has writes that no replica has."""
    for replica in replicas:
        replica.kill()
    time.sleep(ALONE_SECONDS)
    stage.is_open.clear()
    stage.master.kill()
    for replica in replicas:
        replica.start()


def replace_master(stage: Stage, replicas: list[Node]) -> None:
    """Promote the replica of the best rank, and have everybody follow it."""
    old = stage.master
    for replica in replicas:
        await_silence(replica)
    replicas.sort(key=lambda replica: tuple(facts(replica)["rank"]))
    new = replicas.pop()
    promote(new, force=True)
    for replica in replicas:
        follow(replica, new)
    eventually(lambda: put(new, "ready", "1") == 200, SECONDS)
    stage.master = new
    stage.is_open.set()
    time.sleep(STEADY_SECONDS)
    stage.scene += 1
    old.start()
    follow(old, new, force=True)
    replicas.append(old)
    eventually(lambda: all(is_level(new, replica) for replica in replicas), SECONDS)


def test_history_over_promotions_is_linearizable_where_reads_are_held(tmp_path: Path) -> None:
    """Q1, Q5, T9."""
    history = play(tmp_path)
    known = sum(operation.is_known for operation in history)
    print(f"{len(history)} operations, {len(history) - known} of unknown outcome")
    assert known > 100 * PROMOTIONS
    assert violations(history) == []


def play(folder: Path, **settings: object) -> list[Operation]:
    """Return what clients saw of a cluster that lost its master, again and again."""
    quorum = {
        "replication__min_replicas_to_write": 1,
        "replication__read_held": True,
        "replication__ack_timeout_ms": 50,
    }
    cluster = Cluster(folder, 2, **HEARTBEAT, **quorum | settings)
    stop = threading.Event()
    with cluster:
        stage = Stage(cluster.master)
        replicas = list(cluster.replicas)
        eventually(lambda: put(stage.master, "ready", "1", 2) == 200, SECONDS)
        clients = [Rover(stage, number, stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for _ in range(PROMOTIONS):
                time.sleep(STEADY_SECONDS)
                lose_master(stage, replicas)
                replace_master(stage, replicas)
        finally:
            stop.set()
            for client in clients:
                client.join(30)
    return [operation for client in clients for operation in client.history]
