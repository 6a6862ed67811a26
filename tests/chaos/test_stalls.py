"""A replica that is stopped for a while under paced writes, and many empty ones that join at once.

Five seconds with every test run; with `make chaos` a minute, and eight empty replicas as processes.
"""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from ops.client import Client
from tests.chaos import length
from tests.support import HOST, Cluster, Node, descendants_of, eventually
from tests.system.test_replication import await_equal_nodes, is_caught_up
from tests.system.test_resync import SETTINGS, cut_log

STOPPED_SECONDS = 60 if length.IS_LONG else 5
BEFORE_SECONDS = 20 if length.IS_LONG else 3
WRITES_A_SECOND = 1000
WRITERS = 4
BACK_SECONDS = 10
JOIN_SECONDS = 180

pytestmark = pytest.mark.timeout(360)


class PacedWrites:
    """Writes at a steady rate from several connections, as far as the machine keeps up.

    Attributes:
        took: (when it was sent, how long it took) of every write, in monotonic seconds.
        failures: Whatever was not acknowledged.
    """

    def __init__(self, node: Node, per_second: int) -> None:
        self.took: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self._url = f"http://{HOST}:{node.port}"
        self._interval = WRITERS / per_second
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(WRITERS)]

    def __enter__(self) -> PacedWrites:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for each in self._threads:
            each.join()

    def p99_ms(self, start: float, end: float) -> float:
        """Return the p99 of the writes that were sent from `start` to `end`."""
        took = [each for at, each in self.took if start <= at < end]
        return statistics.quantiles(took, n=100)[98] * 1000

    def _run(self, name: int) -> None:
        due = time.monotonic()
        number = 0
        with Client(self._url) as client:
            while not self._is_over.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._interval, time.monotonic() - 1)
                number += 1
                sent = time.monotonic()
                document = {"key": f"paced:{name}:{number % 5000}", "value": f"{number:064d}"}
                answer = client.send("POST", "/kv/set", document)
                self.took.append((sent, time.monotonic() - sent))
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {answer.body!r}")


def test_stopped_replica_comes_back_by_frames_and_costs_its_master_nothing(tmp_path: Path) -> None:
    """L1, S4: no full resync, level soon, and the master's writes as quick as before."""
    cluster = Cluster(tmp_path, 1, replication__reconnect_delay_ms=500)
    master, replica = cluster.nodes
    with cluster:
        with PacedWrites(master, WRITES_A_SECOND) as writes:
            began = time.monotonic()
            time.sleep(BEFORE_SECONDS)
            stopped = time.monotonic()
            # All: a supervisor that still ran would replace an owner that is silent so long.
            pids = [replica.pid, *descendants_of(replica.pid)]
            try:
                signal_all(pids, signal.SIGSTOP)
                time.sleep(STOPPED_SECONDS)
            finally:
                signal_all(pids, signal.SIGCONT)
            resumed = time.monotonic()
        eventually(partial(is_caught_up, master, replica), BACK_SECONDS)
        back = time.monotonic() - resumed
        await_equal_nodes(cluster)
    assert writes.failures == []
    assert "needs_full_resync" not in master.log
    assert "is in place" not in replica.log
    before, during = writes.p99_ms(began, stopped), writes.p99_ms(stopped, resumed)
    rate = len(writes.took) / (resumed - began)
    print(
        f"\nreplica stopped for {STOPPED_SECONDS} s at {rate:.0f} writes/s: level {back:.1f} s "
        f"after, 0 full resyncs, the master's write p99 {before:.1f} ms before, {during:.1f} ms "
        "meanwhile"
    )
    if length.IS_LONG:
        assert during <= 2 * before


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.skipif(not length.IS_LONG, reason="`make chaos` starts the nine nodes for it")
def test_eight_empty_replicas_that_join_at_once_all_get_there(tmp_path: Path) -> None:
    """R2."""
    cluster = Cluster(tmp_path, 8, **SETTINGS)
    try:
        cluster.master.start()
        cut_log(cluster.master)
        with PacedWrites(cluster.master, 200) as writes:
            began = time.monotonic()
            for replica in cluster.replicas:
                replica.launch()
            for replica in cluster.replicas:
                eventually(replica.is_healthy, JOIN_SECONDS)
            took = time.monotonic() - began
        await_equal_nodes(cluster)
        transfers = cluster.master.log.count("goes to a replica")
    finally:
        cluster.kill()
    assert writes.failures == []
    assert transfers >= len(cluster.replicas)
    print(f"\n8 empty replicas: all serve after {took:.1f} s, {transfers} transfers")
