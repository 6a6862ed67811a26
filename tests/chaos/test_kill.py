"""Kill -9 of a node and of each of its processes under load: nothing acknowledged is lost.

A few rounds run with every test run; `make chaos` sets SYNAP_CHAOS_ROUNDS for the long form. How
long writes were away is printed, for only on a machine of one's own does it say something.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.chaos import length
from tests.chaos.load import Load
from tests.conftest import StartNode
from tests.support import HOST, Node, children_of, descendants_of, eventually, is_alive
from workers.child import RestartPolicy

# For each of the four victims.
ROUNDS = max(1, length.ROUNDS // 4)
# Acknowledged writes of a round before the kill: every unit of the load is written at least once.
WRITES_BEFORE_KILL = 400
# Two seconds on an idle machine; this is for one that has much else to do.
WRITES_ARE_BACK_SECONDS = 20.0
STABLE_SECONDS = RestartPolicy().stable_seconds

pytestmark = pytest.mark.timeout(60 + 20 * ROUNDS)


def test_kill_of_whole_node_under_load_loses_nothing_acknowledged(start_node: StartNode) -> None:
    node = start_node(replication__role="master", server__workers=2)
    load = load_on(node)

    def crash() -> None:
        node.kill()
        load.stop()
        node.start()

    faults = run_rounds(load, crash)
    report("the whole node", load, faults)
    assert faults == []


def test_kill_of_supervisor_ends_its_processes_and_loses_nothing(start_node: StartNode) -> None:
    node = start_node(replication__role="master", server__workers=2)
    load = load_on(node)

    def crash() -> None:
        orphans = descendants_of(node.pid)
        os.kill(node.pid, signal.SIGKILL)
        node.wait()
        eventually(lambda: not any(map(is_alive, orphans)))
        load.stop()
        node.start()

    faults = run_rounds(load, crash)
    report("the supervisor", load, faults)
    assert faults == []


def test_kill_of_writer_under_load_loses_nothing_and_reads_go_on(start_node: StartNode) -> None:
    node = start_node(replication__role="master", server__workers=2)
    load = load_on(node)
    gaps: list[float] = []

    def crash() -> None:
        eventually(lambda: age_seconds(node.owner_pid()) > STABLE_SECONDS)
        reads = load.reader.reads
        gaps.append(kill_and_await_writes(node.owner_pid(), load))
        assert load.reader.reads > reads

    faults = run_rounds(load, crash)
    report("the writer", load, faults, gaps)
    assert faults == []
    assert load.reader.failures == []


def test_kill_of_http_worker_under_load_leaves_the_node_serving(start_node: StartNode) -> None:
    node = start_node(replication__role="master", server__workers=2)
    load = load_on(node)
    gaps: list[float] = []

    def crash() -> None:
        workers = children_of(node.http_pid())
        gaps.append(kill_and_await_writes(workers[0], load))
        eventually(lambda: len(set(children_of(node.http_pid())) - {workers[0]}) == len(workers))

    faults = run_rounds(load, crash)
    report("an HTTP worker", load, faults, gaps)
    assert faults == []
    assert node.owner_pid(), "the writer went along"


def load_on(node: Node) -> Load:
    """Return a load that is not started yet."""
    return Load(f"http://{HOST}:{node.port}")


def run_rounds(load: Load, crash: Callable[[], None]) -> list[str]:
    """Run `crash` under load, round after round; return every fault that the node then shows.

    The load stops behind each crash, before new writes could hide what the crash took.
    """
    faults = []
    for _ in range(ROUNDS):
        target = load.acknowledged + WRITES_BEFORE_KILL
        with load:
            eventually(partial(load.has_acknowledged, target))
            crash()
        faults += load.faults()
    return faults


def kill_and_await_writes(pid: int, load: Load) -> float:
    """Kill one process and return the seconds until every thread of the load writes again."""
    assert pid, "there is no process to kill"
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    eventually(lambda: load.succeeds_since(killed), WRITES_ARE_BACK_SECONDS)
    return time.monotonic() - killed


def age_seconds(pid: int) -> float:
    """Return how long a process has been running.

    One that is killed younger than its supervisor's `stable_seconds` is started with back-off.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def report(victim: str, load: Load, faults: list[str], gaps: Sequence[float] = ()) -> None:
    """Print what was done; pytest shows it with -s.

    Args:
        gaps: For how many seconds a thread of the load had to wait for its next write, per round.
    """
    print(
        f"\nkill -9 of {victim}: {ROUNDS} rounds, {load.acknowledged} writes acknowledged, "
        f"{len(faults)} lost or half written"
    )
    if gaps:
        middle, longest = statistics.median(gaps), max(gaps)
        print(f"writes were back in {middle:.2f} s in the median, {longest:.2f} s at most")
