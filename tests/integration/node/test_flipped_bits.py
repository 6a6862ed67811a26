"""One flipped bit in a file that says what a node is: it is noticed, and nothing begins empty."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from synap.errors import DataDirUnusable, StoreUnusable
from synap.node import resync_switch
from synap.node.identity import Node, read_identity
from synap.position import Position
from synap.replication.publishing.known_replicas import UNREADABLE, load_replicas
from synap.sealed import unsealed
from synap.snapshot.folder import Manifest, snapshot_path, snapshots
from synap.store import generations
from tests.integration.node.test_recovery import Home, keys_in, outcome

KEYS = 5


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node with keys and a snapshot, stopped well."""
    home = Home(tmp_path / "data")
    data_dir = home.open()
    home.fill(KEYS, data_dir)
    home.snapshot(data_dir)
    data_dir.close(clean=True)
    return home


def flips(content: bytes, step: int = 1) -> Iterator[bytes]:
    """Give the content with each `step`th of its bits turned over."""
    for bit in range(0, len(content) * 8, step):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def aside_names(home: Home) -> set[str]:
    return {path.name for path in home.paths.foreign_dir.rglob("*") if path.is_file()}


def test_flipped_bit_in_node_json_refuses_the_start_with_the_way_out(home: Home) -> None:
    content = home.paths.node_file.read_bytes()
    for flipped in flips(content):
        home.paths.node_file.write_bytes(flipped)
        with pytest.raises(DataDirUnusable, match="synap restore --from"):
            Node.load_or_create(home.config, home.paths)
    home.paths.node_file.write_bytes(content)
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.put_aside) == (("store", 0, KEYS), ())
    data_dir.close(clean=True)


def test_flipped_bit_in_current_costs_no_key(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.folder, tmp_path / "whole", symlinks=True)
    content = (home.paths.store_dir / "CURRENT").read_bytes()
    for flipped in flips(content):
        (home.paths.store_dir / "CURRENT").write_bytes(flipped)
        assert not generations.is_trusted(home.paths.store_dir)[0]
    for flipped in flips(content, 7):
        shutil.rmtree(home.folder)
        shutil.copytree(tmp_path / "whole", home.folder, symlinks=True)
        (home.paths.store_dir / "CURRENT").write_bytes(flipped)
        data_dir = home.open()
        assert (keys_in(data_dir), data_dir.recovery.source) == (KEYS, "snapshot")
        assert "data.mdb" in aside_names(home)
        data_dir.close(clean=True)


def test_flipped_bit_in_current_without_log_and_snapshot_is_refused_and_keeps_all(
    home: Home,
) -> None:
    for folder in (home.paths.wal_dir, home.paths.snapshots_dir):
        shutil.rmtree(folder)
    current = home.paths.store_dir / "CURRENT"
    current.write_bytes(b"00000003" + current.read_bytes()[8:])
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="no log"):
            home.open()
    assert (home.paths.store_dir / "00000001" / "data.mdb").exists()


def test_flipped_bit_in_the_marker_costs_no_key(home: Home) -> None:
    content = (home.paths.store_dir / "00000001" / "marker.json").read_bytes()
    for flipped in flips(content):
        with pytest.raises((ValueError, msgspec.DecodeError)):
            unsealed(flipped, generations.Marker)
    for bit in range(0, 4096, 171):
        path = generations.folder_in_use(home.paths.store_dir) / "marker.json"
        path.write_bytes(list(flips(path.read_bytes()))[bit])
        data_dir = home.open()
        assert data_dir.recovery.source == "snapshot"
        assert keys_in(data_dir) == KEYS
        data_dir.close(clean=True)


def test_flipped_bit_in_a_manifest_costs_the_snapshot_and_is_told(home: Home) -> None:
    path = snapshot_path(home.paths.snapshots_dir, KEYS).with_suffix(".json")
    content = path.read_bytes()
    for flipped in flips(content):
        path.write_bytes(flipped)
        assert snapshots(home.paths.snapshots_dir) == []
    shutil.rmtree(home.paths.store_dir)
    data_dir = home.open()
    assert (outcome(data_dir), keys_in(data_dir)) == (("log", KEYS, KEYS), KEYS)
    assert re.search("manifest is damaged", "".join(data_dir.recovery.faults))
    assert {path.name, path.with_suffix(".bin").name} <= aside_names(home)
    data_dir.close(clean=True)


def test_flipped_bit_in_resync_json_costs_the_switch_alone(home: Home) -> None:
    lineage = read_identity(home.paths.node_file).lineage
    switch = resync_switch.ResyncSwitch(7, Position(1, 9, 9), lineage, 3, 1)
    resync_switch.begin(home.paths, switch)
    content = home.paths.resync_file.read_bytes()
    for flipped in flips(content):
        home.paths.resync_file.write_bytes(flipped)
        with pytest.raises((ValueError, msgspec.DecodeError)):
            resync_switch.pending(home.paths)
    data_dir = home.open()
    assert (outcome(data_dir), keys_in(data_dir)) == (("store", 0, KEYS), KEYS)
    assert "resync.json" in aside_names(home)
    data_dir.close(clean=True)


@pytest.mark.parametrize("at", [0, 1])
def test_files_without_a_checksum_are_taken_and_get_one_when_written(home: Home, at: int) -> None:
    """As the version before wrote them."""
    folder = home.paths.store_dir / "00000001"
    manifest = snapshot_path(home.paths.snapshots_dir, KEYS).with_suffix(".json")
    for path in (home.paths.node_file, folder / "marker.json", manifest):
        plain = re.sub(rb',\n  "crc32": "\w+"', b"", path.read_bytes())
        path.write_bytes(plain.ljust(512) if path.name == "marker.json" else plain)
    (home.paths.store_dir / "CURRENT").write_bytes(b"00000001\n")
    assert len(snapshots(home.paths.snapshots_dir)) == 1
    data_dir = home.open()
    assert (outcome(data_dir), data_dir.recovery.put_aside) == (("store", 0, KEYS), ())
    if at:
        data_dir.node.end_reign(9)
    data_dir.close(clean=True)
    assert b"crc32" in (folder / "marker.json").read_bytes()
    assert (b"crc32" in home.paths.node_file.read_bytes()) == bool(at)
    assert unsealed(manifest.read_bytes(), Manifest).position.offset == KEYS


def test_node_json_of_another_node_is_refused_and_moves_nothing(tmp_path: Path) -> None:
    mine, other = Home(tmp_path / "mine"), Home(tmp_path / "other")
    mine.fill(3)
    other.fill(1)
    held = sorted(mine.folder.rglob("*.*"))
    own = mine.paths.node_file.read_bytes()
    shutil.copy(other.paths.node_file, mine.paths.node_file)
    for _ in range(2):
        with pytest.raises(DataDirUnusable, match=r"Put the node\.json back"):
            mine.open()
    assert sorted(mine.folder.rglob("*.*")) == held
    mine.paths.node_file.write_bytes(own)
    data_dir = mine.open()
    assert outcome(data_dir) == ("store", 0, 3)
    data_dir.close(clean=True)


def test_store_of_another_history_alone_is_refused(tmp_path: Path) -> None:
    mine, other = Home(tmp_path / "mine"), Home(tmp_path / "other")
    mine.fill(3)
    other.fill(1)
    shutil.copy(other.paths.node_file, mine.paths.node_file)
    shutil.rmtree(mine.paths.wal_dir)
    with pytest.raises(DataDirUnusable, match="another history"):
        mine.open()
    assert (mine.paths.store_dir / "00000001" / "data.mdb").exists()


def test_flipped_bit_in_replicas_json_is_not_taken_for_no_replicas(tmp_path: Path) -> None:
    path = tmp_path / "replicas.json"
    path.write_bytes(b'{\n  "replica1": "10.0.0.2:15502"\n}\n')
    assert load_replicas(path) == {"replica1": "10.0.0.2:15502"}
    path.write_bytes(b'{\n  "replica1": "10.0.0.2:15502"\n')
    assert load_replicas(path) == {UNREADABLE: ""}
