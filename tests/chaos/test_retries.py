"""Clients that send again whatever gets no answer, while what is before them is lost.

Eight clients count, each thing once, with an `Idempotency-Key` for each; all go over a balancer.
The counter must be the number of things, and no two of them may have got the same number. Without
keys the same load counts some things twice, which is what the keys are for: the long form shows it.
Every write waits for a replica. With `make chaos` 200 times the writer, the balancer, the master,
the node, or the role by a switchover is lost. With every test run each of the first three is lost
once, in the fail-over of tests/system/test_membership.py.
"""

from __future__ import annotations

import http.client
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos import length
from tests.chaos.stage import Stage
from tests.linearizability import INCREMENT, Operation, violations
from tests.support import HOST, Answer, Cluster, Node, eventually, free_port
from tests.system.test_roles import HEARTBEAT, SECONDS, is_level

ROUNDS = min(length.ROUNDS, 200)
CLIENTS = 8
# So many things are counted between two faults.
THINGS_A_ROUND = 40
_PAUSE_SECONDS = 0.02
_ANSWER_SECONDS = 8.0

pytestmark = [
    pytest.mark.timeout(120 + 30 * ROUNDS),
    pytest.mark.skipif(not length.IS_LONG, reason="the short form is in tests/system"),
]


class Balancer:
    """The process, and the node that it leads to."""

    def __init__(self, folder: Path, node: Node) -> None:
        self.port = free_port()
        self._target = folder / "target"
        self._process: subprocess.Popen[bytes] | None = None
        self.lead_to(node)

    def lead_to(self, node: Node) -> None:
        """Send the next connections to `node`."""
        new = self._target.with_suffix(".new")
        new.write_text(str(node.port))
        new.replace(self._target)

    def start(self) -> None:
        """Start it; it is there when a connection is taken."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.balancer", str(self.port), str(self._target)],
            cwd=Path(__file__).parents[2],
        )

    def kill(self) -> None:
        """Kill it, with whatever it has on its way."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Counting:
    """The clients' load.

    Attributes:
        history: Each thing that was counted, from its first request to the answer it got.
        repeats: How often something was sent again.
        unexpected: Answers that no retry is the way after.
    """

    def __init__(self, balancer: Balancer, *, has_keys: bool) -> None:
        self.history: list[Operation] = []
        self.repeats = 0
        self.unexpected: list[str] = []
        self._balancer = balancer
        self._has_keys = has_keys
        self._is_over = threading.Event()

    def run(self, number: int) -> None:
        """Count one thing after the other, until it is over; the last one is counted too."""
        thing = 0
        while not self._is_over.is_set():
            thing += 1
            self._count(f"{number}:{thing}")

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = [threading.Thread(target=self.run, args=(n,)) for n in range(CLIENTS)]
        for each in clients:
            each.start()
        try:
            yield
        finally:
            self._is_over.set()
            for each in clients:
                each.join()

    def await_more(self) -> None:
        """Wait until so many things more are counted as there are between two faults."""
        wanted = len(self.history) + THINGS_A_ROUND
        eventually(lambda: len(self.history) >= wanted, SECONDS)

    def check(self, counter: int) -> None:
        """Raise where something was lost, counted twice, or in no order, or nothing sent again."""
        assert self.unexpected == []
        assert counter == len(self.history)
        told = sorted(int(each.result or 0) for each in self.history)
        assert told == list(range(1, counter + 1))
        assert violations(self.history) == []
        assert self.repeats > 0

    def _count(self, key: str) -> None:
        called = time.monotonic()
        while True:
            answer = self._send(key)
            if answer is not None and answer.status == http.HTTPStatus.OK:
                told = answer.json()["value"]
                done = Operation("counter", INCREMENT, called, time.monotonic(), result=told)
                self.history.append(done)
                return
            if answer is not None and answer.status not in (421, 503):
                self.unexpected.append(f"{answer.status} {answer.body!r}")
                return
            self.repeats += 1
            self._is_over.wait(_PAUSE_SECONDS)

    def _send(self, key: str) -> Answer | None:
        headers = {"Content-Type": "application/json", "X-Synap-Min-Replicas": "1"}
        if self._has_keys:
            headers["Idempotency-Key"] = key
        connection = http.client.HTTPConnection(HOST, self._balancer.port, timeout=_ANSWER_SECONDS)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("POST", "/kv/incr", b'{"key": "counter"}', headers)
            answer = connection.getresponse()
            return Answer(answer.status, {}, answer.read())
        return None


class BalancedStage(Stage):
    """A stage with a balancer before it, which leads to the master."""

    def __init__(self, cluster: Cluster, balancer: Balancer) -> None:
        super().__init__(cluster)
        self._balancer = balancer

    def lose_balancer(self) -> None:
        self._balancer.kill()
        self._balancer.start()

    def swap(self) -> None:
        super().swap()
        self._balancer.lead_to(self.master)


def faults(stage: BalancedStage) -> list[Callable[[], None]]:
    kinds = [
        stage.lose_writer, stage.lose_balancer, stage.lose_node, stage.switch_over,
        stage.lose_master,
    ]  # fmt: skip
    chooser = random.Random(1)
    return [chooser.choice(kinds) for _ in range(ROUNDS)]


def counted(folder: Path, *, has_keys: bool) -> tuple[int, Counting]:
    """Run the load through all faults; return the counter at the end, and the load."""
    cluster = Cluster(folder, 1, **HEARTBEAT)
    with cluster:
        balancer = Balancer(folder, cluster.master)
        balancer.start()
        try:
            stage = BalancedStage(cluster, balancer)
            load = Counting(balancer, has_keys=has_keys)
            with load.running():
                for fault in faults(stage):
                    load.await_more()
                    fault()
            eventually(lambda: is_level(stage.master, stage.replica), SECONDS)
            digests = [node.request("GET", "/digest").json() for node in cluster.nodes]
            assert digests[0] == digests[1]
            counter = int(stage.master.request("GET", "/kv/get/counter").json())
        finally:
            balancer.kill()
    print(
        f"\n{ROUNDS} rounds, {'with' if has_keys else 'without'} keys: {len(load.history)} things, "
        f"{load.repeats} sent again, counted {counter}"
    )
    return counter, load


def test_what_is_sent_again_counts_once_with_a_key(tmp_path: Path) -> None:
    counter, load = counted(tmp_path, has_keys=True)
    load.check(counter)


def test_what_is_sent_again_counts_twice_without_a_key(tmp_path: Path) -> None:
    """Shows what the keys are for."""
    counter, load = counted(tmp_path, has_keys=False)
    assert counter > len(load.history)
