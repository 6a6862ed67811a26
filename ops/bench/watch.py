"""The change feed: what watchers cost the writes, how late they are told, what idle ones take."""

from __future__ import annotations

import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.bench.cpu import cpu_seconds, process_tree
from ops.bench.data import FAULTS, fill
from ops.bench.errors import MeasurementFailed
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.slow_watcher import measure_beside_slow
from ops.bench.systems import SynapNode
from ops.bench.watchers import connect
from ops.bench.wrk import Load, measure
from ops.client import Client

TITLE = "The change feed"
HEADER = ("", "figure", "goal")
_IDLE = 10_000
_SETTINGS = {
    "persistence.snapshot.enabled": False,
    "server.max_connections": 2 * _IDLE,
    "server.max_connections_per_address": 0,
    "watch.max_watchers": 3 * _IDLE,
}
_WATCHERS_A_WORKER = 10
_RATES = ((1_000, 1), (10_000, 10))
_PROBE_SECONDS = 0.02
_DEADLINE_SECONDS = 30.0
_IDLE_SECONDS = 20


def run(settings: Settings) -> Section:
    """Measure all of it on one node."""
    rows: list[tuple[str, str, str]] = []
    faults = []
    with tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as name:
        try:
            with SynapNode(Path(name), "periodic", _SETTINGS) as node:
                fill(node, 0, settings.keys)
                rows += _idle(node)
                for rate, entries in _RATES:
                    rows += _delays(node, rate, entries, settings.seconds)
                rows += measure_beside_slow(node, settings.seconds)
                rows += _cost(node, settings)
        except FAULTS as error:
            faults.append(str(error))
    text = (
        f"One node with the configuration's number of workers. {_IDLE:,} idle watchers, each of a "
        "key of its own and of one that all have; memory is the PSS of all HTTP workers, beyond "
        "what as many idle connections take; CPU is that of all HTTP workers, in parts of one "
        "core. The delay is from the acknowledgement of a write to its event at a watcher of its "
        "prefix, beside writes at that rate, in the measuring process; that of many watchers is "
        "from before the write, beside 8 MB of values a second that one watcher asked for and "
        f"leaves unread. The cost is that of {_WATCHERS_A_WORKER} watchers of all keys a worker, "
        "which take what comes as it comes and look at none of it, on "
        f"the same cores, to SETs by wrk with 1 thread and {settings.connections} connections; "
        f"medians of {settings.rounds} rounds of {settings.seconds} s in turns. CPU time is that "
        "of all of the node's processes."
    )
    return Section(TITLE, text, HEADER, rows, faults)


def _address(node: SynapNode) -> str:
    return node.url.removeprefix("http://")


def _http_pids(node: SynapNode) -> list[int]:
    """Return the processes that serve HTTP."""
    return [
        pid
        for pid in node.pids()
        for each in process_tree(pid)[:1]
        if b"gunicorn" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


def _pss_kib(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def _idle(node: SynapNode) -> list[tuple[str, str, str]]:
    """Measure idle connections, and then as many idle watchers."""
    pids = _http_pids(node)
    before = _pss_kib(pids)
    kept = _keep_alive(_address(node), _IDLE)
    connections_kib = (_pss_kib(pids) - before) / _IDLE
    for each in kept:
        each.close()
    watchers = connect(_address(node), [f"key=idle:{i}&key=all" for i in range(_IDLE)])
    try:
        watchers_kib = (_pss_kib(pids) - before) / _IDLE
        used, began = cpu_seconds(pids), time.monotonic()
        time.sleep(_IDLE_SECONDS)
        share = (cpu_seconds(pids) - used) / (time.monotonic() - began)
        reached = _reach_all(node, watchers)
    finally:
        for each in watchers:
            each.close()
    return [
        ("memory of an idle connection, KiB", f"{connections_kib:.1f}", ""),
        (
            "memory of an idle watcher beyond that, KiB",
            f"{watchers_kib - connections_kib:.1f}",
            "4",
        ),
        (f"CPU of {_IDLE:,} idle watchers, of a core", f"{share:.1%}", "3 %"),
        (f"one write reaches all {_IDLE:,}, s", f"{reached:.2f}", "1"),
    ]


def _keep_alive(address: str, count: int) -> list[socket.socket]:
    host, _, port = address.rpartition(":")
    opened = []
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), _DEADLINE_SECONDS)
        connection.sendall(b"GET /kv/get/none HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not connection.recv(4096).startswith(b"HTTP/1.1 404"):
            raise MeasurementFailed("a connection was not served")
        opened.append(connection)
    return opened


def _reach_all(node: SynapNode, watchers: list[socket.socket]) -> float:
    selector = selectors.DefaultSelector()
    for each in watchers:
        selector.register(each, selectors.EVENT_READ)
    left = set(watchers)
    with Client(node.url) as client:
        began = time.monotonic()
        client.post("/kv/set", {"key": "all", "value": "x"})
        while left:
            for key, _ in selector.select(1):
                if b"change" in key.fileobj.recv(65_536):  # type: ignore[union-attr]
                    left.discard(key.fileobj)  # type: ignore[arg-type]
            if time.monotonic() - began > _DEADLINE_SECONDS:
                raise MeasurementFailed(f"{len(left)} watchers were told nothing")
        return time.monotonic() - began


def _delays(node: SynapNode, rate: int, entries: int, seconds: int) -> list[tuple[str, str, str]]:
    """Measure how long after its acknowledgement a write is told, beside others."""
    acknowledged: dict[bytes, float] = {}
    told: dict[bytes, float] = {}
    (watcher,) = connect(_address(node), ["prefix=probe:"])
    is_over = threading.Event()

    def read() -> None:
        rest = b""
        while not is_over.is_set():
            try:
                part = watcher.recv(65_536)
            except OSError:
                return
            now = time.monotonic()
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if b'"key":"probe:' in line:
                    told[line.split(b'"key":"', 1)[1].split(b'"', 1)[0]] = now

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "ops.bench.paced", node.url, str(rate), str(entries)]
    with subprocess.Popen([*command, str(seconds + 1)], stdout=subprocess.PIPE) as others:
        with Client(node.url) as client:
            end = time.monotonic() + seconds
            number = 0
            while time.monotonic() < end:
                key = f"probe:{rate}:{number}"
                client.post("/kv/set", {"key": key, "value": "x"})
                acknowledged[key.encode()] = time.monotonic()
                number += 1
                time.sleep(_PROBE_SECONDS)
        written = int(others.communicate()[0])
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while len(told) < len(acknowledged) and time.monotonic() < deadline:
        time.sleep(0.01)
    is_over.set()
    watcher.shutdown(socket.SHUT_RDWR)
    reader.join()
    if len(told) != len(acknowledged):
        raise MeasurementFailed(f"{len(acknowledged) - len(told)} writes were never told")
    delays = sorted(max(0.0, told[key] - acknowledged[key]) * 1000 for key in acknowledged)
    p99 = delays[min(len(delays) - 1, round(len(delays) * 0.99))]
    figure = f"{statistics.median(delays):.1f} / {p99:.1f}"
    return [(f"delay at {written / (seconds + 1):,.0f} writes a second, p50 / p99, ms", figure, "")]


@contextmanager
def _following(node: SynapNode, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "ops.bench.watchers", _address(node), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watchers:
        assert watchers.stdout is not None
        if watchers.stdout.readline() != b"following\n":
            raise MeasurementFailed("the watchers do not follow")
        yield
        if not int(watchers.communicate()[0]):
            raise MeasurementFailed("the watchers were told nothing")


def _cost(node: SynapNode, settings: Settings) -> list[tuple[str, str, str]]:
    """Measure SETs with and without watchers, in turns."""
    workers = max(1, len(_http_pids(node)) - 1)
    alone, watched = [], []
    for number in range(settings.rounds):
        alone.append(_sets(node, settings, f"a{number}"))
        with _following(node, workers * _WATCHERS_A_WORKER):
            watched.append(_sets(node, settings, f"b{number}"))
    rates = [statistics.median(rate for rate, _ in each) for each in (alone, watched)]
    times = [statistics.median(cpu for _, cpu in each) for each in (alone, watched)]
    both = f"nobody / {workers * _WATCHERS_A_WORKER} watchers"
    return [
        (f"SETs a second, {both}", f"{rates[0]:,.0f} / {rates[1]:,.0f}", ""),
        ("ratio", f"{rates[1] / rates[0]:.2f}", "0.9"),
        (f"CPU time a SET, {both}, µs", f"{times[0]:.0f} / {times[1]:.0f}", ""),
    ]


def _sets(node: SynapNode, settings: Settings, tag: str) -> tuple[float, float]:
    """Return SETs a second, and the node's CPU time in µs for each."""
    load = Load("synap", "set", settings.keys, settings.connections, tag)
    pids = node.pids()
    used = cpu_seconds(pids)
    outcome = measure(node.url, load, settings.seconds)
    return outcome.per_second, (cpu_seconds(pids) - used) / outcome.requests * 1e6
