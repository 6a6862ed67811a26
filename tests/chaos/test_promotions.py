"""Kill the master under load, promote the replica, have the old master rejoin, again and again.

Every write waits for a replica (`min_replicas_to_write: 1`), so what was acknowledged must be on
the promoted node. Three rounds with every test run, 20 with `make chaos`.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.chaos import length
from tests.support import Cluster, Node, eventually
from tests.system.test_roles import (
    HEARTBEAT,
    SECONDS,
    await_silence,
    follow,
    is_level,
    promote,
    put,
)

ROUNDS = 20 if length.IS_LONG else 3
WRITERS = 3
WRITES_A_ROUND = 150

pytestmark = pytest.mark.timeout(120 + 60 * ROUNDS)


def test_no_acknowledged_write_is_lost_over_promotions_and_rejoins(tmp_path: Path) -> None:
    """Q1, E1, E2, E4."""
    cluster = Cluster(tmp_path, 1, **HEARTBEAT, replication__min_replicas_to_write=1)
    acknowledged: set[str] = set()
    gaps = []
    with cluster:
        master, replica = cluster.nodes
        for number in range(ROUNDS):
            eventually(lambda m=master: put(m, "ready", "1") == 200, SECONDS)
            load_until_killed(master, f"r{number}", acknowledged)
            killed = time.monotonic()
            await_silence(replica)
            promote(replica, force=True)
            gaps.append(time.monotonic() - killed)
            assert missing(replica, acknowledged) == set()
            master.start()
            follow(master, replica)
            master, replica = replica, master
            eventually(lambda m=master, r=replica: is_level(m, r), SECONDS)
            assert missing(replica, acknowledged) == set()
        digests = [node.request("GET", "/digest").json() for node in cluster.nodes]
        assert digests[0] == digests[1]
    print(
        f"\n{ROUNDS} masters killed, {len(acknowledged)} writes acknowledged, 0 lost; from the "
        f"kill to the new master {sorted(gaps)[len(gaps) // 2]:.1f} s in the median"
    )


def load_until_killed(master: Node, name: str, acknowledged: set[str]) -> None:
    """Write from a few threads and kill the master in the middle; note what is acknowledged."""
    target = len(acknowledged) + WRITES_A_ROUND
    is_over = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            key = f"{name}:{writer}:{number}"
            if put(master, key, key) == 200:
                acknowledged.add(key)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for each in writers:
        each.start()
    try:
        eventually(lambda: len(acknowledged) >= target, SECONDS)
        master.kill()
    finally:
        is_over.set()
        for each in writers:
            each.join()


def missing(node: Node, keys: set[str]) -> set[str]:
    """Return those of `keys` that the node does not hold with themselves as value."""
    wanted = sorted(keys)
    found: list[object] = []
    for start in range(0, len(wanted), 1000):
        body = {"keys": wanted[start : start + 1000]}
        found += node.request("POST", "/kv/mget", body).json()["values"]
    return {key for key, value in zip(wanted, found, strict=True) if key != value}
