"""The engine that takes snapshots, on a real log and with a real process."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.errors import DiskFull, SnapshotError
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.owner.snapshotter import Snapshotter
from synap.snapshot.folder import snapshots
from tests.disks import small_disk

COMMAND = (sys.executable, "-P", "-m", "workers.snapshot")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.getcwd()}
MIB = 1024 * 1024
SLOW_START_SECONDS = 0.3


class Bench:
    """A log and its snapshots."""

    def __init__(self, folder: Path, snapshots_dir: Path, **more: str) -> None:
        settings = {
            **{key.replace("__", "."): value for key, value in more.items()},
            "data_dir": str(folder / "data"),
            "persistence.snapshot.directory": str(snapshots_dir),
        }
        self.config: Config = load_config(None, settings, environ={})
        self.paths = NodePaths.of(self.config)
        self.paths.create()
        node = Node.load_or_create(self.config, self.paths)
        self.data_dir = DataDir.open(self.config, self.paths, node, on_sync_failure=pytest.fail)

    def snapshotter(self, command: tuple[str, ...] = COMMAND) -> Snapshotter:
        return Snapshotter(self.config, self.paths, self.data_dir, command, ENVIRONMENT)

    def set(self, key: bytes, value: bytes = b"value") -> int:
        """Log one entry and return its offset."""
        transaction = self.data_dir.store.begin()
        transaction.put(key, value, 0)
        self.data_dir.commit(transaction, time.time_ns() // 1_000_000)
        return self.data_dir.position.offset


@contextmanager
def opened(folder: Path, snapshots_dir: Path) -> Iterator[Bench]:
    bench = Bench(folder, snapshots_dir)
    try:
        yield bench
    finally:
        bench.data_dir.close(clean=False)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


def test_facts_seconds_are_the_snapshot_and_not_the_start_of_its_process(tmp_path: Path) -> None:
    """So the rest after it follows the store's size; a loaded machine starts processes slowly."""
    slow = ("sh", "-c", f'sleep {SLOW_START_SECONDS}; exec "$@"', "sh", *COMMAND)
    with opened(tmp_path, tmp_path / "snapshots") as bench:
        snapshotter = bench.snapshotter(slow)
        offset = bench.set(b"key")
        began = time.monotonic()
        asyncio.run(snapshotter.take())
        elapsed = time.monotonic() - began
        facts = snapshotter.facts()
    assert facts.last_offset == offset
    assert 0 < facts.last_seconds <= elapsed - SLOW_START_SECONDS


def test_take_without_room_writes_nothing_and_says_what_it_needs(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB) as disk, opened(tmp_path, disk / "s") as bench:
        snapshotter = bench.snapshotter()
        bench.set(b"large", bytes(3 * MIB))
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2 * MIB))
        with pytest.raises(
            DiskFull, match=r"needs 3\d+ bytes, and the disk of \S+ has [12]\d+ left"
        ):
            asyncio.run(snapshotter.take())
        assert "make room" in snapshotter.facts().error
        assert list(bench.paths.snapshots_dir.iterdir()) == []
        ballast.unlink()
        offset = asyncio.run(snapshotter.take()).offset
        assert (snapshotter.facts().last_offset, snapshotter.facts().error) == (offset, "")


def test_replica_that_has_held_nothing_takes_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    empty = Bench(
        tmp_path,
        tmp_path / "snapshots",
        replication__role="replica",
        replication__master_address="127.0.0.1:1",
    )
    try:
        with pytest.raises(SnapshotError, match="has held nothing yet"):
            asyncio.run(empty.snapshotter().take())
        assert snapshots(empty.paths.snapshots_dir) == []
    finally:
        empty.data_dir.close(clean=False)
