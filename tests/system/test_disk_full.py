"""A real node on a full disk: it refuses writes, serves reads, and goes on by itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.conftest import StartNode
from tests.disks import fill, small_disk
from tests.support import HOST, Node, children_of, eventually

DISK_BYTES = 48 * 1024 * 1024
GOES_ON_SECONDS = 5.0


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name is short enough for a run directory below it."""
    with tempfile.TemporaryDirectory(prefix="synap") as folder:
        yield Path(folder)


@pytest.fixture
def disk(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk for the data, the run directory and the node's log alike."""
    with small_disk(short_path / "disk", DISK_BYTES) as place:
        monkeypatch.setenv("SYNAP_RUN_DIR", str(place / "run"))
        yield place


@pytest.fixture
def node(disk: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A running node on the small disk, in the fsync mode that a test names."""
    mode = getattr(request, "param", "periodic")
    settings = {"server__workers": 2, "persistence__wal__fsync_mode": mode}
    with Node(disk / "node", "node", settings) as node:
        yield node


def put(node: Node, key: str, value: str = "v") -> tuple[int, str]:
    """Write a key; return the status, and the reason where it is an error."""
    answer = node.request("POST", "/kv/set", {"key": key, "value": value})
    return answer.status, answer.json().get("reason", "")


def read_only(node: Node) -> str:
    return str(node.request("GET", "/health").json().get("read_only", ""))


def row_note(node: Node) -> str:
    """Return what the node's row of `synap status` says below the table."""
    return str(node.request("GET", "/cluster").json()["members"][0]["note"])


def fill_until_refused(node: Node, disk: Path) -> Path:
    """Fill the disk until the node refuses; return what fills it."""

    def is_refused() -> bool:
        fill(disk)
        return put(node, "filler", "v" * 8192) == (HTTPStatus.INSUFFICIENT_STORAGE, "disk_full")

    eventually(is_refused)
    eventually(lambda: read_only(node) == "disk_full")
    return disk / "ballast"


def processes(node: Node) -> list[int]:
    return [node.owner_pid(), node.http_pid(), *sorted(children_of(node.http_pid()))]


@pytest.mark.parametrize("node", ["always", "periodic", "never"], indirect=True)
def test_full_disk_under_load_refuses_writes_and_loses_nothing(node: Node, disk: Path) -> None:
    load = Load(f"http://{HOST}:{node.port}")
    before = processes(node)
    with load:
        eventually(lambda: load.has_acknowledged(400))
        for _ in range(2):
            ballast = fill_until_refused(node, disk)
            reads, refused = load.reader.reads, load.refused
            eventually(lambda: load.reader.reads > reads + 50 and load.refused > refused + 50)  # noqa: B023
            ballast.unlink()
            freed = time.monotonic()
            eventually(lambda: load.succeeds_since(freed), GOES_ON_SECONDS)  # noqa: B023
            eventually(lambda: not read_only(node), GOES_ON_SECONDS)
    assert load.faults() == []
    assert load.reader.failures == []
    # A snapshot may be under way, in a process of its own.
    eventually(lambda: processes(node) == before)


def test_refusal_ends_by_itself_when_there_is_room(node: Node, disk: Path) -> None:
    ballast = fill_until_refused(node, disk)
    assert f" bytes are left for {node.data_dir}/" in row_note(node)
    ballast.unlink()
    freed = time.monotonic()
    eventually(lambda: not read_only(node), GOES_ON_SECONDS)
    assert time.monotonic() - freed < GOES_ON_SECONDS
    assert put(node, "k")[0] == HTTPStatus.OK


def test_refusal_goes_on_while_there_is_room_for_a_small_write_only(node: Node, disk: Path) -> None:
    ballast = fill_until_refused(node, disk)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 128 * 1024)
    assert eventually(lambda: put(node, "small")[0] == HTTPStatus.OK, GOES_ON_SECONDS)
    looked_until = time.monotonic() + 1.2
    while time.monotonic() < looked_until:
        assert read_only(node) == "disk_full"


@pytest.mark.parametrize("end", [Node.stop, Node.kill])
def test_start_needs_no_free_byte(node: Node, disk: Path, end: Callable[[Node], object]) -> None:
    for number in range(100):
        assert put(node, f"k{number}")[0] == HTTPStatus.OK
    fill_until_refused(node, disk)
    end(node)
    ballast = fill(disk)
    node.start()
    assert node.request("GET", "/kv/get/k99").json() == "v"
    assert node.request("GET", "/kv/scan?prefix=k").json()["count"] == 100
    big = "v" * 8192
    # What log and store have reserved is used up first.
    full = HTTPStatus.INSUFFICIENT_STORAGE, "disk_full"
    eventually(lambda: put(node, "k0", big) == full, GOES_ON_SECONDS)
    fill(disk)
    snapshot = node.request("POST", "/snapshot")
    assert (snapshot.status, snapshot.json()["reason"]) == (507, "disk_full")
    ballast.unlink()
    eventually(lambda: put(node, "k0", big)[0] == HTTPStatus.OK, GOES_ON_SECONDS)
    eventually(lambda: not read_only(node), GOES_ON_SECONDS)


def test_start_without_room_for_shared_memory_is_refused(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(short_path / "full", 1024 * 1024) as full:
        monkeypatch.setenv("SYNAP_RUN_DIR", str(full))
        fill(full)
        node = Node(tmp_path / "node", "node", {})
        node.launch()
        assert node.wait() == 3
    assert "make room or set SYNAP_RUN_DIR" in node.log


def test_replica_with_a_full_disk_serves_reads_and_catches_up(
    start_node: StartNode, disk: Path
) -> None:
    master = start_node("master", replication__role="master")
    settings = {
        "replication__role": "replica",
        "replication__master_address": f"{HOST}:{master.pub_port}",
        "replication__master_sync_address": f"{HOST}:{master.sync_port}",
        "replication__reconnect_delay_ms": 500,
    }
    with Node(disk / "replica", "replica", settings) as replica:
        assert put(master, "before")[0] == HTTPStatus.OK
        eventually(lambda: replica.request("GET", "/kv/get/before").json() == "v")
        ballast = fill(disk)
        owner = replica.owner_pid()
        for number in range(20):
            assert put(master, f"k{number}", "v" * 8192)[0] == HTTPStatus.OK
        eventually(lambda: "disk is full" in str(note(replica)))
        assert replica.request("GET", "/kv/get/before").json() == "v"
        ballast.unlink()
        eventually(lambda: digest(replica) == digest(master))
        assert replica.owner_pid() == owner


def note(node: Node) -> object:
    return node.request("GET", "/health/replication").json()["note"]


def digest(node: Node) -> bytes:
    return node.request("GET", "/digest").body
