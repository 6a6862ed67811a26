"""A replica, and then a master, whose replication link is cut while clients still reach it.

The node in question runs in a network namespace; where the machine makes none, the reason is said.
A few cuts with every test run, a minute of them with `make chaos`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.chaos import length
from tests.chaos.load import Load
from tests.chaos.network import Network, why_not
from tests.support import HOST, Node, eventually
from tests.system.test_replication import is_caught_up
from tests.system.test_roles import HEARTBEAT, SECONDS, facts, get, is_level, promote, put

FLAPPING_SECONDS = 60 if length.IS_LONG else 3
WHY_NOT = why_not()
EVERYWHERE = "0.0.0.0"
SETTINGS = {**HEARTBEAT, "replication__ack_timeout_ms": 300}
# Silence for three heartbeats of 100 ms, and what a busy machine adds.
NOTICED_SECONDS = 10

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it runs"),
]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Whatever is put in here is killed at the end, before the network goes."""
    made: list[Node] = []
    yield made
    for node in made:
        node.kill()


def test_replica_on_a_flapping_link_ends_equal(
    tmp_path: Path, network: Network, nodes: list[Node]
) -> None:
    """L1, L2, L4: no packet says that the link is gone."""
    master = node_here(tmp_path, "master", {"replication__role": "master"})
    replica = node_there(
        tmp_path, "replica", network,
        {
            "replication__role": "replica",
            "replication__master_address": f"{network.outside_cut}:{master.pub_port}",
            "replication__master_sync_address": f"{network.outside_cut}:{master.sync_port}",
        },
    )  # fmt: skip
    nodes += [master, replica]
    start(nodes)
    with Load(f"http://{HOST}:{master.port}") as load:
        network.cut()
        eventually(lambda: facts(replica)["status"] == "disconnected", NOTICED_SECONDS)
        network.mend()
        eventually(lambda: facts(replica)["status"] == "in_sync", SECONDS)
        cuts, end = 0, time.monotonic() + FLAPPING_SECONDS
        pause = random.Random(7)
        while time.monotonic() < end:
            network.cut()
            time.sleep(pause.uniform(0.05, 0.6))
            network.mend()
            time.sleep(pause.uniform(0.05, 0.6))
            cuts += 1
    mended = time.monotonic()
    eventually(partial(is_caught_up, master, replica), SECONDS)
    took = time.monotonic() - mended
    assert load.faults() == []
    digests = [node.request("GET", "/digest").json() for node in (master, replica)]
    assert digests[0] == digests[1]
    assert "is in place" not in replica.log
    print(
        f"\n{cuts} cuts in {FLAPPING_SECONDS} s under {load.acknowledged} writes: level {took:.1f} "
        "s after the last, 0 full resyncs"
    )


def test_master_behind_a_cut_acknowledges_nothing_and_hears_of_the_next_one(
    tmp_path: Path, network: Network, nodes: list[Node]
) -> None:
    """Q1, Q3, E2, E3: it was never stopped, and clients still reach it."""
    quorum = {"replication__min_replicas_to_write": 1}
    old = node_there(tmp_path, "old", network, {"replication__role": "master", **quorum})
    new = node_here(
        tmp_path, "new",
        {
            "replication__role": "replica",
            "replication__master_address": f"{network.inside_cut}:{old.pub_port}",
            "replication__master_sync_address": f"{network.inside_cut}:{old.sync_port}",
            **quorum,
        },
    )  # fmt: skip
    nodes += [old, new]
    start(nodes)
    eventually(lambda: put(old, "before", "1") == 200, SECONDS)
    network.cut()
    assert [put(old, f"alone:{number}", "v") for number in range(3)] == [503] * 3
    eventually(lambda: facts(new)["status"] == "disconnected", NOTICED_SECONDS)
    promote(new, force=True)
    # Logged, and acknowledged by nobody: there is no replica yet.
    assert put(new, "after", "1") == 503
    network.mend()
    eventually(lambda: facts(old)["read_only"] == "stale_epoch", SECONDS)
    body = {
        "master_address": f"{network.outside_cut}:{new.pub_port}",
        "master_sync_address": f"{network.outside_cut}:{new.sync_port}",
    }
    assert old.request("POST", "/replication/follow", body, timeout_seconds=30).status == 200
    eventually(lambda: is_level(new, old), SECONDS)
    assert (get(old, "before"), get(old, "after")) == ("1", "1")
    assert put(new, "again", "1") == 200
    digests = [node.request("GET", "/digest").json() for node in (old, new)]
    assert digests[0] == digests[1]


def start(nodes: list[Node]) -> None:
    for node in nodes:
        node.launch()
    for node in nodes:
        eventually(node.is_healthy, SECONDS)


def node_here(folder: Path, name: str, settings: dict[str, object]) -> Node:
    return Node(folder / name, name, {**SETTINGS, **settings}, bind=EVERYWHERE)


def node_there(folder: Path, name: str, network: Network, settings: dict[str, object]) -> Node:
    return Node(
        folder / name, name, {**SETTINGS, **settings}, host=network.inside,
        bind=EVERYWHERE, launcher=network.launcher,
    )  # fmt: skip
