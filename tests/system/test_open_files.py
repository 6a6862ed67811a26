"""A node that may open few files, while strangers take all that its replication ports give."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support import HOST, Node, eventually
from tests.system.test_roles import HEARTBEAT

FILES = 160
CONNECTIONS = 600
VALUE = "v" * 100_000


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Node]:
    """A master whose log begins a segment with each MiB."""
    settings = {
        "replication.role": "master",
        "persistence.wal.max_size_mb": 1,
        "persistence.snapshot.enabled": False,
        **HEARTBEAT,
    }
    launcher = ["prlimit", f"--nofile={FILES}:{FILES}"]
    with Node(tmp_path, "crowded", settings, launcher=launcher) as node:
        yield node


def crowd(node: Node, stack: ExitStack) -> None:
    """Open connections to both ports, more than the node may have files."""
    for port in (node.pub_port, node.sync_port):
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.connect((HOST, port))


@pytest.mark.timeout(120)
def test_crowded_ports_end_neither_the_owner_nor_its_log(crowded: Node) -> None:
    """Cites K9: segments begin while no file can be opened, or a little later."""
    pid = crowded.owner_pid()
    with ExitStack() as stack:
        for number in range(60):
            if number % 10 == 0:
                crowd(crowded, stack)
            body = {"key": f"key-{number}", "value": VALUE}
            eventually(lambda body=body: crowded.request("POST", "/kv/set", body).status == 200)
    assert crowded.owner_pid() == pid

    def has_segments() -> bool:
        crowded.request("POST", "/kv/set", {"key": "key", "value": VALUE})
        stats = crowded.request("GET", "/stats").json()
        return int(stats["persistence"]["wal_segments"]) > 2

    eventually(has_segments)
    log = crowded.log
    assert "waits: [Errno 24]" in log
    assert "writer failed" not in log


def test_processes_may_open_as_many_files_as_the_system_allows(tmp_path: Path) -> None:
    launcher = ["prlimit", "--nofile=128:4096"]
    with Node(tmp_path, "node", {}, launcher=launcher) as node:
        assert resource.prlimit(node.owner_pid(), resource.RLIMIT_NOFILE) == (4096, 4096)
