"""The engine that takes snapshots, on a real log and with a real process."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synap.config import Config, load_config
from synap.log import Log
from synap.node import Node
from synap.paths import NodePaths
from synap.snapshotter import Snapshotter

COMMAND = (sys.executable, "-P", "-m", "workers.snapshot")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.getcwd()}
SLOW_START_SECONDS = 0.3


class Bench:
    """A log and its snapshots."""

    def __init__(self, folder: Path) -> None:
        self.config: Config = load_config(None, {"data_dir": str(folder / "data")}, environ={})
        self.paths = NodePaths.of(self.config)
        self.paths.create()
        node = Node.load_or_create(self.config, self.paths)
        self.log = Log.open(self.config, self.paths, node, on_sync_failure=pytest.fail)

    def snapshotter(self, command: tuple[str, ...] = COMMAND) -> Snapshotter:
        return Snapshotter(self.config, self.paths, self.log, command, ENVIRONMENT)

    def set(self, key: bytes, value: bytes = b"value") -> int:
        """Log one entry and return its offset."""
        transaction = self.log.store.begin()
        transaction.put(key, value, 0)
        self.log.commit(transaction, time.time_ns() // 1_000_000)
        return self.log.position.offset


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    bench = Bench(tmp_path)
    yield bench
    bench.log.close(clean=False)


def test_facts_seconds_are_the_snapshot_and_not_the_start_of_its_process(bench: Bench) -> None:
    """So the rest after it follows the store's size; a loaded machine starts processes slowly."""
    slow = ("sh", "-c", f'sleep {SLOW_START_SECONDS}; exec "$@"', "sh", *COMMAND)
    snapshotter = bench.snapshotter(slow)
    offset = bench.set(b"key")
    began = time.monotonic()
    asyncio.run(snapshotter.take())
    elapsed = time.monotonic() - began
    facts = snapshotter.facts()
    assert facts.last_offset == offset
    assert 0 < facts.last_seconds <= elapsed - SLOW_START_SECONDS
