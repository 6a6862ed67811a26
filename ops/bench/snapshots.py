"""What a snapshot of a large store takes, and what it costs the writes that go on meanwhile."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

from ops.bench.data import FAULTS, fill
from ops.bench.errors import MeasurementFailed
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode
from ops.bench.wrk import Load, Outcome, measure

TITLE = "Snapshots"
HEADER = ("", "alone", "during snapshots", "ratio")
_SETTINGS = {"persistence.snapshot.enabled": False, "persistence.snapshot.max_snapshots": 2}


class _SnapshotAfterSnapshot:
    """Takes one snapshot after the other, as long as the block lasts.

    Attributes:
        seconds: How long each of them took.
    """

    def __init__(self, node: SynapNode) -> None:
        self.seconds: list[float] = []
        self._node = node
        self._fault = ""
        self._should_stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _SnapshotAfterSnapshot:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._should_stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise MeasurementFailed where a snapshot failed or none was taken."""
        if self._fault or not self.seconds:
            raise MeasurementFailed(self._fault or "no snapshot was taken meanwhile")

    def _run(self) -> None:
        while not self._should_stop.is_set():
            began = time.monotonic()
            try:
                self._node.snapshot()
            except FAULTS as error:
                self._fault = str(error)
                return
            self.seconds.append(time.monotonic() - began)


def run(settings: Settings) -> Section:
    """Measure a snapshot alone, and rounds of writes with and without snapshots in turns."""
    rows: list[tuple[str, ...]] = []
    faults = []
    with tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as name:
        try:
            with SynapNode(Path(name), "periodic", _SETTINGS) as node:
                fill(node, 0, settings.stored)
                began = time.monotonic()
                node.snapshot()
                rows = _rows(node, settings, time.monotonic() - began)
        except FAULTS as error:
            faults.append(str(error))
    text = (
        f"{settings.stored:,} keys with values of 64 bytes. Writes are SETs of random keys by wrk "
        f"with 1 thread and {settings.connections} connections, the log synced every second; "
        f"medians of {settings.rounds} rounds of {settings.seconds} s with and without snapshots "
        "in turns. During a round with them, one snapshot is taken after the other. The goal is a "
        "p99 of no more than twice the one without."
    )
    return Section(TITLE, text, HEADER, rows, faults)


def _rows(node: SynapNode, settings: Settings, alone_seconds: float) -> list[tuple[str, ...]]:
    without, during, seconds = [], [], []
    for number in range(settings.rounds):
        without.append(_write(node, settings, f"a{number}"))
        with _SnapshotAfterSnapshot(node) as snapshots:
            during.append(_write(node, settings, f"b{number}"))
        snapshots.check()
        seconds += snapshots.seconds

    def row(name: str, figures: tuple[list[float], list[float]], form: str) -> tuple[str, ...]:
        before, meanwhile = map(statistics.median, figures)
        return name, format(before, form), format(meanwhile, form), f"{meanwhile / before:.2f}"

    p50 = [outcome.p50_us / 1000 for outcome in without], [o.p50_us / 1000 for o in during]
    p99 = [outcome.p99_us / 1000 for outcome in without], [o.p99_us / 1000 for o in during]
    rate = [outcome.per_second for outcome in without], [o.per_second for o in during]
    return [
        row("snapshot, s", ([alone_seconds], seconds), ".2f"),
        row("SET p50, ms", p50, ".2f"),
        row("SET p99, ms", p99, ".2f"),
        row("SETs a second", rate, ",.0f"),
    ]


def _write(node: SynapNode, settings: Settings, tag: str) -> Outcome:
    load = Load("synap", "set", settings.stored, settings.connections, tag)
    return measure(node.url, load, settings.seconds)
