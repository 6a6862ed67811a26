"""Real nodes whose wall clock is set ahead and back while they run."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.support import Cluster, Node, eventually

HOUR = 3600
# Read by every process of a node at its start: its wall clock is the machine's and what the file
# says; its monotonic clock is left alone, as when an operator sets the clock.
_SHIFTED_CLOCK = """
import mmap, os, struct, time

with open(os.environ["TEST_CLOCK_SHIFT"], "rb") as file:
    _shift = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + struct.unpack("<q", _shift[:8])[0]
time.time_ns = lambda: _time_ns() + struct.unpack("<q", _shift[:8])[0] * 1_000_000_000
"""


class Clock:
    """The wall clock of the nodes that are started after it was made."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._path = folder / "shift"
        self._path.write_bytes(bytes(8))
        (folder / "sitecustomize.py").write_text(_SHIFTED_CLOCK)
        monkeypatch.setenv("TEST_CLOCK_SHIFT", str(self._path))
        monkeypatch.setenv("PYTHONPATH", str(folder))

    def set(self, seconds: int) -> None:
        """Set it to the machine's time and `seconds`."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("<q", seconds))

    def set_apart(self, seconds: int) -> None:
        """Have the nodes that are started from now on go by another one, `seconds` ahead."""
        apart = self._path.with_name("apart")
        apart.write_bytes(struct.pack("<q", seconds))
        self._monkeypatch.setenv("TEST_CLOCK_SHIFT", str(apart))


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    folder = tmp_path / "clock"
    folder.mkdir()
    return Clock(folder, monkeypatch)


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[Cluster]:
    """A master and a replica on `clock`."""
    cluster = Cluster(tmp_path, replicas=1, replication__heartbeat_interval_ms=200)
    with ExitStack() as stack:
        stack.callback(cluster.kill)
        cluster.start()
        yield cluster


def put(node: Node, key: str, ttl: int | None = None) -> None:
    body = {"key": key, "value": "v"} | ({} if ttl is None else {"ttl": ttl})
    assert node.request("POST", "/kv/set", body).status == HTTPStatus.OK


def has(node: Node, key: str) -> bool:
    return node.request("GET", f"/kv/get/{key}").status == HTTPStatus.OK


def expired_total(node: Node) -> int:
    total = node.request("GET", "/stats").json()["kv"]["expired_total"]
    assert isinstance(total, int)
    return total


def is_in_sync(node: Node) -> bool:
    facts = node.request("GET", "/health/replication").json()
    return bool(facts["status"] == "in_sync" and facts["lag_ms"] < 1000)


def metric(node: Node, name: str) -> float:
    text = node.request("GET", "/metrics").body.decode()
    return float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])


def confirm(node: Node) -> float:
    """Say that the clock is right; return by how much it had jumped."""
    return float(node.request("POST", "/clock/confirm").json()["seconds"])


def test_clock_set_ahead_expires_nothing_before_it_is_confirmed(
    pair: Cluster, clock: Clock
) -> None:
    master, (replica,) = pair.master, pair.replicas
    put(master, "hour", HOUR)
    put(master, "second", 1)
    put(master, "day", 24 * HOUR)
    put(master, "stays")
    eventually(lambda: has(replica, "stays"))
    clock.set(2 * HOUR)
    eventually(lambda: metric(master, "synap_clock_held_seconds") > HOUR)
    assert metric(master, "synap_clock_jumps_total") == 1
    assert "this machine's clock has jumped by +7200" in master.log
    # What is due by the time that has passed goes on going.
    eventually(lambda: expired_total(master) == 1)
    assert all(has(node, "hour") for node in pair.nodes)
    assert confirm(master) == pytest.approx(2 * HOUR, abs=1)
    assert confirm(master) == 0
    assert not has(master, "hour")
    eventually(lambda: not has(replica, "hour"))
    eventually(lambda: expired_total(master) == 2)
    eventually(lambda: metric(master, "synap_clock_held_seconds") == 0)
    assert all(has(node, key) for node in pair.nodes for key in ("day", "stays"))
    assert all(node.is_healthy() for node in pair.nodes)
    put(master, "after")
    eventually(lambda: has(replica, "after"))
    eventually(lambda: is_in_sync(replica))


def test_clock_set_back_expires_nothing_early_and_freezes_nothing(
    pair: Cluster, clock: Clock
) -> None:
    master, (replica,) = pair.master, pair.replicas
    put(master, "minute", 60)
    eventually(lambda: has(replica, "minute"))
    clock.set(-2 * HOUR)
    started = time.monotonic()
    put(master, "after")
    put(master, "second", 1)
    eventually(lambda: has(replica, "after"))
    # Timers run on: the sweep finds the new key when its second is over, heartbeats go out.
    eventually(lambda: expired_total(master) == 1)
    assert time.monotonic() - started >= 1.0
    assert all(has(node, "minute") for node in pair.nodes)
    eventually(lambda: is_in_sync(replica))
    assert all(node.is_healthy() for node in pair.nodes)


def test_jump_of_the_clock_stays_held_over_a_restart_of_the_writer(
    pair: Cluster, clock: Clock
) -> None:
    master = pair.master
    put(master, "hour", HOUR)
    clock.set(2 * HOUR)
    old = master.owner_pid()
    os.kill(old, signal.SIGKILL)
    eventually(lambda: master.owner_pid() not in (0, old))
    eventually(lambda: metric(master, "synap_clock_held_seconds") > HOUR)
    put(master, "after", HOUR)
    assert has(master, "hour")
    clock.set(0)
    eventually(lambda: metric(master, "synap_clock_held_seconds") == 0)
    assert has(master, "hour")
    assert has(master, "after")


def test_replica_with_a_wrong_clock_goes_by_its_masters_and_says_so(
    tmp_path: Path, clock: Clock
) -> None:
    with Cluster(tmp_path, replicas=1, replication__heartbeat_interval_ms=200) as cluster:
        master, (replica,) = cluster.master, cluster.replicas
        put(master, "hour", HOUR)
        replica.stop()
        clock.set_apart(2 * HOUR)
        replica.start()
        eventually(lambda: is_in_sync(replica))
        assert has(replica, "hour")
        assert replica.request("GET", "/kv/hour/ttl").json()["ttl"] > HOUR - 60
        eventually(lambda: metric(replica, "synap_replication_clock_skew_seconds") < -2 * HOUR + 60)
        note = replica.request("GET", "/health/replication").json()["note"]
        assert "this machine's clock is 7200" in note
        assert "ahead of its master's" in note
        put(master, "soon", 1)
        eventually(lambda: has(replica, "soon"))
        eventually(lambda: not has(replica, "soon"))
