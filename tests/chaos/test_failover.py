"""Masters killed under writes, again and again, and replaced by themselves; a real etcd decides.

With `make chaos` alone, `ROUNDS` of each kind; the short form is tests/system/test_failover.py.
What was acknowledged is there, and each reign was one node's. Prints for how long writes were away.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.agents import Guarded, Load, Readers, balancer, send_to_all
from tests.chaos import length
from tests.haproxy import HAPROXY, Proxy
from tests.kubernetes import TOKEN, ApiServer
from tests.support import Node, eventually

ROUNDS = int(os.environ.get("SYNAP_FAILOVER_ROUNDS", "100"))
PAUSE_SECONDS = 0.2
# A lease, the look of a candidate, and a promotion, on a machine that does much else.
MOST_AWAY_SECONDS = 25.0
# The engine; many times a lease.
AWAY_SECONDS = 60.0

pytestmark = [
    pytest.mark.timeout(120 + 60 * ROUNDS),
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed"),
    pytest.mark.skipif(
        not length.IS_LONG, reason="tests/system/test_failover.py is the short form"
    ),
]


Times = TypeVar("Times")


def in_rounds(count: int, one: Callable[[], Times]) -> list[Times]:
    """Return what each round took; print it as soon as that is known."""
    times = []
    for number in range(count):
        times.append(one())
        print(f"round {number + 1} of {count}: {times[-1]}", flush=True)
    return times


def tell(what: str, away: list[float]) -> None:
    times = sorted(away)
    p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
    print(
        f"\n{what}: {len(times)} rounds, 0 lost; away p50 {times[len(times) // 2]:.2f} s, "
        f"p95 {p95:.2f} s, max {times[-1]:.2f} s"
    )


def killed(cluster: Guarded, proxy: Proxy) -> tuple[float, float]:
    """Kill the master, wait for the next one, check, bring back.

    Returns:
        How long writes were away for clients that look for the master, and behind the balancer.
    """
    with Load(cluster.nodes) as load, Load([proxy], 1) as through:
        old = cluster.master()
        time.sleep(random.random() * 0.3)
        at = time.monotonic()
        old.kill()
        away = load.await_after(at + 0.5), through.await_after(at + 0.5)
        old.start()
        load.check(cluster)
        through.check(cluster)
        return away


def tell_both(what: str, away: list[tuple[float, float]]) -> None:
    tell(what, [direct for direct, _ in away])
    tell(f"{what}, behind HAProxy", [through for _, through in away])


def both_killed(cluster: Guarded, proxy: Proxy) -> float:
    """Kill the master and a replica; return how long it took until another one led.

    Two nodes are left of four, so writes that wait for two replicas go on when one is back.
    """
    with Load(cluster.nodes) as load, Load([proxy], 1) as through:
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
        for each in (load, through):
            each.await_after(time.monotonic())
        old.start()
        for each in (load, through):
            each.check(cluster)
        return took


def test_master_and_a_replica_killed_lose_nothing_where_two_replicas_acknowledge(
    tmp_path: Path,
) -> None:
    with Guarded(tmp_path, 4, quorum=2, ttl=5) as cluster, balancer(tmp_path, cluster) as proxy:
        away = in_rounds(ROUNDS, lambda: both_killed(cluster, proxy))
    tell("N=2, ttl 5 s, master and replica killed", away)
    assert max(away) < MOST_AWAY_SECONDS


def test_master_killed_loses_nothing_where_one_replica_acknowledges(tmp_path: Path) -> None:
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster, balancer(tmp_path, cluster) as proxy:
        away = in_rounds(ROUNDS, lambda: killed(cluster, proxy))
    tell_both("N=1, ttl 5 s, master killed", away)
    assert max(map(max, away)) < MOST_AWAY_SECONDS


def switched(cluster: Guarded) -> float:
    """Have another node be the master; return how long writes were away."""
    with Load(cluster.nodes) as load:
        old = cluster.master()
        heir = next(each for each in cluster.nodes if each is not old)
        at = time.monotonic()
        cluster.command("switchover", "--to", str(heir.settings["server.node_id"]))
        load.await_after(time.monotonic())
        away = load.await_after(at)
        load.check(cluster)
        return away


def test_planned_switchovers_are_short(tmp_path: Path) -> None:
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster:
        away = in_rounds(ROUNDS, lambda: switched(cluster))
    tell("planned, ttl 5 s", away)
    # Nobody waited for the end of a lease.
    assert max(away) < 5


def test_rolling_restart_by_sigterm_fails_no_read_and_loses_nothing(tmp_path: Path) -> None:
    """All nodes one after the other, the master last, as docs/operations.md says for an upgrade."""
    longest = 0.0
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster:

        def all_restarted() -> list[float]:
            nonlocal longest
            with Load(cluster.nodes) as load, Readers(cluster.nodes) as readers:
                parts = [restarted(cluster, load, node) for node in by_role(cluster)]
                load.check(cluster)
            assert readers.failed == []
            assert readers.count > 100
            longest = max(longest, readers.longest)
            return parts

        away = in_rounds(ROUNDS // 5, all_restarted)
    tell("rolling restart of three nodes, ttl 5 s, in all", [sum(parts) for parts in away])
    tell("of that the master's", [parts[-1] for parts in away])
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
        with (
            Guarded(tmp_path, 3, quorum=1, ttl=5, engine=engine) as cluster,
            balancer(tmp_path, cluster) as proxy,
        ):
            away = in_rounds(ROUNDS // 5, lambda: killed(cluster, proxy))
            assert "the key was free" in cluster.command("history")
        print(f"{server.conflicts} replacements were refused")
    tell_both("Kubernetes' Leases, N=1, ttl 5 s, master killed", away)


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


def all_killed(cluster: Guarded) -> float:
    """Kill all nodes, start them in any order; return how long writes were away after that.

    Raises:
        AssertionError: a write is lost, or a reign was two nodes'.
    """
    nodes = random.sample(cluster.nodes, len(cluster.nodes))
    with Load(nodes) as load:
        for node in nodes:
            node.kill()
        for node in random.sample(nodes, len(nodes)):
            node.launch()
            time.sleep(random.choice((0.0, random.random() * 3)))
        at = time.monotonic()
        load.await_after(at)
        away = min(each for each in list(load.acknowledged.values()) if each > at) - at
        load.check(cluster)
        return away


def test_all_nodes_down_and_up_in_any_order_lose_nothing(tmp_path: Path) -> None:
    with Guarded(tmp_path, 3, quorum=1, ttl=5) as cluster:
        away = in_rounds(ROUNDS // 5, lambda: all_killed(cluster))
    tell("N=1, ttl 5 s, all nodes killed and started; after the last start", away)


@pytest.mark.parametrize("quorum", [1, 0])
def test_engine_that_is_away_for_a_minute_moves_no_master(tmp_path: Path, quorum: int) -> None:
    """With a quorum writes go on; without one they stop with the lease, and come back."""
    with Guarded(tmp_path, 3, quorum, ttl=5) as cluster, Load(cluster.nodes) as load:
        old, (engine,) = cluster.master(), cluster.etcd.members
        at = time.monotonic()
        engine.kill()
        time.sleep(AWAY_SECONDS)
        engine.start()
        back = time.monotonic()
        load.await_after(back)
        away = load.await_after(at)
        assert (away < AWAY_SECONDS / 4) == bool(quorum)
        assert eventually(cluster.masters) == [old]
        load.check(cluster)
    print(f"N={quorum}, etcd away for {back - at:.0f} s: writes away {away:.2f} s")


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
