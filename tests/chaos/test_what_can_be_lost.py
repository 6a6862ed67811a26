"""The table "What can be lost when" of docs/operations.md, where no other test has a cell of it.

Writes go one after the other, so what is left after a loss is to be a beginning of them. A disk
that loses power is an ext4 of its own, as in `test_power_cut`.
"""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from ops.client import Client
from tests.chaos.load import Cut, Load
from tests.chaos.test_power_cut import cut_power, pretend_reboot
from tests.conftest import StartNode
from tests.disks import Ext4OnLoop, ext4_on_loop, is_unmounted
from tests.support import HOST, Cluster, Node, eventually

MODES = ("always", "periodic", "never")
DISK_BYTES = 256 * 1024 * 1024
INTERVAL_MS = 500
# The interval, the sync at work, and a busy machine.
PERIODIC_SECONDS = 2.5
SECONDS = 30
FASTER = {
    "replication__heartbeat_interval_ms": 100,
    "replication__reconnect_delay_ms": 100,
    "persistence__snapshot__enabled": False,
}

pytestmark = pytest.mark.timeout(120)


class Numbered:
    """Writes key after key to a node until it gives no 200 any more, or is told to stop.

    Attributes:
        sent: The moment at which each of them was sent.
        acknowledged: The moment of each key's answer, in the order of the keys, which are `k0`...
    """

    def __init__(self, node: Node) -> None:
        self.sent: list[float] = []
        self.acknowledged: list[float] = []
        self._url = f"http://{HOST}:{node.port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write meanwhile."""
        should_stop = Event()
        thread = Thread(target=self._run, args=(should_stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            should_stop.set()
            thread.join()

    def has(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.acknowledged) >= count

    def promised(self, cut: Cut) -> int:
        """Return how many of the first keys a node must hold after a cut of its disk."""
        moments = zip(self.sent, self.acknowledged, strict=True)
        counts = enumerate(moments, 1)
        return max(count for count, (sent, got) in counts if not cut.leaves_open(sent, got))

    def held(self, node: Node) -> int:
        """Return how many of the first keys the node holds; it may hold none behind a gap."""
        with Client(f"http://{HOST}:{node.port}") as client:
            names = [f"k{number}" for number in range(len(self.acknowledged))]
            found: list[bool] = []
            for at in range(0, len(names), 500):
                values = client.post("/kv/mget", {"keys": names[at : at + 500]})["values"]
                found += [value is not None for value in values]
        assert found == sorted(found, reverse=True), "there is a gap in what is left"
        return sum(found)

    def _run(self, should_stop: Event) -> None:
        with (
            suppress(OSError, http.client.HTTPException),
            Client(self._url, 8.0) as client,
        ):
            while not should_stop.is_set():
                body = {"key": f"k{len(self.acknowledged)}", "value": "v"}
                sent = time.monotonic()
                if client.send("POST", "/kv/set", body).status != 200:
                    return
                self.sent.append(sent)
                self.acknowledged.append(time.monotonic())


def put_on(node: Node, disk: Ext4OnLoop) -> None:
    """Have a node that is not started yet keep its data on a disk of its own."""
    node.data_dir = disk.place / "data"
    node.settings["data_dir"] = node.data_dir


def mount_again(node: Node, disk: Ext4OnLoop) -> None:
    """Have the machine of a node whose disk was cut off come back; the node is not started."""
    node.kill()
    eventually(lambda: is_unmounted(disk), 10)
    disk.mount()
    pretend_reboot(node)


def have_joined(cluster: Cluster) -> bool:
    facts = cluster.master.request("GET", "/health/replication").json()
    states = [each["status"] for each in facts["replicas"]]
    return states.count("in_sync") == len(cluster.replicas)


def promote(node: Node) -> None:
    answer = node.request("POST", "/replication/promote", {"force": True})
    assert answer.status == 200, answer.body
    eventually(lambda: node.request("GET", "/primary").status == 200, SECONDS)


def cluster_of(folder: Path, replicas: int, mode: str, quorum: int) -> Cluster:
    cluster = Cluster(
        folder, replicas, **FASTER,
        persistence__wal__fsync_mode=mode, persistence__wal__fsync_interval_ms=2000,
    )  # fmt: skip
    cluster.master.settings["replication.min_replicas_to_write"] = quorum
    return cluster


def disks_for(stack: ExitStack, folder: Path, *nodes: Node) -> list[Ext4OnLoop]:
    """Give each node a disk of its own."""
    disks = []
    for node in nodes:
        disk = stack.enter_context(ext4_on_loop(folder / f"disk{len(disks)}", DISK_BYTES))
        put_on(node, disk)
        disks.append(disk)
    return disks


@pytest.mark.parametrize("mode", MODES)
def test_kill_of_a_node_loses_nothing_in_any_mode(start_node: StartNode, mode: str) -> None:
    node = start_node(persistence__wal__fsync_mode=mode)
    load = Load(f"http://{HOST}:{node.port}")
    with load:
        eventually(lambda: load.has_acknowledged(400))
        node.kill()
    node.start()
    assert load.faults() == []


@pytest.mark.parametrize("mode", MODES)
def test_power_cut_of_a_node_loses_no_more_than_its_mode_says(tmp_path: Path, mode: str) -> None:
    node = Node(
        tmp_path / "node", "node",
        {
            **FASTER, "persistence__wal__fsync_mode": mode,
            "persistence__wal__fsync_interval_ms": INTERVAL_MS,
        },
    )  # fmt: skip
    with ExitStack() as stack:
        (disk,) = disks_for(stack, tmp_path, node)
        stack.enter_context(node)
        written = Numbered(node)
        began = time.monotonic()
        with written.running():
            eventually(lambda: time.monotonic() > began + PERIODIC_SECONDS + 1)
            cut = time.monotonic()
            cut_power(disk)
        mount_again(node, disk)
        node.start()
        safe = {"always": cut, "periodic": cut - PERIODIC_SECONDS, "never": began}[mode]
        wanted = sum(moment < safe for moment in written.acknowledged)
        assert written.held(node) >= wanted
        assert mode == "never" or wanted


def test_kill_of_a_master_loses_nothing_that_a_quorum_acknowledged(tmp_path: Path) -> None:
    with cluster_of(tmp_path, 1, "never", quorum=1) as cluster:
        eventually(lambda: have_joined(cluster), SECONDS)
        written = Numbered(cluster.master)
        with written.running():
            eventually(written.has(200))
            cluster.master.kill()
        promote(cluster.replicas[0])
        assert written.held(cluster.replicas[0]) == len(written.acknowledged)


@pytest.mark.parametrize("mode", MODES)
def test_power_cut_of_a_replica_loses_nothing_that_a_quorum_acknowledged(
    tmp_path: Path, mode: str
) -> None:
    cluster = cluster_of(tmp_path, 1, mode, quorum=1)
    (replica,) = cluster.replicas
    with ExitStack() as stack:
        (disk,) = disks_for(stack, tmp_path, replica)
        stack.enter_context(cluster)
        eventually(lambda: have_joined(cluster), SECONDS)
        written = Numbered(cluster.master)
        with written.running():
            eventually(written.has(200))
            cut_power(disk)
            mount_again(replica, disk)
        replica.start()
        assert written.held(cluster.master) == len(written.acknowledged)
        eventually(lambda: written.held(replica) == len(written.acknowledged), SECONDS)


def test_power_cut_of_master_and_one_of_two_replicas_loses_nothing_that_both_acknowledged(
    tmp_path: Path,
) -> None:
    cluster = cluster_of(tmp_path, 2, "periodic", quorum=2)
    lost = (cluster.master, cluster.replicas[0])
    with ExitStack() as stack:
        disks = disks_for(stack, tmp_path, *lost)
        stack.enter_context(cluster)
        eventually(lambda: have_joined(cluster), SECONDS)
        written = Numbered(cluster.master)
        with written.running():
            eventually(written.has(200))
            for disk in disks:
                cut_power(disk)
        for node, disk in zip(lost, disks, strict=True):
            mount_again(node, disk)
            node.start()
        eventually(lambda: cluster.master.request("GET", "/primary").status == 200, SECONDS)
        assert written.held(cluster.master) == len(written.acknowledged)
        for replica in cluster.replicas:
            eventually(lambda: written.held(replica) == len(written.acknowledged), SECONDS)  # noqa: B023


def test_power_cut_of_master_and_all_replicas_loses_nothing_with_always(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, 1, "always", quorum=1)
    with ExitStack() as stack:
        disks = disks_for(stack, tmp_path, *cluster.nodes)
        stack.enter_context(cluster)
        eventually(lambda: have_joined(cluster), SECONDS)
        written = Numbered(cluster.master)
        with written.running():
            eventually(written.has(200))
            *first, last = disks
            for disk in first:
                cut_power(disk)
            # Up to here one of the disks that a write rests on was whole.
            began = time.monotonic()
            cut_power(last)
            cut = Cut(began, time.monotonic())
        for node, disk in zip(cluster.nodes, disks, strict=True):
            mount_again(node, disk)
            node.start()
        eventually(lambda: cluster.master.request("GET", "/primary").status == 200, SECONDS)
        assert written.held(cluster.master) >= written.promised(cut)


@pytest.mark.parametrize("mode", MODES)
def test_lost_disk_of_a_master_leaves_all_that_its_replica_had_received(
    tmp_path: Path, mode: str
) -> None:
    with cluster_of(tmp_path, 1, mode, quorum=0) as cluster:
        (replica,) = cluster.replicas
        eventually(lambda: have_joined(cluster), SECONDS)
        written = Numbered(cluster.master)
        with written.running():
            eventually(written.has(200))
            received = eventually(lambda: written.held(replica), SECONDS)
            lose_disk(cluster.master)
        promote(replica)
        assert 0 < received <= written.held(replica) <= len(written.acknowledged) + 1


@pytest.mark.parametrize("mode", MODES)
def test_lost_disk_of_a_master_loses_nothing_that_a_quorum_acknowledged(
    tmp_path: Path, mode: str
) -> None:
    with cluster_of(tmp_path, 1, mode, quorum=1) as cluster:
        (replica,) = cluster.replicas
        eventually(lambda: have_joined(cluster), SECONDS)
        written = Numbered(cluster.master)
        with written.running():
            eventually(written.has(200))
            lose_disk(cluster.master)
        promote(replica)
        assert written.held(replica) == len(written.acknowledged)


def lose_disk(node: Node) -> None:
    node.kill()
    shutil.rmtree(node.data_dir)
