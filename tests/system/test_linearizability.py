"""What clients see of a real master whose processes are killed, and of its replica.

The histories of a few seconds with every test run, of a minute with `make chaos`'s variable.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from random import Random

import pytest

from tests.chaos.length import IS_LONG
from tests.linearizability import (
    CREATE,
    DELETE,
    FOREVER,
    GET,
    INCREMENT,
    SET,
    SWAP,
    Operation,
    violations,
)
from tests.support import Answer, Cluster, Node, children_of, eventually

CLIENTS = 4
SECONDS = 60 if IS_LONG else 3
KILL_EVERY_SECONDS = 1.0
KEYS = 3
# A fresh set of keys now and then keeps each history short enough to be checked.
KEYS_LIVE_SECONDS = 0.5
KINDS = (GET, GET, GET, SET, INCREMENT, INCREMENT, CREATE, SWAP, DELETE)
PAUSE_SECONDS = 0.02
START_SECONDS = 50

pytestmark = pytest.mark.timeout(120 + 4 * SECONDS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(folder, 1, server__workers=2, replication__reconnect_delay_ms=200)
    try:
        for node in cluster.nodes:
            node.launch()
        for node in cluster.nodes:
            eventually(node.is_healthy, START_SECONDS)
        yield cluster
    finally:
        cluster.kill()


class Client(threading.Thread):
    """Sends one operation after the other and writes down what came of each."""

    def __init__(self, node: Node, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"client {number}")
        self.history: list[Operation] = []
        self._node = node
        self._random = Random(number)
        self._number = number
        self._stop_wanted = stop
        self._versions: dict[str, int] = {}
        # Of the one reign that writes here, as the first answer tells it.
        self._tag = "ffffffff"
        self._began = time.monotonic()

    def run(self) -> None:
        value = self._number
        while not self._stop_wanted.is_set():
            value += CLIENTS
            age = (time.monotonic() - self._began) // KEYS_LIVE_SECONDS
            key = f"key:{age:.0f}:{self._random.randrange(KEYS)}"
            self._do(key, self._random.choice(KINDS), value)

    def _do(self, key: str, kind: str, value: int) -> None:
        expected = self._versions.get(key, 1)
        called = time.monotonic()
        try:
            answer = self._send(key, kind, value, expected)
        except (OSError, http.client.HTTPException):
            self._note_unknown(key, kind, called, value, expected)
            self._stop_wanted.wait(PAUSE_SECONDS)
            return
        returned = time.monotonic()
        if answer.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            self._note(key, kind, called, returned, value, expected, answer)
            return
        assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE, answer
        if answer.json()["reason"] != "writer_unavailable":
            self._note_unknown(key, kind, called, value, expected)
        self._stop_wanted.wait(PAUSE_SECONDS)

    def _send(self, key: str, kind: str, value: int, expected: int) -> Answer:
        if kind == GET:
            return self._node.request("GET", f"/kv/get/{key}")
        if kind == DELETE:
            return self._node.request("DELETE", f"/kv/del/{key}")
        if kind == INCREMENT:
            return self._node.request("POST", "/kv/incr", {"key": key})
        body: dict[str, object] = {"key": key, "value": value}
        if kind == CREATE:
            body["nx"] = True
        if kind == SWAP:
            body["if_version"] = f"{expected}-{self._tag}"
        return self._node.request("POST", "/kv/set", body)

    def _note(
        self, key: str, kind: str, called: float, returned: float, value: int, expected: int,
        answer: Answer,
    ) -> None:  # fmt: skip
        result: int | bool | None = None
        version: int | None = None
        body = answer.json()
        position = answer.headers["x-synap-position"]
        offset, self._tag = int(position.split("-")[0]), position.split("-")[1]
        if kind == GET and answer.status == HTTPStatus.OK:
            result, version = int(body), int(answer.headers["etag"].strip('"').split("-")[0])
        elif kind == INCREMENT:
            result, version = body["value"], offset
        elif kind in (SET, CREATE, SWAP):
            result = body["written"]
            version = offset if result else None
        if version is not None:
            self._versions[key] = version
        self.history.append(
            Operation(key, kind, called, returned, value, expected, result, version)
        )

    def _note_unknown(self, key: str, kind: str, called: float, value: int, expected: int) -> None:
        if kind != GET:
            self.history.append(Operation(key, kind, called, FOREVER, value, expected))


def kill_something(node: Node, random: Random) -> None:
    """Kill the writer or an HTTP worker, as a crash would."""
    workers = children_of(node.http_pid())
    victims = [node.owner_pid()] if random.random() < 0.5 else workers[:1]
    for pid in victims:
        if pid:
            os.kill(pid, signal.SIGKILL)


def test_history_on_a_master_whose_processes_are_killed_is_linearizable(cluster: Cluster) -> None:
    stop = threading.Event()
    clients = [Client(cluster.master, number, stop) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    random = Random(1)
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            stop.wait(KILL_EVERY_SECONDS)
            kill_something(cluster.master, random)
    finally:
        stop.set()
        for client in clients:
            client.join(30)
    history = [operation for client in clients for operation in client.history]
    known = sum(operation.is_known for operation in history)
    print(f"{len(history)} operations, {len(history) - known} of unknown outcome")
    assert known > 20 * SECONDS
    assert violations(history) == []


def test_own_writes_and_time_never_go_back_on_a_replica(cluster: Cluster) -> None:
    master, replica = cluster.master, cluster.replicas[0]
    eventually(master.is_healthy)
    seen = 0
    for number in range(100):
        written = master.request("POST", "/kv/set", {"key": "own", "value": number})
        least = written.headers["x-synap-position"]
        if number == 50:
            os.kill(replica.owner_pid(), signal.SIGKILL)
        answer = eventually(lambda least=least: _read(replica, "own", least))
        assert (answer.json(), answer.headers["etag"]) == (str(number), f'"{least}"')
        again = eventually(
            lambda answer=answer: _read(replica, "own", answer.headers["x-synap-position"])
        )
        assert int(again.headers["x-synap-offset"]) >= max(
            seen, int(written.headers["x-synap-offset"])
        )
        seen = int(again.headers["x-synap-offset"])


def _read(node: Node, key: str, least: str) -> Answer | None:
    """Read at a replica that has applied a position; None while it says that it has not."""
    answer = node.request("GET", f"/kv/get/{key}", headers={"X-Synap-Min-Position": least})
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return None
    assert answer.status == HTTPStatus.OK, answer
    return answer
