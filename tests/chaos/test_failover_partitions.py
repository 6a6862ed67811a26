"""Nodes with fail-over agents and their engine, cut apart pair by pair; clients reach them all.

With `make chaos` alone, and where this machine makes network namespaces. Nothing acknowledged is
gone, no reign is two nodes' or goes on beside the next one, and no strong read goes back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents import Guarded, Load, Register
from tests.chaos import length
from tests.chaos.hub import Hub, why_not
from tests.support import Node, Place, eventually

ROUNDS = int(os.environ.get("SYNAP_PARTITION_ROUNDS", "10"))
TTL_SECONDS = 5
# A lease, one more that a replica gives a master which it hears, and what a promotion takes.
CUT_SECONDS = 13.0
NAMES = ("n0", "n1", "n2")
WHY_NOT = why_not() if length.IS_LONG else "with `make chaos` alone"

# Who is cut from whom: the master M, the replicas R and S, the engine E.
PAIRS = {
    "master and engine": ("ME",),
    "master and a replica": ("MR",),
    "master and both replicas": ("MR", "MS"),
    "a replica and engine": ("RE",),
    "both replicas": ("RS",),
    "both replicas and engine": ("RE", "SE"),
    "master and all others": ("MR", "MS", "ME"),
    "master and a replica from the others": ("MS", "ME", "RS", "RE"),
    "engine and all": ("ME", "RE", "SE"),
}

pytestmark = [
    pytest.mark.timeout(120 + 60 * ROUNDS * len(PAIRS)),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it runs"),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub((*NAMES, "etcd")) as made:
        yield made


def names_by_letter(cluster: Guarded) -> dict[str, str]:
    master = cluster.master()
    others = [name_of(each) for each in cluster.nodes if each is not master]
    return dict(zip("MRSE", (name_of(master), *others, "etcd"), strict=True))


def name_of(node: Node) -> str:
    return str(node.settings["server.node_id"])


def cut_apart(cluster: Guarded, hub: Hub, pairs: tuple[str, ...]) -> float:
    """Cut pairs for longer than a lease, mend, and check; return how long writes were away."""
    cluster.await_whole()
    names = names_by_letter(cluster)
    with Load(cluster.nodes, 3, roams=True) as load, Register(cluster.nodes) as register:
        # From then on the master has a lease, too.
        eventually(lambda: register.count)
        at = time.monotonic()
        for a, b in pairs:
            hub.cut(names[a], names[b])
        time.sleep(CUT_SECONDS)
        hub.mend()
        load.await_after(time.monotonic())
        away = load.await_after(at)
        # Without a quorum a lost master may have had more than any other node.
        if cluster.quorum:
            load.check(cluster)
        load.stop()
        load.check_reigns()
    assert not cluster.quorum or register.went_back == []
    return away


@pytest.mark.parametrize("quorum", [1, 0])
def test_no_cut_loses_what_was_acknowledged_or_makes_two_masters(
    tmp_path: Path, hub: Hub, quorum: int
) -> None:
    places = {name: Place(hub.address(name), hub.launcher(name)) for name in (*NAMES, "etcd")}
    with Guarded(tmp_path, len(NAMES), quorum, TTL_SECONDS, places=places) as cluster:
        for number in range(ROUNDS):
            for what, pairs in PAIRS.items():
                away = cut_apart(cluster, hub, pairs)
                print(f"N={quorum}, round {number + 1}, {what}: away {away:.2f} s", flush=True)
