"""The k-th file call of a snapshot fails, for every k: the old set or the new one, each whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from synap.disk import DISK, Files
from synap.errors import DiskFull, SnapshotError
from synap.position import Position, Reign
from synap.snapshot.folder import (
    ReceivedImage,
    clear_leftovers,
    prune,
    read_manifest,
    snapshot_path,
    snapshots,
)
from synap.snapshot.image import put_in_place, verify_snapshot, write_snapshot
from synap.store import Applied, Store
from tests.integration.failing_disk import every_disk, every_failure

LINEAGE = (Reign(1, b"first history id", 1),)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store", 1 << 28)
    fill(store, 10)
    return store


def fill(store: Store, count: int) -> None:
    offset = store.applied.position.offset
    transaction = store.begin()
    for number in range(count):
        transaction.put(b"key %d" % (offset + number), b"value", 0)
    offset += count
    transaction.set_applied(Applied(Position(1, offset, offset), 1, 68, 99, b"first history id"))
    transaction.commit()


def take(store: Store, folder: Path, files: Files = DISK, *, compress: bool = False) -> None:
    write_snapshot(store.reader(), folder, LINEAGE, compress=compress, now_ms=1, files=files)


def names_left(folder: Path) -> list[int]:
    """Clear the folder as a start does; return the offsets of its snapshots, which are whole."""
    clear_leftovers(folder)
    found = snapshots(folder)
    for path, _ in found:
        verify_snapshot(path)
    assert len(os.listdir(folder)) == 2 * len(found)
    return [manifest.position.offset for _, manifest in found]


@every_failure
@pytest.mark.parametrize("compress", [False, True])
def test_snapshot_with_the_kth_call_failing_leaves_the_old_set_or_the_new_one(
    store: Store, tmp_path: Path, error: int, length: str, compress: bool
) -> None:
    take(store, tmp_path)
    first = [snapshot_path(tmp_path, 10), snapshot_path(tmp_path, 10).with_suffix(".json")]
    fill(store, 10)
    for number, files in every_disk(error, length, at_least=9):
        folder = tmp_path / f"try {number}"
        folder.mkdir()
        for path in first:
            shutil.copy(path, folder)
        with suppress(DiskFull, SnapshotError, OSError):
            take(store, folder, files, compress=compress)
            prune(folder, 1, files)
        assert names_left(folder) in ([10], [20, 10], [20]), files.failed


@every_failure
def test_snapshot_of_an_offset_that_has_one_never_costs_both(
    store: Store, tmp_path: Path, error: int, length: str
) -> None:
    for number, files in every_disk(error, length, at_least=6):
        folder = tmp_path / f"try {number}"
        folder.mkdir()
        take(store, folder, compress=True)
        with suppress(DiskFull, SnapshotError):
            take(store, folder, files)
        assert names_left(folder) == [10], files.failed


@every_failure
def test_received_image_with_the_kth_call_failing_is_there_whole_or_not(
    store: Store, tmp_path: Path, error: int, length: str
) -> None:
    take(store, tmp_path)
    path = snapshot_path(tmp_path, 10)
    manifest, content = read_manifest(path), path.read_bytes()
    for number, files in every_disk(error, length, at_least=6):
        folder = tmp_path / f"try {number}"
        folder.mkdir()
        with suppress(OSError):
            image = ReceivedImage(folder, len(content), files)
            try:
                image.write(0, content)
                image.sync()
                put_in_place(image.path, manifest, files)
            finally:
                image.close()
        assert names_left(folder) in ([], [10]), files.failed
