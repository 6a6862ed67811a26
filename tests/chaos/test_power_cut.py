"""The power goes while a node writes with `fsync_mode: always`: nothing acknowledged is lost.

The node's disk is an ext4 of its own, which the kernel is told to shut down without writing another
byte: what was not synced is gone, as with the machine's power. Then it is mounted again, with its
journal's replay, and the node started. What a node answers while the kernel is at it is in doubt;
`tests.chaos.load.Cut` tells why.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import length
from tests.chaos.load import Load
from tests.disks import Ext4OnLoop, ext4_on_loop, is_unmounted
from tests.support import HOST, Node, eventually, rewrite_json

DISK_BYTES = 256 * 1024 * 1024
CUTS = 20 if length.IS_LONG else 1
WRITES_BEFORE_CUT = 400
# linux/ext4.h: _IOR('X', 125, __u32), and the flag that drops the journal's unwritten part too.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2

pytestmark = pytest.mark.timeout(60 + 30 * CUTS)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Ext4OnLoop]:
    with ext4_on_loop(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


def cut_power(disk: Ext4OnLoop) -> None:
    file = os.open(disk.place, os.O_RDONLY)
    try:
        fcntl.ioctl(file, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    except OSError as error:
        pytest.skip(f"ext4 can't be shut down here: {error.strerror}")
    finally:
        os.close(file)


def pretend_reboot(node: Node) -> None:
    """Have the live store's marker name another boot of the kernel, as after a power cut."""
    (marker,) = node.data_dir.glob("store/*/marker.json")
    assert not json.loads(marker.read_bytes())["clean"]
    rewrite_json(marker, boot_id="an earlier boot")


def test_disk_lost_under_a_running_machine_loses_nothing_acknowledged(
    disk: Ext4OnLoop, tmp_path: Path
) -> None:
    """A detached volume: boot, device and inode are the same again, and pages are missing."""
    settings = {
        "data_dir": disk.place / "data",
        "persistence__wal__fsync_mode": "always",
        "persistence__snapshot__enabled": False,
        "server__workers": 1,
    }
    node = Node(tmp_path, "node", settings)
    node.data_dir = disk.place / "data"
    load = Load(f"http://{HOST}:{node.port}")
    with node:
        with load:
            eventually(lambda: load.has_acknowledged(WRITES_BEFORE_CUT), 30)
            with load.cut():
                cut_power(disk)
        node.kill()
        eventually(lambda: is_unmounted(disk), 10)
        disk.mount()
        node.start()
        faults = load.faults()
    assert faults == []
    assert "mounted anew" in node.log


def test_power_cut_under_load_loses_nothing_acknowledged(disk: Ext4OnLoop, tmp_path: Path) -> None:
    settings = {
        "data_dir": disk.place / "data",
        "persistence__wal__fsync_mode": "always",
        "persistence__wal__max_size_mb": 16,
        "persistence__snapshot__operation_threshold": 300,
        "persistence__snapshot__min_interval_secs": 1,
        "server__workers": 2,
    }
    node = Node(tmp_path, "node", settings)
    node.data_dir = disk.place / "data"
    load = Load(f"http://{HOST}:{node.port}")
    faults = []
    recovery_seconds = []
    with node:
        for _ in range(CUTS):
            target = load.acknowledged + WRITES_BEFORE_CUT
            with load:
                eventually(lambda: load.has_acknowledged(target), 30)  # noqa: B023
                with load.cut():
                    cut_power(disk)
            node.kill()
            eventually(lambda: is_unmounted(disk), 10)
            disk.mount()
            pretend_reboot(node)
            began = time.monotonic()
            node.start()
            recovery_seconds.append(time.monotonic() - began)
            faults += load.faults()
    print(
        f"\npower cut: {CUTS} rounds, {load.acknowledged} writes acknowledged, {len(faults)} lost "
        f"or half written; the node served again {max(recovery_seconds):.1f} s after its start"
    )
    assert faults == []
    assert "the machine was restarted" in node.log
