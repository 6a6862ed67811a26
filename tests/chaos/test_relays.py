"""One master, three relays, nine leaves, with 25 ms between the sites (`make chaos` alone).

The relays and leaves are in a network namespace, one site each that is far from the master's. Where
the machine can't delay packets (`tc netem`), a TCP relay delays what the master and those that
follow it send to each other, and the test says so. The master's CPU is measured in turns, with the
leaves and with the leaves stopped. Prints figures.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from tests.chaos import network
from tests.chaos.delay import Delay
from tests.chaos.length import IS_LONG
from tests.support import HOST, Node, children_of, eventually, free_ports

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="a part of make chaos"),
    pytest.mark.timeout(600),
]

_DELAY_MS = 25
_RATE = 1000
_SECONDS = 10.0
_RELAYS, _LEAVES = 3, 3
_TURNS, _TURN_SECONDS = 8, 3.0


class Site:
    """The nodes: a master here, and relays with their leaves over there."""

    def __init__(self, folder: Path, net: network.Network) -> None:
        # Of the master, as those over there reach them.
        self.far_ports = free_ports(2)
        self.master = Node(
            folder / "master", "master", {"replication__role": "master"}, bind="0.0.0.0"
        )
        self.relays = [
            self._node(folder, net, f"relay{number}", (), relay=True) for number in range(_RELAYS)
        ]
        self.leaves = []
        for number in range(_RELAYS):
            others = [self.relays[(number + step) % _RELAYS] for step in range(_RELAYS)]
            upstream = [f"{net.inside}:{each.pub_port}" for each in others]
            for place in range(_LEAVES):
                self.leaves.append(self._node(folder, net, f"leaf{number}{place}", upstream))

    def delay(self, net: network.Network, milliseconds: int) -> Delay:
        """Return what leads from the far ports to the master, so much later."""
        ports = zip(self.far_ports, (self.master.pub_port, self.master.sync_port), strict=True)
        return Delay(
            milliseconds,
            {f"{net.outside_cut}:{far}": f"{HOST}:{near}" for far, near in ports},
        )

    def stop_leaves(self, sent: signal.Signals) -> None:
        """Stop all processes of the leaves, or have them go on."""
        for leaf in self.leaves:
            for pid in [leaf.pid, *children_of(leaf.pid), *children_of(leaf.http_pid())]:
                os.kill(pid, sent)

    def _node(self, folder, net, name, upstream, *, relay: bool = False) -> Node:
        node = Node(
            folder / name, name,
            {
                "replication__role": "replica",
                "replication__relay": relay,
                "replication__upstream": ",".join(upstream),
                "replication__master_address": f"{net.outside_cut}:{self.far_ports[0]}",
                "replication__master_sync_address": f"{net.outside_cut}:{self.far_ports[1]}",
            },
            host=net.inside, bind="0.0.0.0", launcher=net.launcher,
        )  # fmt: skip
        node.sync_port = node.pub_port + 1
        node.settings["replication.sync_listen_address"] = f"0.0.0.0:{node.sync_port}"
        return node


def facts(node: Node) -> dict:
    return node.request("GET", "/health/replication").json()


def cpu_of_sets(master: Node) -> tuple[float, float]:
    """Return the CPU of the log's owner for a SET in µs, and that of the whole node."""
    owner, whole = [master.owner_pid()], [master.pid, *children_of(master.pid)]
    whole += children_of(master.http_pid())
    began = [sum(map(cpu_seconds, pids)) for pids in (owner, whole)]
    load = Steady(master, _TURN_SECONDS)
    load.start()
    load.join()
    took = [sum(map(cpu_seconds, pids)) for pids in (owner, whole)]
    return tuple((end - start) / load.count * 1e6 for start, end in zip(began, took, strict=True))


def compare_cpu(site: Site) -> None:
    """Measure in turns what a SET costs the master with the leaves and without; print it."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for turn in range(_TURNS):
        has_leaves = turn % 2 == 0
        site.stop_leaves(signal.SIGCONT if has_leaves else signal.SIGSTOP)
        found[has_leaves].append(cpu_of_sets(site.master))
    site.stop_leaves(signal.SIGCONT)
    for at, what in enumerate(("log's owner", "whole node")):
        with_, without = (median([each[at] for each in found[has]]) for has in (True, False))
        print(
            f"CPU of the master's {what}: {with_:.0f} us a SET with 3 relays and 9 leaves, "
            f"{without:.0f} with 3 replicas, {with_ / without:.3f}"
        )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Steady(threading.Thread):
    """SETs at a steady rate, over one connection."""

    def __init__(self, node: Node, seconds: float) -> None:
        super().__init__()
        self._node = node
        self._seconds = seconds
        self.count = 0

    def run(self) -> None:
        connection = self._node.connect()
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < self._seconds:
            while self.count < elapsed * _RATE:
                body = b'{"key":"k%d","value":"%s"}' % (self.count % 1000, b"v" * 100)
                connection.request("POST", "/kv/set", body, {"Content-Type": "application/json"})
                assert connection.getresponse().read()
                self.count += 1
            time.sleep(0.001)
        connection.close()


def lags(nodes: list[Node], seconds: float) -> list[int]:
    """Look how far the leaves are behind, again and again."""
    found = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for node in nodes:
            found.append(facts(node)["lag_ms"])
        time.sleep(0.05)
    return sorted(found)


@pytest.mark.skipif(bool(network.why_not()), reason=network.why_not())
def test_nine_leaves_behind_three_relays_far_away(tmp_path: Path) -> None:
    with ExitStack() as stack:
        net = stack.enter_context(network.Network())
        site = Site(tmp_path, net)
        nodes = [site.master, *site.relays, *site.leaves]
        is_late = net.delay(_DELAY_MS)
        stack.enter_context(site.delay(net, 0 if is_late else _DELAY_MS))
        for node in nodes:
            stack.callback(node.kill)
            node.launch()
            eventually(node.is_healthy, 60)
        eventually(
            lambda: all(facts(leaf)["hops"] == 2 for leaf in site.leaves)
            and all(facts(leaf)["status"] == "in_sync" for leaf in site.leaves), 120,
        )  # fmt: skip
        load = Steady(site.master, _SECONDS)
        load.start()
        found = lags(site.leaves, _SECONDS)
        load.join()
        p95 = found[int(len(found) * 0.95)]
        by = "tc netem" if is_late else "a TCP relay in place of tc netem"
        print(f"{_DELAY_MS} ms each way by {by}, {load.count} SETs")
        print(f"lag p50 {median(found)} ms, p95 {p95} ms of {len(found)} looks at 9 leaves")
        compare_cpu(site)
        eventually(lambda: all(facts(leaf)["status"] == "in_sync" for leaf in site.leaves), 60)

        victim = site.relays[0]
        orphans = [leaf for leaf in site.leaves if facts(leaf)["path"] == ["relay0"]]
        victim.kill()
        killed = time.monotonic()
        eventually(
            lambda: all(facts(leaf)["path"] not in (["relay0"], []) for leaf in orphans)
            and all(facts(leaf)["status"] == "in_sync" for leaf in orphans), 60,
        )  # fmt: skip
        print(f"{len(orphans)} leaves follow another relay after {time.monotonic() - killed:.1f} s")
        rest = [node for node in nodes if node is not victim]
        eventually(lambda: len({node.request("GET", "/digest").body for node in rest}) == 1, 60)
        for leaf in site.leaves:
            text = leaf.request("GET", "/metrics").body.decode()
            full = [line for line in text.splitlines() if 'resyncs_total{kind="full' in line]
            assert [line.split()[-1] for line in full] == ["0.0"]
