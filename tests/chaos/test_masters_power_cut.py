"""The master's power goes while a quorum acknowledges, with `periodic`: no acknowledged write goes.

As in `test_power_cut`, the disk is an ext4 that is shut down without another byte; here it is the
master's alone, whose log comes back shorter than its replicas'. Acks are counted outside, also
those that come while the disk is cut off: they rest on the replicas, whose disks are not.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.test_power_cut import DISK_BYTES, cut_power, pretend_reboot
from tests.disks import ext4_on_loop, is_unmounted
from tests.support import HOST, Node, eventually

CUTS = int(os.environ.get("SYNAP_CHAOS_ROUNDS", "1"))
REPLICAS = 2
WRITES_BEFORE_CUT = 200

pytestmark = pytest.mark.timeout(60 + 30 * CUTS)


def started_cluster(stack: ExitStack, folder: Path, data_dir: Path, quorum: int) -> list[Node]:
    """Return the master, whose data is on a disk of its own, and its replicas."""
    shared = {
        "replication__heartbeat_interval_ms": 100,
        "replication__reconnect_delay_ms": 100,
        "persistence__wal__fsync_mode": "periodic",
        "persistence__wal__fsync_interval_ms": 2000,
    }
    master = Node(
        folder / "master", "master",
        {
            **shared, "data_dir": data_dir, "replication__role": "master",
            "replication__min_replicas_to_write": quorum,
        },
    )  # fmt: skip
    master.data_dir = data_dir
    follows = {
        "replication__role": "replica",
        "replication__master_address": f"{HOST}:{master.pub_port}",
        "replication__master_sync_address": f"{HOST}:{master.sync_port}",
    }
    names = [f"replica{number}" for number in range(1, REPLICAS + 1)]
    replicas = [Node(folder / name, name, {**shared, **follows}) for name in names]
    for node in (master, *replicas):
        node.folder.mkdir(exist_ok=True)
        stack.enter_context(node)
    return [master, *replicas]


def has_joined(master: Node) -> bool:
    facts = master.request("GET", "/health/replication").json()
    return [each["status"] for each in facts["replicas"]].count("in_sync") == REPLICAS


@pytest.mark.parametrize("quorum", [1, 2])
def test_masters_power_cut_loses_nothing_that_a_quorum_acknowledged(
    tmp_path: Path, quorum: int
) -> None:
    lost, held, waits = [], [], []
    with ExitStack() as stack:
        disk = stack.enter_context(ext4_on_loop(tmp_path / "disk", DISK_BYTES))
        master, *replicas = started_cluster(stack, tmp_path, disk.place / "data", quorum)
        load = Load(f"http://{HOST}:{master.port}")
        for _ in range(CUTS):
            eventually(lambda: has_joined(master), 30)
            target = load.acknowledged + WRITES_BEFORE_CUT
            with load:
                eventually(lambda: load.has_acknowledged(target), 30)  # noqa: B023
                cut_power(disk)
            master.kill()
            eventually(lambda: is_unmounted(disk), 10)
            disk.mount()
            pretend_reboot(master)
            began = time.monotonic()
            master.start()
            eventually(lambda: master.request("GET", "/primary").status == 200, 30)
            waits.append(time.monotonic() - began)
            lost += load.faults()
        held = [replica.folder / "data" / "diverged" for replica in replicas]
        gave_back = master.log.count("which this log lost")
    print(
        f"\nquorum {quorum}: {CUTS} power cuts, {load.acknowledged} writes acknowledged, "
        f"{len(lost)} lost; {gave_back} times a replica was ahead; writes went on after at most "
        f"{max(waits):.1f} s"
    )
    assert lost == []
    assert [path for path in held if path.exists() and any(path.iterdir())] == []
    assert gave_back
