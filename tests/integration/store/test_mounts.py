"""The mount of a store, on file systems of the test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from synap.store import Store, is_trusted, mounts
from synap.store.mounts import mount_of
from tests.disks import small_disk
from tests.support import rewrite_json

MAP_BYTES = 16 * 1024 * 1024
BOOT = "boot-1"


def stop(root: Path, *, clean: bool) -> None:
    Store.create(root, MAP_BYTES).close(clean=True)
    Store.open(root, MAP_BYTES, BOOT).close(clean=clean)


def test_mount_of_a_bound_folder_is_another_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024 * 1024) as disk:
        bound = tmp_path / "bound"
        bound.mkdir()
        subprocess.run(["mount", "--bind", str(disk), str(bound)], check=True)
        try:
            assert os.stat(disk).st_dev == os.stat(bound).st_dev
            assert mount_of(disk) != mount_of(bound)
        finally:
            subprocess.run(["umount", str(bound)], check=True)


def test_mount_that_only_moved_is_the_same(tmp_path: Path) -> None:
    place = tmp_path / "moved"
    place.mkdir()
    with small_disk(tmp_path / "disk", 1024 * 1024) as disk:
        before = mount_of(disk)
        subprocess.run(["mount", "--move", str(disk), str(place)], check=True)
        try:
            assert mount_of(place) == before
        finally:
            subprocess.run(["mount", "--move", str(place), str(disk)], check=True)


@pytest.mark.parametrize("clean", [True, False])
def test_store_that_was_mounted_anew_is_trusted_after_a_clean_stop_only(
    tmp_path: Path, clean: bool
) -> None:
    with small_disk(tmp_path / "disk", 4 * 1024 * 1024) as disk:
        stop(disk, clean=clean)
        assert is_trusted(disk, BOOT)[0]
        # A bind mount is a mount too, of the same device, inode and times.
        subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
        try:
            trusted, why = is_trusted(disk, BOOT)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    assert trusted == clean
    assert clean or "mounted anew" in why


def test_marker_without_a_mount_is_taken(tmp_path: Path) -> None:
    """As versions before wrote it."""
    stop(tmp_path, clean=False)
    rewrite_json(tmp_path / "00000001" / "marker.json", mount="")
    assert is_trusted(tmp_path, BOOT)[0]


def test_mount_of_an_old_kernel_is_the_listed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "_asked", lambda path, mask: None)
    with small_disk(tmp_path / "disk", 1024 * 1024) as disk:
        first = mount_of(disk)
        assert first.startswith("listed ")
        with small_disk(tmp_path / "other", 1024 * 1024) as other:
            assert mount_of(other) != first
