"""Backups, and the data directories that are made of them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from synap.backup.archive import Backup, read_manifest, take_backup, verify_backup
from synap.backup.restore import Restored, Target, restore
from synap.errors import BackupInvalid, DiskFull, RestoreRefused, SnapshotInvalid
from synap.node.identity import read_identity
from synap.repair.inspection import inspect
from synap.snapshot.folder import snapshots
from synap.snapshot.image import write_snapshot
from synap.store import ImageFacts
from tests.integration.node_dirs import START_MS, digest_of, open_node, save_backup, write

MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


class Saved:
    """A node that was backed up at offset 3 and wrote on.

    Offsets 4 to 6 are one frame, a minute later; 7 and 8 are frames of their own, at two and three.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "node"
        self.wal = self.folder / "wal"
        self.digests: dict[int, tuple[int, int, str]] = {}
        with open_node(self.folder) as log:
            for number in range(3):
                write(log, [f"before{number}"])
            self.digests[3] = log.store.reader().digest()
            self.backup = save_backup(log, self.folder, folder / "three.backup")
            for minute, keys in enumerate((["a", "b", "c"], ["before0"], ["last"]), 1):
                offset = write(log, keys, b"later", START_MS + minute * MINUTE_MS)
                self.digests[offset] = log.store.reader().digest()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return Saved(tmp_path)


def restore_to(saved: Saved, data_dir: Path, **target: int) -> Restored:
    return restore(
        saved.backup, data_dir, now_ms=START_MS, wal_dir=saved.wal, target=Target(**target)
    )


def test_backup_names_position_keys_and_digest_of_its_own_image(saved: Saved) -> None:
    manifest, _ = verify_backup(saved.backup)
    offset, keys, digest = saved.digests[3]
    assert (manifest.position.offset, manifest.keys, manifest.digest) == (offset, keys, digest)
    assert manifest.lineage == read_identity(saved.folder / "node.json").lineage


def test_backup_leaves_no_file_behind_while_it_is_read(tmp_path: Path) -> None:
    with open_node(tmp_path / "node") as log:
        write(log, ["a"])
        folder = tmp_path / "node" / "snapshots"
        node_file = tmp_path / "node" / "node.json"
        backup = take_backup(log.store.reader(), folder, node_file, "name", START_MS, None)
        assert list(folder.iterdir()) == []
        backup.close()


def test_backup_closed_gives_back_the_room_and_reads_no_more(tmp_path: Path) -> None:
    backup = _backup_of_empty_node(tmp_path)
    backup.next_chunk()
    backup.close()
    with pytest.raises(ValueError, match="closed"):
        backup.next_chunk()


def _backup_of_empty_node(tmp_path: Path) -> Backup:
    folder = tmp_path / "node"
    with open_node(folder) as log:
        return take_backup(
            log.store.reader(), folder / "snapshots", folder / "node.json", "name", START_MS, None
        )


class FullDisk:
    """A store whose copy finds no room."""

    def used_bytes(self) -> int:
        return 0

    def copy_to(self, file: int) -> ImageFacts:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_backup_without_room_for_the_copy_says_disk_full(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        take_backup(FullDisk(), tmp_path, tmp_path / "node.json", "name", START_MS, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [0, 9, 20, 400, 600, 5000, -41, -33, -1])
def test_backup_with_a_flipped_bit_is_refused(saved: Saved, where: int) -> None:
    content = bytearray(saved.backup.read_bytes())
    content[where] ^= 1
    saved.backup.write_bytes(content)
    with pytest.raises(BackupInvalid):
        verify_backup(saved.backup)


@pytest.mark.parametrize("length", [0, 7, 16, 300, 5000, -1])
def test_backup_that_is_cut_off_is_refused_by_its_length(saved: Saved, length: int) -> None:
    saved.backup.write_bytes(saved.backup.read_bytes()[:length])
    with pytest.raises(BackupInvalid):
        read_manifest(saved.backup)


def test_restore_of_a_backup_has_its_digest_and_a_new_epoch(saved: Saved, tmp_path: Path) -> None:
    restored = restore(saved.backup, tmp_path / "data", now_ms=START_MS)
    before = read_identity(saved.folder / "node.json")
    after = read_identity(tmp_path / "data" / "node.json")
    assert after.id != before.id
    assert after.lineage[:-1] == before.lineage
    assert after.lineage[-1] == restored.reign
    assert (restored.reign.epoch, restored.reign.first_offset) == (2, 4)
    assert digest_of(tmp_path / "data") == saved.digests[3]


def test_restored_node_takes_writes_behind_the_offset(saved: Saved, tmp_path: Path) -> None:
    restore(saved.backup, tmp_path / "data", now_ms=START_MS)
    with open_node(tmp_path / "data") as log:
        assert write(log, ["new"]) == 4
    assert digest_of(tmp_path / "data")[:2] == (4, 4)


def test_restore_of_an_empty_nodes_backup_is_an_empty_node(tmp_path: Path) -> None:
    with open_node(tmp_path / "node") as log:
        path = save_backup(log, tmp_path / "node", tmp_path / "empty.backup")
    restore(path, tmp_path / "data", now_ms=START_MS)
    assert digest_of(tmp_path / "data")[:2] == (0, 0)


def test_restore_of_a_damaged_backup_is_refused_and_leaves_nothing(
    saved: Saved, tmp_path: Path
) -> None:
    content = bytearray(saved.backup.read_bytes())
    content[-100] ^= 1
    saved.backup.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BackupInvalid):
        restore(saved.backup, tmp_path / "data", now_ms=START_MS)
    assert sorted(tmp_path.iterdir()) == before


def test_restore_into_a_directory_with_something_in_it_names_that(
    saved: Saved, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").touch()
    with pytest.raises(RestoreRefused, match=r"it holds notes\.txt"):
        restore(saved.backup, tmp_path / "data", now_ms=START_MS)


@pytest.mark.parametrize("compress", [False, True])
def test_restore_of_a_snapshot_has_its_state(tmp_path: Path, compress: bool) -> None:
    folder = tmp_path / "node"
    with open_node(folder) as log:
        write(log, ["a", "b"])
        reader, lineage = log.store.reader(), log.lineage
        write_snapshot(reader, tmp_path, lineage, compress=compress, now_ms=START_MS)
        expected = reader.digest()
    path = snapshots(tmp_path)[0][0]
    restore(path, tmp_path / "data", now_ms=START_MS)
    assert digest_of(tmp_path / "data") == expected


def test_restore_of_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    with open_node(tmp_path / "node") as log:
        write(log, ["a"])
        write_snapshot(log.store.reader(), tmp_path, log.lineage, compress=False, now_ms=START_MS)
    path = snapshots(tmp_path)[0][0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotInvalid):
        restore(path, tmp_path / "data", now_ms=START_MS)


@pytest.mark.parametrize("offset", [3, 6, 7, 8])
def test_restore_to_an_offset_is_the_state_that_the_node_had_there(
    saved: Saved, tmp_path: Path, offset: int
) -> None:
    restored = restore_to(saved, tmp_path / "data", offset=offset)
    assert (restored.offset, restored.divided) == (offset, None)
    assert digest_of(tmp_path / "data") == saved.digests[offset]


def test_restore_with_the_whole_log_is_the_nodes_last_state(saved: Saved, tmp_path: Path) -> None:
    assert restore_to(saved, tmp_path / "data").replayed_frames == 3
    assert digest_of(tmp_path / "data") == saved.digests[8]


@pytest.mark.parametrize(
    ("after_ms", "offset"), [(0, 3), (MINUTE_MS - 1, 3), (MINUTE_MS, 6), (150_000, 7), (10**9, 8)]
)
def test_restore_to_a_time_is_the_last_state_before_it(
    saved: Saved, tmp_path: Path, after_ms: int, offset: int
) -> None:
    restored = restore_to(saved, tmp_path / "data", time_ms=START_MS + after_ms)
    assert restored.offset == offset
    assert digest_of(tmp_path / "data") == saved.digests[offset]


def test_restore_to_a_time_with_a_stamp_out_of_order_asks_for_an_offset(
    saved: Saved, tmp_path: Path
) -> None:
    """A log of before stamps were kept in order: offset 9 is a day ahead, 10 and 11 are not."""
    with open_node(saved.folder) as log:
        for key, minutes in (("ahead", 24 * 60), ("x", 4), ("y", 5)):
            log.store.applied = msgspec.structs.replace(log.store.applied, time_ms=0)
            write(log, [key], b"later", START_MS + minutes * MINUTE_MS)
    with pytest.raises(RestoreRefused, match=r"--to-offset 8, or --to-offset 11"):
        restore_to(saved, tmp_path / "data", time_ms=START_MS + 10 * MINUTE_MS)
    assert not (tmp_path / "data").exists()
    assert restore_to(saved, tmp_path / "data", time_ms=START_MS + MINUTE_MS).offset == 6


def test_restore_to_an_offset_inside_a_frame_has_the_entries_up_to_it(
    saved: Saved, tmp_path: Path
) -> None:
    restored = restore_to(saved, tmp_path / "data", offset=5)
    assert (restored.offset, restored.divided) == (5, (4, 6))
    # The old reign is not said to have written a frame that it did not.
    assert restored.reign.first_offset == 4
    with open_node(tmp_path / "data") as log:
        found, end = log.store.reader().get_many([b"a", b"b", b"c"], 0)
        assert (found, end.offset) == ([b"later", b"later", None], 5)
        assert write(log, ["new"]) == 6


def test_restore_changes_nothing_in_the_log_that_it_reads(saved: Saved, tmp_path: Path) -> None:
    segment = next(saved.wal.glob("synap-*.wal"))
    with segment.open("ab") as file:
        file.write(b"torn")
    before = segment.read_bytes()
    restored = restore_to(saved, tmp_path / "data")
    assert (restored.offset, segment.read_bytes()) == (8, before)
    assert "ends inside a write" in restored.note


def test_restore_to_an_offset_behind_the_log_says_where_that_ends(
    saved: Saved, tmp_path: Path
) -> None:
    with pytest.raises(RestoreRefused, match="ends at offset 8, before 9"):
        restore_to(saved, tmp_path / "data", offset=9)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("target", [{"offset": 2}, {"time_ms": START_MS - 1}])
def test_restore_to_before_the_image_asks_for_an_older_backup(
    saved: Saved, tmp_path: Path, target: dict[str, int]
) -> None:
    with pytest.raises(RestoreRefused, match="take an older backup"):
        restore_to(saved, tmp_path / "data", **target)


def test_restore_to_an_offset_without_a_log_is_refused(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(RestoreRefused, match="--wal"):
        restore(saved.backup, tmp_path / "data", now_ms=START_MS, target=Target(offset=4))


def test_restore_with_another_nodes_log_is_refused(saved: Saved, tmp_path: Path) -> None:
    with open_node(tmp_path / "other") as log:
        for number in range(5):
            write(log, [f"other{number}"])
    shutil.rmtree(saved.wal)
    shutil.copytree(tmp_path / "other" / "wal", saved.wal)
    with pytest.raises(RestoreRefused, match="of different nodes"):
        restore_to(saved, tmp_path / "data")


def test_restore_with_a_log_damaged_before_the_target_names_what_can_be_had(
    saved: Saved, tmp_path: Path
) -> None:
    segment = next(saved.wal.glob("synap-*.wal"))
    content = bytearray(segment.read_bytes())
    at = content.find(b"before0", 400)
    content[at] ^= 1
    segment.write_bytes(content)
    with pytest.raises(RestoreRefused, match="--to-offset 6"):
        restore_to(saved, tmp_path / "data")
    assert restore_to(saved, tmp_path / "data", offset=6).offset == 6
    assert digest_of(tmp_path / "data") == saved.digests[6]


def test_restore_across_a_new_epoch_keeps_the_lineage(saved: Saved, tmp_path: Path) -> None:
    (saved.folder / "store" / "CURRENT").unlink()
    with open_node(saved.folder) as log:
        write(log, ["of the next epoch"])
        lineage = log.lineage
    assert len(lineage) == 2
    restored = restore_to(saved, tmp_path / "data")
    assert read_identity(tmp_path / "data" / "node.json").lineage == (*lineage, restored.reign)
    assert (restored.offset, restored.reign.epoch) == (9, 3)
    assert digest_of(tmp_path / "data")[0] == 9


def test_inspect_of_a_backup_and_a_data_directory_names_their_offsets(
    saved: Saved,
) -> None:
    backup = {fact.name: fact.value for fact in inspect(saved.backup).facts}
    node = {fact.name: fact.value for fact in inspect(saved.folder).facts}
    assert (backup["offset"], backup["digest"]) == (3, saved.digests[3][2])
    assert (node["log_last_offset"], node["log_frames"]) == (8, 6)
