"""A master with three replicas: how late they are, how much they take, and a full resync."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ops.bench.data import FAULTS, PAIRS_A_REQUEST, fill
from ops.bench.errors import MeasurementFailed
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode
from ops.client import Client

TITLE = "Replication"
HEADER = ("", "measured", "goal")
_REPLICAS = 3
# The master makes 10,000 single writes a second only with the cores to itself.
_LOADS = ((1000, 1), (10_000, 50))
_PROBE_PAUSE_SECONDS = 0.02
_DEADLINE_SECONDS = 300
# A log that is cut right after the newest snapshot, so that an empty replica needs it.
_CUT_LOG = {
    "persistence.snapshot.enabled": False,
    "persistence.snapshot.max_snapshots": 1,
    "persistence.wal.max_size_mb": 1,
}


def run(settings: Settings) -> Section:
    """Measure every row."""
    rows: list[tuple[str, ...]] = []
    faults = []
    for measure in (_lags, _digests, _resync):
        with tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as name:
            try:
                rows += measure(Path(name), settings)
            except (*FAULTS, subprocess.SubprocessError) as error:
                faults.append(str(error))
    text = (
        f"A master and {_REPLICAS} replicas on one machine, values of 64 bytes. Lag is what a "
        "client sees: from the master's answer to a SET until each of the replicas in turn has "
        "answered a GET with that offset in X-Synap-Min-Offset, which looks every 2 ms; two HTTP "
        f"requests are in it. {_LOADS[1][0]:,} entries a second come by MSETs of {_LOADS[1][1]} "
        "keys. Entries replicated are MSETs of 50 by one client, until the digests of all four "
        "nodes are equal. A full resync is from the start of an empty replica's processes until "
        "it is healthy and has the digest of its master, whose log begins after its snapshot."
    )
    return Section(TITLE, text, HEADER, rows, faults)


class _Cluster:
    """The master and its replicas; a context manager."""

    def __init__(self, folder: Path, replicas: int, settings: dict[str, object]) -> None:
        self._folder = folder
        self._count = replicas
        self._settings = settings
        self._stack = ExitStack()
        self.replicas: list[SynapNode] = []
        self._made = 0

    def __enter__(self) -> _Cluster:
        with ExitStack() as stack:
            self.master = stack.enter_context(self._node("master", self._settings))
            self._stack = stack.pop_all()
        try:
            for _ in range(self._count):
                self.add_replica()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add_replica(self) -> SynapNode:
        """Start another one, empty; returns when it serves."""
        _, pub_port, sync_port = self.master.ports
        self._made += 1
        name = f"replica{self._made}"
        role = {
            "server.node_id": name,
            "replication.role": "replica",
            "replication.master_address": f"127.0.0.1:{pub_port}",
            "replication.master_sync_address": f"127.0.0.1:{sync_port}",
        }
        replica = self._stack.enter_context(self._node(name, {**self._settings, **role}))
        self.replicas.append(replica)
        return replica

    def await_equal(self) -> None:
        """Wait until all nodes have one digest.

        Raises:
            MeasurementFailed: they don't come to it.
        """
        nodes = [self.master, *self.replicas]
        deadline = time.monotonic() + _DEADLINE_SECONDS
        wanted = _get(self.master, "/health/replication")["current_offset"]
        while any(_offset(replica) < wanted for replica in self.replicas):
            if time.monotonic() > deadline:
                raise MeasurementFailed("the replicas do not get to their master's offset")
            time.sleep(0.01)
        digests = {(each["offset"], each["digest"]) for each in (_get(n, "/digest") for n in nodes)}
        if len(digests) != 1:
            raise MeasurementFailed(f"the nodes differ: {digests}")

    def _node(self, name: str, settings: dict[str, object]) -> SynapNode:
        folder = self._folder / name
        folder.mkdir()
        return SynapNode(folder, "periodic", settings)


def _lags(folder: Path, settings: Settings) -> list[tuple[str, ...]]:
    rows = []
    with _Cluster(folder, _REPLICAS, {"server.workers": 1}) as cluster:
        for rate, batch in _LOADS:
            lags, written = _lags_under_load(cluster, rate, batch, settings)
            cuts = statistics.quantiles(lags, n=100)
            per_second = written / (settings.rounds * settings.seconds)
            what = f"lag at {rate:,} entries/s ({per_second:,.0f} came about)"
            for percent, goal in ((50, ""), (95, "10"), (99, "")):
                value = cuts[percent - 1] * 1000
                rows.append((f"{what}, p{percent}, ms", f"{value:.2f}", goal))
        cluster.await_equal()
    return rows


def _lags_under_load(
    cluster: _Cluster, rate: int, batch: int, settings: Settings
) -> tuple[list[float], int]:
    lags: list[float] = []
    written = 0
    for _ in range(settings.rounds):
        with _Probe(cluster) as probe:
            written += _paced(cluster.master.url, rate, batch, settings.seconds)
        lags += probe.lags()
    return lags, written


def _paced(url: str, rate: int, batch: int, seconds: int) -> int:
    command = [sys.executable, "-m", "ops.bench.paced", url, *map(str, (rate, batch, seconds))]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if finished.returncode:
        raise MeasurementFailed(f"the load failed: {finished.stderr.strip()[-300:]}")
    return int(finished.stdout)


class _Probe:
    """Writes now and then, and asks one replica after the other for what was written."""

    def __init__(self, cluster: _Cluster) -> None:
        self._cluster = cluster
        self._lags: list[float] = []
        self._fault = ""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def lags(self) -> list[float]:
        """Return what was measured, in seconds; MeasurementFailed where an answer was wrong."""
        if self._fault or len(self._lags) < 2:
            raise MeasurementFailed(self._fault or "no lag was measured")
        return self._lags

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                nodes = [self._cluster.master, *self._cluster.replicas]
                master, *replicas = (stack.enter_context(Client(node.url)) for node in nodes)
                number = 0
                while not self._is_over.wait(_PROBE_PAUSE_SECONDS):
                    number += 1
                    replica = replicas[number % len(replicas)]
                    self._lags.append(_visible_after(master, replica, str(number)))
        except FAULTS as error:
            self._fault = str(error)


def _visible_after(master: Client, replica: Client, value: str) -> float:
    answer = master.send("POST", "/kv/set", {"key": "probe", "value": value})
    answered = time.perf_counter()
    if answer.status != 200:
        raise MeasurementFailed(f"a probe was answered by {answer.status}")
    offset = {"X-Synap-Min-Offset": answer.headers["X-Synap-Offset"]}
    read = replica.request("GET", "/kv/get/probe", headers=offset)
    took = time.perf_counter() - answered
    if read.status != 200 or json.loads(read.body) != value:
        raise MeasurementFailed(f"a replica answered {read.status} {read.body[:100]!r} to a probe")
    return took


def _digests(folder: Path, settings: Settings) -> list[tuple[str, ...]]:
    keys = settings.stored
    with _Cluster(folder, _REPLICAS, {"server.workers": 1}) as cluster:
        began = time.monotonic()
        fill(cluster.master, 0, keys)
        cluster.await_equal()
        took = time.monotonic() - began
    frames = f"{keys:,} entries in frames of {PAIRS_A_REQUEST}"
    name = f"entries/s until {_REPLICAS} digests match, {frames}"
    return [(name, f"{keys / took:,.0f}", "")]


def _resync(folder: Path, settings: Settings) -> list[tuple[str, ...]]:
    keys = settings.stored
    with _Cluster(folder, 0, dict(_CUT_LOG)) as cluster:
        fill(cluster.master, 0, keys)
        _await(lambda: _cuts_log(cluster.master), "the log is not cut after the snapshot")
        times = []
        for _ in range(settings.rounds):
            began = time.monotonic()
            replica = cluster.add_replica()
            _await(lambda r=replica: _offset(r) >= keys, "a replica does not get there")
            times.append(time.monotonic() - began)
            cluster.await_equal()
            replica.kill()
            cluster.replicas.clear()
    return [(f"full resync of {keys:,} keys, s", f"{statistics.median(times):.2f}", "15")]


def _cuts_log(master: SynapNode) -> bool:
    master.write([("another", "v")])
    master.snapshot()
    return bool(_get(master, "/stats")["persistence"]["wal_first_offset"] > 1)


def _await(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise MeasurementFailed(otherwise)
        time.sleep(0.01)


def _offset(replica: SynapNode) -> int:
    return int(_get(replica, "/health/replication")["local_offset"])


def _get(node: SynapNode, path: str) -> dict[str, Any]:
    with Client(node.url, timeout_seconds=120) as client:
        return dict(client.get(path))
