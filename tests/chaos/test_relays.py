"""One master, three relays, nine leaves, with 25 ms between the sites (`make chaos` alone).

The relays and leaves are in a network namespace, one site each that is far from the master's; where
the machine can't delay packets (`tc netem`), they are near, and the test says so. Prints figures.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos import network
from tests.chaos.length import IS_LONG
from tests.support import Node, eventually

pytestmark = [
    pytest.mark.skipif(not IS_LONG, reason="a part of make chaos"),
    pytest.mark.timeout(600),
]

_DELAY_MS = 25
_RATE = 1000
_SECONDS = 10.0
_RELAYS, _LEAVES = 3, 3


class Site:
    """The nodes: a master here, and relays with their leaves over there."""

    def __init__(self, folder: Path, net: network.Network) -> None:
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

    def _node(self, folder, net, name, upstream, *, relay: bool = False) -> Node:
        node = Node(
            folder / name, name,
            {
                "replication__role": "replica",
                "replication__relay": relay,
                "replication__upstream": ",".join(upstream),
                "replication__master_address": f"{net.outside_cut}:{self.master.pub_port}",
                "replication__master_sync_address": f"{net.outside_cut}:{self.master.sync_port}",
            },
            host=net.inside, bind="0.0.0.0", launcher=net.launcher,
        )  # fmt: skip
        node.sync_port = node.pub_port + 1
        node.settings["replication.sync_listen_address"] = f"0.0.0.0:{node.sync_port}"
        return node


def facts(node: Node) -> dict:
    return node.request("GET", "/health/replication").json()


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
        for node in nodes:
            stack.callback(node.kill)
            node.launch()
            eventually(node.is_healthy, 60)
        late_ms = _DELAY_MS if net.delay(_DELAY_MS) else 0
        eventually(
            lambda: all(facts(leaf)["hops"] == 2 for leaf in site.leaves)
            and all(facts(leaf)["status"] == "in_sync" for leaf in site.leaves), 120,
        )  # fmt: skip
        began = cpu_seconds(site.master.owner_pid())
        load = Steady(site.master, _SECONDS)
        load.start()
        found = lags(site.leaves, _SECONDS)
        load.join()
        cpu = (cpu_seconds(site.master.owner_pid()) - began) / load.count * 1e6
        p95 = found[int(len(found) * 0.95)]
        print(f"{late_ms} ms each way, {load.count} SETs, lag p95 {p95} ms of {len(found)} looks")
        print(f"the master's writer took {cpu:.0f} us of CPU for each SET")

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
