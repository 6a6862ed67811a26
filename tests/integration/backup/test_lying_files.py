"""Backups, snapshots, segments and exports that somebody made to deceive whoever reads them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from synap.backup.archive import _HEAD, END_MAGIC, read_manifest
from synap.backup.restore import restore
from synap.errors import BackupError, BackupInvalid, DataDirUnusable, SnapshotInvalid
from synap.repair.inspection import inspect
from synap.snapshot.folder import read_manifest as read_snapshot_manifest
from synap.snapshot.image import write_snapshot
from synap.wal.walk import check_log
from tests.integration.node_dirs import START_MS, open_node, save_backup, write
from tests.support import rewrite_json
from workers.cli.exports import ExportInvalid, check_export


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data directory that has a snapshot, and a backup of it."""
    folder = tmp_path_factory.mktemp("kept")
    with open_node(folder / "node") as data_dir:
        write(data_dir, ["a", "b"])
        save_backup(data_dir, folder / "node", folder / "true.backup")
        write_snapshot(
            data_dir.store.reader(), folder / "node" / "snapshots", data_dir.lineage,
            compress=False, now_ms=START_MS,
        )  # fmt: skip
    return folder


def forged(kept: Path, path: Path, image: bytes | None = None, **changes: Any) -> Path:
    """Write the backup with another manifest or image, and all sums as they must be."""
    content = (kept / "true.backup").read_bytes()
    magic, version, length = _HEAD.unpack(content[: _HEAD.size])
    begin = _HEAD.size + length
    fields = json.loads(content[_HEAD.size : begin])
    body = content[begin : begin + fields["bytes"]] if image is None else image
    fields |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} | changes
    manifest = json.dumps(fields).encode()
    head = _HEAD.pack(magic, version, len(manifest)) + manifest
    path.write_bytes(head + body + END_MAGIC + hashlib.sha256(head + body).digest())
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lineage": [[n, "00" * 16, n] for n in range(1, 20_000)]}, "lineage has 19999 reigns"),
        ({"role": "../../etc"}, "role is '../../etc'"),
        ({"time_ms": -1}, "time_ms is -1"),
        ({"keys": -1}, "keys is -1"),
        ({"digest": "x"}, "digest is not 64 digits"),
    ],
)
def test_backup_whose_manifest_lies_is_refused_by_field(
    kept: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    lying = forged(kept, tmp_path / "lying.backup", **changes)
    with pytest.raises(BackupInvalid, match=words):
        restore(lying, tmp_path / "restored", now_ms=START_MS)
    with pytest.raises(BackupInvalid, match=words):
        inspect(lying)
    assert not (tmp_path / "restored").exists()


def test_inspect_of_a_backup_whose_image_is_rubbish_says_so(kept: Path, tmp_path: Path) -> None:
    lying = forged(kept, tmp_path / "lying.backup", image=b"rubbish" * 4096)
    with pytest.raises(BackupInvalid, match="its image is no sound store"):
        inspect(lying)


def test_inspect_of_a_backup_that_counts_wrongly_says_so(kept: Path, tmp_path: Path) -> None:
    keys = read_manifest(kept / "true.backup").keys + 1
    lying = forged(kept, tmp_path / "lying.backup", keys=keys)
    with pytest.raises(BackupInvalid, match=f"its manifest says .* and {keys}"):
        inspect(lying)


def test_inspect_of_a_directory_says_which_snapshot_is_rubbish(kept: Path, tmp_path: Path) -> None:
    (image,) = (kept / "node" / "snapshots").glob("*.bin")
    sound = image.read_bytes()
    assert inspect(kept / "node").is_sound
    try:
        image.write_bytes(b"rubbish")
        found = inspect(kept / "node")
    finally:
        image.write_bytes(sound)
    assert not found.is_sound
    (words,) = next(fact.value for fact in found.facts if fact.name == "snapshots")  # type: ignore[misc]
    assert "it has 7 bytes" in str(words)


def test_snapshot_whose_manifest_lies_is_refused_by_field(kept: Path, tmp_path: Path) -> None:
    (image,) = (kept / "node" / "snapshots").glob("*.bin")
    copy = tmp_path / image.name
    copy.write_bytes(image.read_bytes())
    manifest = image.with_suffix(".json")
    copy.with_suffix(".json").write_bytes(manifest.read_bytes())
    rewrite_json(copy.with_suffix(".json"), time_ms=-7)
    with pytest.raises(SnapshotInvalid, match="time_ms is -7"):
        read_snapshot_manifest(copy)


def test_pipe_in_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BackupError, match="is no file"):
        inspect(pipe)
    with pytest.raises(BackupError, match="is no file"):
        restore(pipe, tmp_path / "restored", now_ms=START_MS)
    with pytest.raises(ExportInvalid, match="is no file"):
        check_export(pipe)


def test_link_in_place_of_a_segment_is_refused(kept: Path, tmp_path: Path) -> None:
    (segment,) = (kept / "node" / "wal").glob("synap-*.wal")
    (tmp_path / segment.name).symlink_to(segment)
    with pytest.raises(DataDirUnusable, match="is a symbolic link"):
        check_log(tmp_path)


def test_import_of_a_file_without_line_ends_is_refused_early(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(64 * 1024 * 1024 * 1024)
    with pytest.raises(ExportInvalid, match="its first line has no end"):
        check_export(endless)
