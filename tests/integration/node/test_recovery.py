"""Opening a node's log after what can happen to it: the cases of "After a crash"."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.errors import DataDirUnusable, StoreUnusable, WalCorrupt
from synap.node.data_dir import DataDir
from synap.node.identity import Node, new_reign
from synap.node.paths import NodePaths
from synap.snapshot.folder import snapshot_path, snapshots
from synap.snapshot.image import write_snapshot
from synap.store import generations
from tests import disks
from tests.support import rewrite_json

MIB = 1024 * 1024


class Home:
    """One node's data directory, and its log opened and closed as its owner does."""

    def __init__(self, folder: Path, role: str = "standalone", **settings: object) -> None:
        self.folder = folder
        overrides = {
            "data_dir": folder,
            "replication.role": role,
            "replication.master_address": "127.0.0.1:1" if role == "replica" else None,
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        given = {key: value for key, value in overrides.items() if value is not None}
        self.config: Config = load_config(None, given, environ={})
        self.paths = NodePaths.of(self.config)

    def open(self) -> DataDir:
        self.paths.create()
        node = Node.load_or_create(self.config, self.paths)
        return DataDir.open(self.config, self.paths, node, pytest.fail)

    def fill(self, count: int, data_dir: DataDir | None = None, value: bytes = b"value") -> None:
        """Write `count` frames of one key each."""
        mine = data_dir or self.open()
        for _ in range(count):
            transaction = mine.store.begin()
            transaction.put(b"key %d" % mine.position.offset, value, 0)
            mine.commit(transaction, 1_700_000_000_000)
        if data_dir is None:
            mine.close(clean=False)

    def snapshot(self, data_dir: DataDir) -> Path:
        reader, lineage = data_dir.store.reader(), data_dir.lineage
        manifest = write_snapshot(
            reader, self.paths.snapshots_dir, lineage, compress=False, now_ms=1
        )
        return snapshot_path(self.paths.snapshots_dir, manifest.position.offset)

    def node_json(self) -> dict[str, object]:
        return json.loads(self.paths.node_file.read_text())


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "data")


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel tell another boot id from now on."""
    monkeypatch.setattr(generations, "_boot_id", lambda: "the next boot")


def lose_store(home: Home) -> None:
    shutil.rmtree(home.paths.store_dir)


def outcome(data_dir: DataDir) -> tuple[str, int, int]:
    recovery = data_dir.recovery
    return recovery.source, recovery.replayed_frames, data_dir.position.offset


def keys_in(data_dir: DataDir) -> int:
    return data_dir.store.reader().digest()[1]


def test_killed_process_on_the_same_boot_goes_on_with_its_store(home: Home) -> None:
    home.fill(5)
    data_dir = home.open()
    assert outcome(data_dir) == ("store", 0, 5)
    assert (data_dir.recovery.begun_epoch, len(data_dir.lineage)) == (0, 1)
    data_dir.close(clean=True)


@pytest.mark.parametrize("fsync_mode", ["periodic", "never"])
def test_another_boot_id_rebuilds_and_begins_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync_mode: str
) -> None:
    home = Home(tmp_path / "data", "master", persistence__wal__fsync_mode=fsync_mode)
    home.fill(5)
    reboot(monkeypatch)
    data_dir = home.open()
    assert outcome(data_dir) == ("log", 5, 5)
    reigns = [(reign.epoch, reign.first_offset) for reign in data_dir.lineage]
    assert reigns == [(1, 1), (2, 6)]
    assert (data_dir.wal.epoch, data_dir.wal.history) == (2, data_dir.lineage[-1].history)
    home.fill(1, data_dir)
    data_dir.close(clean=False)
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.lineage[-1].epoch) == (("store", 0, 6), 2)
    data_dir.close(clean=True)


def test_another_boot_id_and_a_log_without_an_entry_begin_an_epoch(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole log may be what was lost; nobody may take the next one for it."""
    home.open().close(clean=False)
    reboot(monkeypatch)
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.begun_epoch) == (("nothing", 0, 0), 2)
    reigns = [(reign.epoch, reign.first_offset) for reign in data_dir.lineage]
    assert (reigns, data_dir.wal.epoch) == ([(1, 1), (2, 1)], 2)
    assert data_dir.wal.history == data_dir.lineage[-1].history
    data_dir.close(clean=True)


def test_another_boot_id_and_no_log_at_all_is_refused_and_removes_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log lies on a disk that is not mounted, say: an empty node would hide that."""
    home.fill(5)
    elsewhere = home.folder / "elsewhere"
    home.paths.wal_dir.rename(elsewhere)
    held = sorted(home.paths.store_dir.rglob("*"))
    reboot(monkeypatch)
    with pytest.raises(StoreUnusable, match="no log"):
        home.open()
    assert sorted(home.paths.store_dir.rglob("*")) == held
    shutil.rmtree(home.paths.wal_dir)
    elsewhere.rename(home.paths.wal_dir)
    data_dir = home.open()
    assert outcome(data_dir) == ("log", 5, 5)
    data_dir.close(clean=True)


def test_replica_that_comes_up_with_nothing_has_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would say of every key that there is none."""
    home = Home(tmp_path / "data", "replica")
    data_dir = home.open()
    data_dir.adopt((new_reign(1, 1),))
    data_dir.note_synced()
    data_dir.close(clean=True)
    data_dir = home.open()
    assert (data_dir.recovery.source, data_dir.has_synced) == ("store", True)
    data_dir.close(clean=False)
    reboot(monkeypatch)
    data_dir = home.open()
    assert (data_dir.recovery.source, data_dir.has_synced) == ("nothing", False)
    assert home.node_json()["has_synced"] is False
    data_dir.close(clean=True)


@pytest.mark.parametrize("kept", ["wal", "snapshots", "store"])
def test_data_without_node_json_is_refused(home: Home, kept: str) -> None:
    data_dir = home.open()
    home.fill(2, data_dir)
    home.snapshot(data_dir)
    data_dir.close(clean=True)
    home.paths.node_file.unlink()
    for folder in {"wal", "snapshots", "store"} - {kept}:
        shutil.rmtree(home.folder / folder)
    with pytest.raises(DataDirUnusable, match=r"node\.json is missing"):
        home.open()


def test_another_boot_id_with_fsync_always_stays_in_its_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "data", "master", persistence__wal__fsync_mode="always")
    home.fill(5)
    reboot(monkeypatch)
    data_dir = home.open()
    assert (outcome(data_dir), len(data_dir.lineage)) == (("log", 5, 5), 1)
    data_dir.close(clean=True)


def test_another_boot_id_after_a_clean_stop_changes_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = home.open()
    home.fill(5, data_dir)
    data_dir.close(clean=True)
    reboot(monkeypatch)
    data_dir = home.open()
    assert (outcome(data_dir), len(data_dir.lineage)) == (("store", 0, 5), 1)
    data_dir.close(clean=True)


def test_another_inode_of_the_data_file_rebuilds(home: Home) -> None:
    home.fill(5)
    data = home.paths.store_dir / "00000001" / "data.mdb"
    shutil.copyfile(data, data.with_name("copy"))
    os.replace(data.with_name("copy"), data)
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.begun_epoch) == (("log", 5, 5), 2)
    assert data_dir.store.generation == 2
    assert sorted(os.listdir(home.paths.store_dir)) == ["00000002", "CURRENT"]
    data_dir.close(clean=True)


def test_another_device_in_the_marker_rebuilds(home: Home) -> None:
    home.fill(5)
    path = home.paths.store_dir / "00000001" / "marker.json"
    rewrite_json(path, device=path.stat().st_dev + 1)
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.begun_epoch) == (("log", 5, 5), 2)
    data_dir.close(clean=True)


def test_a_replica_that_lost_its_store_begins_no_epoch(tmp_path: Path) -> None:
    master, replica = Home(tmp_path / "master", "master"), Home(tmp_path / "replica", "replica")
    data_dir = master.open()
    home_log = replica.open()
    master.fill(4, data_dir)
    home_log.adopt(data_dir.lineage)
    home_log.append_frames(list(data_dir.wal.frames_after(0)))
    home_log.close(clean=False)
    lose_store(replica)
    home_log = replica.open()
    assert (outcome(home_log), home_log.lineage) == (("log", 4, 4), data_dir.lineage)
    home_log.close(clean=True)
    data_dir.close(clean=True)


@pytest.mark.parametrize("chunk_frames", [1, 2, 7])
def test_a_replica_s_store_is_its_master_s_whatever_came_at_once(
    tmp_path: Path, chunk_frames: int
) -> None:
    master, replica = Home(tmp_path / "master", "master"), Home(tmp_path / "replica", "replica")
    data_dir, copy = master.open(), replica.open()
    for round_ in range(7):
        transaction = data_dir.store.begin()
        for number in range(400):
            key = b"key %d" % (number * 7919 % 1000 + round_)
            if number % 5 == round_ % 5:
                transaction.remove(key)
            else:
                transaction.put(key, b"v" * number, (2**41 + number) * (number % 3))
        data_dir.commit(transaction, 1_700_000_000_000)
    copy.adopt(data_dir.lineage)
    frames = list(data_dir.wal.frames_after(0))
    for at in range(0, len(frames), chunk_frames):
        copy.append_frames(frames[at : at + chunk_frames])
    assert copy.position == data_dir.position
    assert copy.store.reader().digest() == data_dir.store.reader().digest()
    assert copy.store.due(2**62, 5000) == data_dir.store.due(2**62, 5000)
    copy.close(clean=False)
    data_dir.close(clean=False)


def test_plain_frames_are_applied_together_as_each_would_be(tmp_path: Path) -> None:
    master, replica = Home(tmp_path / "master", "master"), Home(tmp_path / "replica", "replica")
    data_dir, copy = master.open(), replica.open()
    for number in range(12):
        transaction = data_dir.store.begin()
        transaction.put_all(
            [(b"key %d" % (each % 7), b"%d" % number) for each in range(number, number + 20)]
        )
        if number % 6 == 5:
            transaction.remove(b"key 3")
            transaction.put(b"key 4", b"for a while", 2**41)
        data_dir.commit(transaction, 1_700_000_000_000)
    copy.adopt(data_dir.lineage)
    copy.append_frames(list(data_dir.wal.frames_after(0)))
    assert copy.position == data_dir.position
    assert copy.store.reader().digest() == data_dir.store.reader().digest()
    copy.close(clean=False)
    data_dir.close(clean=False)


def test_rebuild_from_snapshot_replays_what_is_behind_it(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir = home.open()
    home.fill(5, data_dir)
    home.snapshot(data_dir)
    home.fill(3, data_dir)
    before = data_dir.store.reader().digest()
    data_dir.close(clean=False)
    lose_store(home)
    with caplog.at_level(logging.INFO):
        data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.snapshot_offset) == (("snapshot", 3, 8), 5)
    assert data_dir.store.reader().digest() == before
    told = [record for record in caplog.records if getattr(record, "action", "") == "recovery"]
    assert len(told) == 1
    assert "from snapshot of offset 5 (there is no store yet), 3 frames" in told[0].getMessage()
    data_dir.close(clean=True)


@pytest.mark.parametrize("has_snapshot", [True, False])
def test_rebuild_without_room_says_where_and_how_much_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_snapshot: bool
) -> None:
    with disks.small_disk(tmp_path / "disk", 24 * MIB) as disk:
        home = Home(disk / "data")
        data_dir = home.open()
        home.fill(5, data_dir, bytes(MIB))
        if has_snapshot:
            home.snapshot(data_dir)
        held = data_dir.store.reader().digest()
        data_dir.close(clean=False)
        ballast = disks.fill(disk)
        os.truncate(ballast, ballast.stat().st_size - 2 * MIB)
        before = sorted(home.folder.rglob("*"))
        reboot(monkeypatch)
        for _ in range(2):
            with pytest.raises(StoreUnusable) as refused:
                home.open()
            message = refused.value.message
            assert re.search(rf"no room .*{home.paths.store_dir}.* \d{{6,7}} bytes", message)
            assert sorted(home.folder.rglob("*")) == before
        ballast.unlink()
        data_dir = home.open()
        assert data_dir.store.reader().digest() == held
        data_dir.close(clean=True)


def test_rebuild_falls_back_from_a_damaged_snapshot_and_says_why(home: Home) -> None:
    data_dir = home.open()
    home.fill(5, data_dir)
    home.snapshot(data_dir)
    home.fill(3, data_dir)
    newest = home.snapshot(data_dir)
    home.fill(1, data_dir)
    data_dir.close(clean=False)
    lose_store(home)
    with newest.open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.snapshot_offset) == (("snapshot", 4, 9), 5)
    assert str(newest) in data_dir.recovery.faults[0]
    assert os.listdir(home.paths.store_dir).count("CURRENT") == 1
    assert len(os.listdir(home.paths.store_dir)) == 2
    data_dir.close(clean=True)


def test_rebuild_without_any_good_snapshot_takes_a_whole_log(home: Home) -> None:
    data_dir = home.open()
    home.fill(5, data_dir)
    home.snapshot(data_dir).write_bytes(b"nothing")
    data_dir.close(clean=False)
    lose_store(home)
    data_dir = home.open()
    assert (outcome(data_dir), keys_in(data_dir)) == (("log", 5, 5), 5)
    data_dir.close(clean=True)


def retired(home: Home, data_dir: DataDir) -> None:
    """Let the log begin behind its first frames."""
    home.fill(30, data_dir, b"v" * 100_000)
    assert data_dir.wal.retire(data_dir.position.offset, 0)
    data_dir.wal.remove_retired()


def test_rebuild_from_snapshot_and_a_log_that_begins_later(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", persistence__wal__max_size_mb=1)
    data_dir = home.open()
    home.fill(40, data_dir, b"v" * 100_000)
    home.snapshot(data_dir)
    assert data_dir.wal.retire(data_dir.position.offset, 0)
    data_dir.wal.remove_retired()
    home.fill(2, data_dir)
    before = data_dir.store.reader().digest()
    data_dir.close(clean=False)
    lose_store(home)
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.store.reader().digest()) == (("snapshot", 2, 42), before)
    data_dir.close(clean=True)


def test_rebuild_with_neither_snapshot_nor_the_log_s_beginning_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", persistence__wal__max_size_mb=1)
    data_dir = home.open()
    retired(home, data_dir)
    data_dir.close(clean=False)
    lose_store(home)
    with pytest.raises(StoreUnusable, match="there is no snapshot; restore from a backup"):
        home.open()


def test_snapshot_ahead_of_the_log_wins_and_the_log_is_kept_aside(home: Home) -> None:
    data_dir = home.open()
    home.fill(5, data_dir)
    segment = next(home.paths.wal_dir.glob("synap-*.wal"))
    kept = segment.read_bytes()
    home.fill(5, data_dir)
    home.snapshot(data_dir)
    data_dir.close(clean=False)
    lose_store(home)
    segment.write_bytes(kept)
    data_dir = home.open()
    assert (outcome(data_dir), keys_in(data_dir)) == (("snapshot", 0, 10), 10)
    assert (data_dir.wal.first_offset, data_dir.lineage[-1].first_offset) == (11, 11)
    assert [path.read_bytes() for path in home.paths.foreign_dir.rglob("*.wal")] == [kept]
    home.fill(2, data_dir)
    data_dir.close(clean=False)
    data_dir = home.open()
    assert outcome(data_dir) == ("store", 0, 12)
    data_dir.close(clean=True)


def test_snapshot_ahead_of_the_log_in_an_earlier_reign_is_of_no_use(home: Home) -> None:
    """It is of a branch that the log left: what the later reign wrote is not to go for it."""
    home.fill(3)
    branch = home.folder.with_name("branch")
    shutil.copytree(home.folder, branch, symlinks=True)
    data_dir = home.open()
    home.fill(5, data_dir)
    image = home.snapshot(data_dir)
    data_dir.close(clean=True)
    taken = [image.read_bytes(), image.with_suffix(".json").read_bytes()]
    shutil.rmtree(home.folder)
    branch.rename(home.folder)
    data_dir = home.open()
    assert data_dir.lineage[-1].epoch == 2
    home.fill(1, data_dir)
    data_dir.close(clean=True)
    for path, content in zip((image, image.with_suffix(".json")), taken, strict=True):
        path.write_bytes(content)
    lose_store(home)
    data_dir = home.open()
    assert (outcome(data_dir), keys_in(data_dir)) == (("log", 4, 4), 4)
    assert "by node.json" in data_dir.recovery.faults[0]
    data_dir.close(clean=True)


def test_hole_in_the_log_before_the_snapshot_is_no_hindrance(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", persistence__wal__max_size_mb=1)
    data_dir = home.open()
    home.fill(40, data_dir, b"v" * 100_000)
    home.snapshot(data_dir)
    home.fill(2, data_dir)
    data_dir.close(clean=False)
    segments = sorted(home.paths.wal_dir.glob("synap-*.wal"))
    assert len(segments) > 3
    segments[1].unlink()
    lose_store(home)
    data_dir = home.open()
    assert outcome(data_dir) == ("snapshot", 2, 42)
    assert data_dir.wal.first_offset > 1
    assert segments[0].name in [path.name for path in home.paths.foreign_dir.rglob("*.wal")]
    data_dir.close(clean=True)


def test_damage_in_the_log_behind_the_snapshot_is_refused(home: Home) -> None:
    data_dir = home.open()
    home.fill(5, data_dir)
    home.snapshot(data_dir)
    home.fill(5, data_dir)
    data_dir.close(clean=False)
    lose_store(home)
    segment = next(home.paths.wal_dir.glob("synap-*.wal"))
    data = bytearray(segment.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    segment.write_bytes(data)
    with pytest.raises(WalCorrupt):
        home.open()
    assert segment.read_bytes() == data
    assert os.listdir(home.paths.store_dir) == []


def test_files_of_another_history_are_put_aside_whole(tmp_path: Path) -> None:
    mine, other = Home(tmp_path / "mine"), Home(tmp_path / "other")
    mine.fill(3)
    data_dir = other.open()
    other.fill(7, data_dir)
    theirs = other.snapshot(data_dir)
    data_dir.close(clean=False)
    foreign_segment = next(other.paths.wal_dir.glob("synap-*.wal"))
    shutil.copy(foreign_segment, mine.paths.wal_dir / "synap-00000000000000000009.wal")
    for path in (theirs, theirs.with_suffix(".json")):
        shutil.copy(path, mine.paths.snapshots_dir)
    data_dir = mine.open()
    assert (outcome(data_dir), snapshots(mine.paths.snapshots_dir)) == (("store", 0, 3), [])
    aside = {path.name: path.read_bytes() for path in mine.paths.foreign_dir.rglob("*.*")}
    assert aside == {
        "synap-00000000000000000009.wal": foreign_segment.read_bytes(),
        theirs.name: theirs.read_bytes(),
        theirs.with_suffix(".json").name: theirs.with_suffix(".json").read_bytes(),
    }
    data_dir.close(clean=True)


def test_files_of_another_history_on_another_disk_are_put_aside_too(tmp_path: Path) -> None:
    if tmp_path.stat().st_dev == Path("/dev/shm").stat().st_dev:
        pytest.skip("the temporary folder lies on the same file system as /dev/shm")
    with tempfile.TemporaryDirectory(prefix="synap", dir="/dev/shm") as disk:
        wal_path = f"{disk}/wal/synap.wal"
        mine = Home(tmp_path / "mine", persistence__wal__path=wal_path)
        mine.fill(3)
        data_dir = Home(tmp_path / "other").open()
        foreign_segment = Path(disk, "wal", "synap-00000000000000000009.wal")
        shutil.copy(next((tmp_path / "other" / "wal").glob("synap-*.wal")), foreign_segment)
        data_dir.close(clean=False)
        content = foreign_segment.read_bytes()
        data_dir = mine.open()
        assert outcome(data_dir) == ("store", 0, 3)
        aside = [path for path in mine.paths.foreign_dir.rglob("*") if path.is_file()]
        assert [(path.name, path.read_bytes()) for path in aside] == [
            (foreign_segment.name, content)
        ]
        assert not foreign_segment.exists()
        data_dir.close(clean=True)


def test_torn_tail_is_cut_and_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.fill(5)
    segment = next(home.paths.wal_dir.glob("synap-*.wal"))
    size = segment.stat().st_size
    os.truncate(segment, size - 10)
    reboot(monkeypatch)
    data_dir = home.open()
    assert outcome(data_dir) == ("log", 4, 4)
    assert (data_dir.recovery.cut_bytes > 0, data_dir.lineage[-1].first_offset) == (True, 5)
    data_dir.close(clean=True)


def test_crash_between_node_json_and_the_log_goes_on_in_one_more_epoch(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.fill(5)
    home.paths.create()
    node = Node.load_or_create(home.config, home.paths)
    node.begin_reign(5)
    reboot(monkeypatch)
    data_dir = home.open()
    assert [(reign.epoch, reign.first_offset) for reign in data_dir.lineage] == [(1, 1), (3, 6)]
    home.fill(1, data_dir)
    data_dir.close(clean=True)


def test_crash_after_a_promotion_and_before_its_first_entry_keeps_the_promotion(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.fill(5)
    data_dir = home.open()
    # A segment is begun for it, with nothing in it.
    data_dir.wal.begin_reign(data_dir.promote(None))
    data_dir.close(clean=False)
    reboot(monkeypatch)
    data_dir = home.open()
    reigns = [(each.epoch, each.first_offset, each.is_unasked) for each in data_dir.lineage]
    assert reigns == [(1, 1, False), (2, 6, False), (3, 6, True)]
    home.fill(1, data_dir)
    data_dir.close(clean=False)
    data_dir = home.open()
    assert (data_dir.position.epoch, data_dir.position.offset) == (3, 6)
    data_dir.close(clean=True)


def test_rebuild_of_many_kinds_of_entries_gives_the_same_store(home: Home) -> None:
    data_dir = home.open()
    soon = int(time.time() * 1000) + 3_600_000
    for round_ in range(4):
        for number in range(20):
            transaction = data_dir.store.begin()
            transaction.put(b"a%d" % number, b"x", soon + round_ if number % 3 else 0)
            transaction.remove(b"a%d" % (number // 2))
            if (round_, number) == (1, 10):
                transaction.clear(0)
            transaction.put(b"b%d" % number, b"y", 0 if round_ % 2 else soon)
            data_dir.commit(transaction, 1_700_000_000_000)
        if round_ == 2:
            home.snapshot(data_dir)
    before, due = data_dir.store.reader().digest(), data_dir.store.due(2**62, 1000)
    data_dir.close(clean=False)
    for _ in range(2):
        lose_store(home)
        data_dir = home.open()
        assert (data_dir.store.reader().digest(), data_dir.store.due(2**62, 1000)) == (before, due)
        data_dir.close(clean=False)
        shutil.rmtree(home.paths.snapshots_dir)


def test_standalone_becomes_master_by_configuration_and_a_replica_does_not(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    home.fill(2)
    assert home.node_json()["role"] == "standalone"
    Home(tmp_path / "data", "replica").paths.create()
    data_dir = Home(tmp_path / "data", "replica").open()
    assert data_dir.node.role == "standalone"
    data_dir.close(clean=True)
    data_dir = Home(tmp_path / "data", "master").open()
    assert (data_dir.node.role, home.node_json()["role"], data_dir.position.offset) == (
        "master",
        "master",
        2,
    )
    data_dir.close(clean=True)
    data_dir = Home(tmp_path / "data").open()
    assert data_dir.node.role == "master"
    data_dir.close(clean=True)
