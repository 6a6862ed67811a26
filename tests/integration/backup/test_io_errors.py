"""The k-th file call of a restore fails, for every k: no data directory, or a whole one."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from synap.backup.restore import Target, restore
from synap.disk import DISK, Files
from synap.errors import DiskFull, RestoreRefused, SnapshotError, StoreError, StoreUnusable
from tests.disks import small_disk
from tests.integration.failing_disk import every_disk, every_failure
from tests.integration.kth_call import FOR_GOOD
from tests.integration.node_dirs import START_MS, digest_of, open_node, save_backup, write

REFUSED = (DiskFull, SnapshotError, StoreError, StoreUnusable)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder of a node with a backup at offset 1 and a frame of three entries behind it."""
    folder = tmp_path / "source"
    with open_node(folder) as data_dir:
        write(data_dir, ["first"])
        save_backup(data_dir, folder, tmp_path / "backup")
        write(data_dir, ["second"])
        write(data_dir, ["a", "b", "c"])
    return folder


def restore_to(data_dir: Path, source: Path, files: Files = DISK) -> None:
    """Restore to an offset inside the last frame, so that every kind of file is written."""
    restore(
        source.parent / "backup", data_dir, now_ms=START_MS, wal_dir=source / "wal",
        target=Target(offset=4), files=files,
    )  # fmt: skip


@every_failure
def test_restore_with_the_kth_call_failing_leaves_nothing_or_all(
    source: Path, tmp_path: Path, error: int, length: str
) -> None:
    for number, files in every_disk(error, length, at_least=30):
        folder = tmp_path / f"try {number}"
        folder.mkdir()
        data_dir = folder / "data"
        with suppress(*REFUSED):
            restore_to(data_dir, source, files)
        if not data_dir.exists():
            restore_to(data_dir, source)
        assert os.listdir(folder) == ["data"], files.failed
        assert digest_of(data_dir)[:2] == (4, 4), files.failed


@every_failure
def test_restore_to_a_volume_with_the_kth_call_failing_leaves_nothing_or_all(
    source: Path, tmp_path: Path, error: int, length: str
) -> None:
    for _, files in every_disk(error, length, at_least=30):
        with small_disk(tmp_path / "volume", 64 * 1024 * 1024) as data_dir:
            with suppress(*REFUSED):
                restore_to(data_dir, source, files)
            check_volume(data_dir, source, length)
        data_dir.rmdir()


def check_volume(data_dir: Path, source: Path, length: str) -> None:
    """Check that the volume holds a whole data directory, or can be restored to."""
    is_left = {"wal", "snapshots"} & set(os.listdir(data_dir))
    if not (data_dir / "node.json").exists():
        if is_left and length == FOR_GOOD:
            # What could not be taken back is named; without node.json no node takes it for its own.
            with pytest.raises(RestoreRefused, match="holds"):
                restore_to(data_dir, source)
            return
        restore_to(data_dir, source)
    # The root of a volume stays, and with it a folder of work that could not be removed.
    held = {name for name in os.listdir(data_dir) if ".restoring-" not in name}
    assert held == {"node.json", "snapshots", "wal"}
    assert digest_of(data_dir)[:2] == (4, 4)


def test_restore_leaves_the_work_of_one_that_runs_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    running, dead = (tmp_path / "into" / f".data.restoring-{pid}" for pid in (1, 2))
    for folder in (running, dead):
        folder.mkdir()
    lock = os.open(running, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        restore_to(tmp_path / "into" / "data", source)
    finally:
        os.close(lock)
    assert sorted(os.listdir(tmp_path / "into")) == [running.name, "data"]
