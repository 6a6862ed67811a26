"""A node whose live store, or whose disk, fails under it goes on with what it can."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.test_power_cut import cut_power
from tests.disks import Ext4OnLoop, ext4_on_loop
from tests.support import Node, children_of, eventually

KEYS = 200
SECONDS = 30


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Ext4OnLoop]:
    with ext4_on_loop(tmp_path / "disk", 64 * 1024 * 1024) as disk:
        yield disk


def write_keys(node: Node) -> None:
    pairs = [{"key": f"k{number}", "value": "v" * 500} for number in range(KEYS)]
    assert node.request("POST", "/kv/mset", {"pairs": pairs}).status == 200


def holds_all(node: Node) -> bool:
    answers = [node.answer_or_none(f"/kv/get/k{number}") for number in range(KEYS)]
    return all(answer is not None and answer.status == 200 for answer in answers)


def can_write(node: Node) -> bool:
    body = {"key": "new", "value": "v"}
    try:
        return node.request("POST", "/kv/set", body, timeout_seconds=5).status == 200
    except OSError:
        return False


def test_store_cut_off_under_a_running_node_is_rebuilt_and_loses_nothing(tmp_path: Path) -> None:
    """Whoever touches a page that has gone is ended by SIGBUS."""
    with Node(tmp_path, "node", {"persistence__snapshot__enabled": False}) as node:
        write_keys(node)
        (data,) = node.data_dir.glob("store/*/data.mdb")
        os.truncate(data, 2 * 4096)
        eventually(lambda: can_write(node), SECONDS)
        eventually(lambda: holds_all(node), SECONDS)
        assert node.is_running
        assert list(node.data_dir.glob("foreign/*/store/*/data.mdb"))
    assert "SIGBUS" in node.log


def test_reads_go_on_while_the_log_s_disk_fails(disk: Ext4OnLoop, tmp_path: Path) -> None:
    node = Node(tmp_path, "node", {"data_dir": disk.place / "data"})
    node.data_dir = disk.place / "data"
    with node:
        write_keys(node)
        assert holds_all(node)
        cut_power(disk)
        assert not can_write(node)
        eventually(lambda: node.log.count("starting it again") >= 5, SECONDS)
        assert node.is_running
        assert holds_all(node)
        assert node.request("GET", "/health").json()["read_only"] == "writer_unavailable"


def scribble(node: Node, key: str) -> None:
    """Have the pages of the live store that hold a key be of no kind that LMDB knows."""
    (data,) = node.data_dir.glob("store/*/data.mdb")
    pages = data.read_bytes()
    with data.open("r+b") as file:
        for at in range(2 * 4096, len(pages), 4096):
            if key.encode() in pages[at : at + 4096]:
                file.seek(at + 10)
                file.write(b"\0\0")


def test_read_that_meets_damaged_pages_has_the_store_rebuilt(tmp_path: Path) -> None:
    with Node(tmp_path, "node", {"persistence__snapshot__enabled": False}) as node:
        write_keys(node)
        scribble(node, "k0")
        refused = node.request("GET", "/kv/get/k0")
        assert (refused.status, refused.json()["reason"]) == (500, "store_damaged")
        eventually(lambda: holds_all(node), SECONDS)
        assert node.is_running
        assert list(node.data_dir.glob("foreign/*/store/*/data.mdb"))


def test_worker_that_dies_of_sigbus_has_the_store_rebuilt(tmp_path: Path) -> None:
    with Node(tmp_path, "node", {"persistence__snapshot__enabled": False}) as node:
        write_keys(node)
        owner = node.owner_pid()
        os.kill(children_of(node.http_pid())[0], signal.SIGBUS)
        eventually(lambda: list(node.data_dir.glob("foreign/*/store/*/data.mdb")), SECONDS)
        eventually(lambda: holds_all(node), SECONDS)
        assert node.owner_pid() not in (0, owner)
    assert "it ended a worker by SIGBUS" in node.log
