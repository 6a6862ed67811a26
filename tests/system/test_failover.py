"""Masters that are lost, and replaced by themselves: real nodes, agents and etcd, under writes.

The long forms are in tests/chaos/test_failover.py.
"""

from __future__ import annotations

import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents import Guarded, Load, send_to_all
from tests.support import Answer, Node, eventually

# Above a lease of 2 s, the look of a candidate, and a promotion, on a machine that does more.
AWAY_SECONDS = 12.0

PASSWORD = "a long root password"
STRONG = {"X-Synap-Consistency": "strong"}

pytestmark = pytest.mark.timeout(180)


def strong_read(node: Node) -> Answer:
    return node.request("GET", "/kv/get/strong", headers=STRONG)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Three nodes whose writes wait for one replica; each test leaves them whole.

    With authentication: the agents ask each other as the root user.
    """
    login = b64encode(f"root:{PASSWORD}".encode()).decode()
    with Guarded(
        tmp_path_factory.mktemp("trio"), 3, quorum=1,
        credentials={"Authorization": f"Basic {login}"},
        auth__enabled=True, auth__require_auth=True, auth__root__password=PASSWORD,
    ) as trio:  # fmt: skip
        yield trio


def test_killed_master_is_replaced_and_comes_back_as_a_replica(trio: Guarded) -> None:
    with Load(trio.nodes) as load:
        old = trio.master()
        killed = time.monotonic()
        old.kill()
        assert load.await_after(killed + 0.5) < AWAY_SECONDS
        old.start()
        load.check(trio)
    assert trio.master() is not old
    assert "the key was free" in trio.command("history")


def test_planned_switchover_loses_nothing_and_is_short(trio: Guarded) -> None:
    with Load(trio.nodes) as load:
        old = trio.master()
        heir = next(each for each in trio.nodes if each is not old)
        began = time.monotonic()
        name = str(heir.settings["server.node_id"])
        assert f"{name} is the master" in trio.command("switchover", "--to", name)
        load.await_after(time.monotonic())
        assert load.await_after(began) < AWAY_SECONDS
        load.check(trio)
    assert trio.master() is heir


def test_master_that_is_stopped_hands_over_first(trio: Guarded) -> None:
    with Load(trio.nodes) as load:
        old = trio.master()
        stopped = time.monotonic()
        assert old.stop() == 0
        # Nobody waited for the end of a lease: the old one's last word was who is next.
        load.await_after(time.monotonic())
        assert load.await_after(stopped) < AWAY_SECONDS
        assert trio.command("history").splitlines()[-1].endswith("handed over")
        old.start()
        load.check(trio)


def test_roles_are_the_agents_to_change(trio: Guarded) -> None:
    master = trio.master()
    answer = master.request(
        "POST", "/replication/follow", {"master_address": "127.0.0.1:1", "force": True}
    )
    assert (answer.status, answer.json()["reason"]) == (409, "agent_runs")
    assert '"seals_needed": 2' in trio.command("status")


def test_strong_reads_are_the_masters_as_long_as_nobody_else_can_be_one(trio: Guarded) -> None:
    master = trio.master()
    replica = next(each for each in trio.nodes if each is not master)
    assert master.request("POST", "/kv/set", {"key": "strong", "value": "1"}).status == 200
    answer = strong_read(master)
    assert (answer.status, answer.json()) == (200, "1")
    missing = master.request("GET", "/kv/get/missing", headers=STRONG)
    assert missing.status == 404
    command = {"command": "kv.get", "payload": {"key": "strong"}}
    assert master.request("POST", "/api/v1/command", command, headers=STRONG).json()["success"]
    refused = strong_read(replica)
    assert (refused.status, refused.json()["reason"]) == (421, "read_only_replica")
    assert refused.headers["x-synap-master"]


def test_engine_that_is_away_moves_no_master_whose_writes_wait_for_replicas(trio: Guarded) -> None:
    with Load(trio.nodes) as load:
        old = trio.master()
        (engine,) = trio.etcd.members
        engine.kill()
        # Longer than the lease.
        time.sleep(3.0)
        load.await_after(time.monotonic())
        # Writes go on by their quorum; but of another master, nobody would tell.
        refused = strong_read(old)
        assert (refused.status, refused.json()["reason"]) == (503, "no_lease")
        assert old.request("GET", "/kv/get/strong").status == 200
        engine.start()
        eventually(lambda: trio.agent().get("leader"))
        load.check(trio)
    assert trio.master() is old


def test_whole_cluster_that_starts_at_once_has_one_master_and_all_writes(trio: Guarded) -> None:
    with Load(trio.nodes) as load:
        for node in trio.nodes:
            node.kill()
        for node in reversed(trio.nodes):
            node.launch()
        started = time.monotonic()
        load.await_after(started)
        load.check(trio)


def test_master_that_slept_past_its_lease_answers_nothing_more(tmp_path: Path) -> None:
    """Without a quorum, the lease alone keeps two nodes from answering."""
    with Guarded(tmp_path, 2, quorum=0) as pair, Load(pair.nodes) as load:
        old = pair.master()
        send_to_all(old, signal.SIGSTOP)
        stopped = time.monotonic()
        assert load.await_after(stopped + 1.0) < AWAY_SECONDS
        send_to_all(old, signal.SIGCONT)
        resumed = time.monotonic()
        load.await_after(resumed + 1.0)
        load.stop()
        pair.await_whole()
        assert pair.master() is not old
        assert {len(nodes) for nodes in load.answered.values()} == {1}
