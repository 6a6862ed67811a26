"""Masters killed under writes, again and again, and replaced by themselves; a real etcd decides.

With `make chaos` alone, `ROUNDS` of each kind; the short form is tests/system/test_failover.py.
What was acknowledged is there, and each reign was one node's. Prints for how long writes were away.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.agents import Guarded, Load, Readers, send_to_all
from tests.chaos import length
from tests.kubernetes import TOKEN, ApiServer
from tests.support import Node, eventually

ROUNDS = int(os.environ.get("SYNAP_FAILOVER_ROUNDS", "100"))
PAUSE_SECONDS = 0.2
# A lease, the look of a candidate, and a promotion, on a machine that does much else.
MOST_AWAY_SECONDS = 25.0

pytestmark = [
    pytest.mark.timeout(120 + 60 * ROUNDS),
    pytest.mark.skipif(
        not length.IS_LONG, reason="tests/system/test_failover.py is the short form"
    ),
]


def tell(what: str, away: list[float]) -> None:
    times = sorted(away)
    p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
    print(
        f"\n{what}: {len(times)} rounds, 0 lost; away p50 {times[len(times) // 2]:.2f} s, "
        f"p95 {p95:.2f} s, max {times[-1]:.2f} s"
    )


def killed(cluster: Guarded) -> float:
    """Kill the master, wait for the next one, check, bring back; return how long it took."""
    with Load(cluster.nodes) as load:
        old = cluster.master()
        time.sleep(random.random() * 0.3)
        at = time.monotonic()
        old.kill()
        away = load.await_after(at + 0.5)
        old.start()
        load.check(cluster)
        return away


def both_killed(cluster: Guarded) -> float:
    """Kill the master and a replica; return how long it took until another one led.

    Two nodes are left of four, so writes that wait for two replicas go on when one is back.
    """
    with Load(cluster.nodes) as load:
        old = cluster.master()
        epoch = cluster.agent()["epoch"]
        others = [each for each in cluster.nodes if each is not old]
        replica = random.choice(others)
        at = time.monotonic()
        for node in (old, replica):
            node.kill()
        eventually(lambda: cluster.leads(above=epoch))
        took = time.monotonic() - at
        replica.start()
        load.await_after(time.monotonic())
        old.start()
        load.check(cluster)
        return took


def test_master_and_a_replica_killed_lose_nothing_where_two_replicas_acknowledge(
    tmp_path: Path,
) -> None:
    with Guarded(tmp_path, 4, quorum=2, ttl=5) as cluster:
        away = [both_killed(cluster) for _ in range(ROUNDS)]
    tell("N=2, ttl 5 s, master and replica killed", away)
    assert max(away) < MOST_AWAY_SECONDS


def test_master_killed_loses_nothing_where_one_replica_acknowledges(tmp_path: Path) -> None:
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster:
        away = [killed(cluster) for _ in range(ROUNDS)]
    tell("N=1, ttl 5 s, master killed", away)
    assert max(away) < MOST_AWAY_SECONDS


def test_planned_switchovers_are_short(tmp_path: Path) -> None:
    away = []
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster:
        for _ in range(ROUNDS):
            with Load(cluster.nodes) as load:
                old = cluster.master()
                heir = next(each for each in cluster.nodes if each is not old)
                at = time.monotonic()
                cluster.command("switchover", "--to", str(heir.settings["server.node_id"]))
                load.await_after(time.monotonic())
                away.append(load.await_after(at))
                load.check(cluster)
    tell("planned, ttl 5 s", away)


def test_rolling_restart_by_sigterm_fails_no_read_and_loses_nothing(tmp_path: Path) -> None:
    """All nodes one after the other, the master last, as docs/operations.md says for an upgrade."""
    away, longest = [], 0.0
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster:
        for _ in range(ROUNDS // 5):
            with Load(cluster.nodes) as load, Readers(cluster.nodes) as readers:
                away.append(sum(restarted(cluster, load, node) for node in by_role(cluster)))
                load.check(cluster)
            assert readers.failed == []
            assert readers.count > 100
            longest = max(longest, readers.longest)
    tell("rolling restart of three nodes, ttl 5 s, in all", away)
    print(f"longest read, with its tries at other nodes: {longest:.2f} s")


def by_role(cluster: Guarded) -> list[Node]:
    master = cluster.master()
    return [*(each for each in cluster.nodes if each is not master), master]


def restarted(cluster: Guarded, load: Load, node: Node) -> float:
    """Stop a node by SIGTERM and start it; return how long writes were away for it."""
    stopped = time.monotonic()
    assert node.stop() == 0
    load.await_after(time.monotonic())
    away = load.await_after(stopped)
    node.start()
    cluster.await_whole()
    # What clients pause between two writes is none of it.
    return away if away > PAUSE_SECONDS else 0.0


def test_master_killed_is_replaced_by_kubernetes_leases(tmp_path: Path) -> None:
    """On a stand-in for the API server."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with ApiServer() as server:
        engine: dict[str, object] = {
            "failover__engine": "kubernetes", "failover__endpoints": server.url,
            "failover__namespace": "synap", "failover__token_path": token,
        }  # fmt: skip
        with Guarded(tmp_path, 3, quorum=1, ttl=5, engine=engine) as cluster:
            away = [killed(cluster) for _ in range(ROUNDS // 5)]
            assert "the key was free" in cluster.command("history")
        print(f"{server.conflicts} replacements were refused")
    tell("Kubernetes' Leases, N=1, ttl 5 s, master killed", away)


def test_masters_that_sleep_past_their_lease_share_no_reign(tmp_path: Path) -> None:
    with Guarded(tmp_path, 3, quorum=0) as cluster:
        for _ in range(ROUNDS):
            with Load(cluster.nodes) as load:
                old = cluster.master()
                send_to_all(old, signal.SIGSTOP)
                at = time.monotonic()
                load.await_after(at + 1.0)
                send_to_all(old, signal.SIGCONT)
                eventually(lambda: len(cluster.masters()) == 1)
                load.stop()
                cluster.await_whole()
                assert {len(nodes) for nodes in load.answered.values()} == {1}


def test_one_slow_or_lost_member_of_the_engine_moves_no_master(tmp_path: Path) -> None:
    with Guarded(tmp_path, 3, quorum=0, ttl=5, members=3) as cluster, Load(cluster.nodes) as load:
        old = cluster.master()
        for member in cluster.etcd.members:
            member.send(signal.SIGSTOP)
            time.sleep(8.0)
            member.send(signal.SIGCONT)
            time.sleep(3.0)
        load.await_after(time.monotonic())
        assert cluster.master() is old
        load.check(cluster)
