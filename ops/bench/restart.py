"""Seconds from a node's start until it is healthy, with a large store in different conditions.

Each time counts the start of all processes, up to the first 200 of `/health`, and the node is then
asked for samples of what it held.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.bench.data import FAULTS, check_samples, fill
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode

TITLE = "Restart and recovery"
HEADER = ("", "until healthy, s", "goal, s")
# Snapshots come when they are asked for, so that the log that is replayed is of a known length.
_SETTINGS = {"persistence.snapshot.enabled": False}
# Of the keys, those that the snapshot lacks.
_BEHIND_SNAPSHOT = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is done to a stopped node's data before it is started."""

    name: str
    goal: str
    damage: Callable[[Path], None]


def run(settings: Settings) -> Section:
    """Measure every row."""
    keys = settings.stored
    behind = int(keys * _BEHIND_SNAPSHOT)
    rows = (
        Row(f"after kill -9, {keys:,} keys", "3", lambda _: None),
        Row(
            f"live store lost: snapshot of {keys - behind:,} keys, {behind:,} entries of the log",
            "15",
            _lose_store,
        ),
        Row(f"live store and snapshots lost: {keys:,} entries of the log", "5", _lose_snapshots),
    )
    cells, faults = [], []
    with tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as name:
        node = SynapNode(Path(name), "periodic", _SETTINGS)
        try:
            with node:
                fill(node, 0, keys - behind)
                node.snapshot()
                fill(node, keys - behind, keys)
                node.kill()
            for row in rows:
                times = [_measure(node, row, keys) for _ in range(settings.rounds)]
                cells.append((row.name, f"{statistics.median(times):.2f}", row.goal))
        except FAULTS as error:
            faults.append(str(error))
    text = (
        "One node with values of 64 bytes, killed with -9 under no load and started again; medians "
        f"of {settings.rounds}. The entries of the log stand in frames of 50."
    )
    return Section(TITLE, text, HEADER, cells, faults)


def _measure(node: SynapNode, row: Row, keys: int) -> float:
    row.damage(node.data_dir)
    began = time.monotonic()
    with node:
        took = time.monotonic() - began
        check_samples(node, keys)
        node.kill()
    return took


def _lose_store(data_dir: Path) -> None:
    shutil.rmtree(data_dir / "store")


def _lose_snapshots(data_dir: Path) -> None:
    _lose_store(data_dir)
    shutil.rmtree(data_dir / "snapshots")
