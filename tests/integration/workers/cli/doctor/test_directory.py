"""What `synap doctor` finds in a data directory and in a folder of backups."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from synap.node.paths import NodePaths
from synap.wal.segment import SEGMENT_HEADER_BYTES
from tests.integration.node_dirs import START_MS, node_config, open_node, save_backup, write
from tests.support import rewrite_json
from workers.cli.doctor.directory import backup_findings, directory_findings
from workers.cli.doctor.findings import Finding

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data directory that was closed, and a backup of it."""
    folder = tmp_path_factory.mktemp("kept")
    with open_node(folder / "data") as data_dir:
        for number in range(3):
            write(data_dir, [f"key:{number}"])
        (folder / "backups").mkdir()
        save_backup(data_dir, folder / "data", folder / "backups" / "one.backup")
    # As the processes of a node make it.
    (folder / "data" / "node.json").chmod(0o600)
    return folder


@pytest.fixture
def data(kept: Path, tmp_path: Path) -> Path:
    # In place, the store's marker would tell that it is a copy.
    shutil.copytree(kept / "data", tmp_path / "data", symlinks=True)
    shutil.rmtree(tmp_path / "data" / "store")
    return tmp_path / "data"


def found(folder: Path) -> list[Finding]:
    paths = NodePaths.of(node_config(folder))
    return list(directory_findings(paths, is_running=False, now_ms=START_MS))


def test_sound_directory_has_no_findings(kept: Path) -> None:
    assert [each.sentence for each in found(kept / "data") if "disk left" not in each.what] == []


def damage_log(folder: Path) -> None:
    (segment,) = (folder / "wal").glob("synap-*.wal")
    content = bytearray(segment.read_bytes())
    content[SEGMENT_HEADER_BYTES + 8] ^= 1
    segment.write_bytes(content)


def lose_identity(folder: Path) -> None:
    (folder / "node.json").unlink()


def break_identity(folder: Path) -> None:
    (folder / "node.json").write_text("{}")


def fence(folder: Path) -> None:
    rewrite_json(folder / "node.json", ended_by_epoch=7)


def open_to_all(folder: Path) -> None:
    (folder / "node.json").chmod(0o644)


def put_aside(folder: Path) -> None:
    (folder / "diverged" / "1").mkdir(parents=True)


def link_segment(folder: Path) -> None:
    (segment,) = (folder / "wal").glob("synap-*.wal")
    segment.rename(folder / "elsewhere")
    segment.symlink_to(folder / "elsewhere")


def damage_manifest(folder: Path) -> None:
    path = folder / "snapshots" / "snapshot_00000000000000000003.bin"
    path.write_bytes(b"x")
    path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage_log, "is damaged at byte"),
        (lose_identity, "is missing, and there is a log beside it"),
        (break_identity, "is damaged"),
        (fence, "epoch 7 took its place"),
        (open_to_all, "holds what others may use: node.json"),
        (put_aside, "keeps entries that its master's log lacks, as 1: "),
        (link_segment, "has links in place of segments: wal/synap-"),
        (damage_manifest, "its manifest is damaged"),
    ],
)
def test_harm_to_a_directory_is_told(data: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(data)
    told = [each for each in found(data) if words in each.sentence]
    assert len(told) == 1
    assert told[0].remedy


def test_directory_that_is_none_is_told(tmp_path: Path) -> None:
    (told,) = found(tmp_path / "none")
    assert told.what == "is no directory"


@pytest.mark.parametrize(("hours", "words"), [(1, ""), (30, "is the newest backup, 30 h old")])
def test_newest_backup_is_told_where_it_is_old(kept: Path, hours: int, words: str) -> None:
    told = backup_findings(kept / "backups", START_MS + hours * HOUR_MS)
    assert "".join(each.what for each in told) == words


def test_damaged_and_missing_backups_are_told(kept: Path, tmp_path: Path) -> None:
    (none,) = backup_findings(tmp_path, START_MS)
    assert none.what == "holds no backup"
    whole = (kept / "backups" / "one.backup").read_bytes()
    (tmp_path / "cut.backup").write_bytes(whole[:-1])
    (told,) = backup_findings(tmp_path, START_MS)
    assert "cut.backup" in told.sentence
