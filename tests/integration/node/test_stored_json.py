"""The JSON files of a data directory: what earlier versions wrote opens, what is written is hex."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from synap.backup.archive import BackupManifest
from synap.backup.archive import read_manifest as read_backup_manifest
from synap.errors import DataDirUnusable
from synap.node.identity import NodeIdentity, read_identity, write_identity
from synap.node.paths import NodePaths
from synap.node.resync_switch import ResyncSwitch, begin, pending
from synap.position import Position, Reign, decode_json, encode_json
from synap.sealed import unsealed
from synap.snapshot.folder import Manifest, read_manifest

LINEAGE = (Reign(1, bytes(range(16)), 1), Reign(3, bytes(4) + bytes(range(200, 212)), 57))
POSITION = Position(3, 60, 2**64 - 1)
HEX_ROWS = """[[1, "000102030405060708090a0b0c0d0e0f", 1],
               [3, "00000000c8c9cacbcccdcecfd0d1d2d3", 57]]"""

# As version 0.1.0 wrote them before histories were hex everywhere.
OLD_NODE = """{
  "id": "0123456789abcdef",
  "role": "replica",
  "lineage": [[1, "AAECAwQFBgcICQoLDA0ODw==", 1], [3, "AAAAAMjJysvMzc7P0NHS0w==", 57]],
  "format": 1,
  "has_synced": true,
  "master_address": "10.0.0.1:15501",
  "master_sync_address": "10.0.0.1:15502",
  "ended_by_epoch": 4
}
"""
OLD_SWITCH = f"""{{
  "generation": 7, "position": [3, 60, 18446744073709551615],
  "lineage": {HEX_ROWS}, "kept_after": 58, "old_generation": 6
}}"""
OLD_MANIFEST = f"""{{
  "format": 1, "lineage": {HEX_ROWS}, "position": [3, 60, 18446744073709551615],
  "time_ms": 1700000000000, "created_ms": 1700000000001, "keys": 5, "bytes": 4096,
  "sha256": "{"ab" * 32}", "compression": "zstd"
}}
"""
OLD_BACKUP = f"""{{"format":1,"version":"0.1.0","node_id":"0123456789abcdef","node_name":"n",
"role":"master","lineage":{HEX_ROWS},"position":[3,60,18446744073709551615],"time_ms":1,
"created_ms":2,"keys":5,"bytes":0,"sha256":"{"e" * 64}","digest":"{"d" * 64}"}}"""

IDENTITY = NodeIdentity(
    "0123456789abcdef", "replica", LINEAGE, format=1, master_address="10.0.0.1:15501",
    master_sync_address="10.0.0.1:15502", ended_by_epoch=4,
)  # fmt: skip
SWITCH = ResyncSwitch(7, POSITION, LINEAGE, 58, 6)
MANIFEST = Manifest(
    LINEAGE, POSITION, 1700000000000, 1700000000001, 5, 4096, "ab" * 32, "zstd"
)  # fmt: skip
BACKUP = BackupManifest(
    node_id="0123456789abcdef", node_name="n", role="master", lineage=LINEAGE, position=POSITION,
    time_ms=1, created_ms=2, keys=5, bytes=0, sha256="e" * 64, digest="d" * 64, version="0.1.0",
    format=1,
)  # fmt: skip


def paths_in(folder: Path) -> NodePaths:
    return cast("NodePaths", SimpleNamespace(resync_file=folder / "resync.json"))


def test_node_file_of_an_earlier_version_opens(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text(OLD_NODE)
    assert read_identity(tmp_path / "node.json") == IDENTITY


def test_switch_of_an_earlier_version_opens(tmp_path: Path) -> None:
    (tmp_path / "resync.json").write_text(OLD_SWITCH)
    assert pending(paths_in(tmp_path)) == SWITCH


def test_snapshot_manifest_of_an_earlier_version_opens(tmp_path: Path) -> None:
    (tmp_path / "snapshot_1.json").write_text(OLD_MANIFEST)
    assert read_manifest(tmp_path / "snapshot_1.bin") == MANIFEST


def test_backup_of_an_earlier_version_opens(tmp_path: Path) -> None:
    head = b"SYNAPBAK" + (1).to_bytes(4, "little") + len(OLD_BACKUP).to_bytes(4, "little")
    path = tmp_path / "backup"
    path.write_bytes(head + OLD_BACKUP.encode() + b"SYNAPEND" + bytes(32))
    assert read_backup_manifest(path) == BACKUP


def test_node_file_is_written_with_histories_in_hex(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    write_identity(path, IDENTITY)
    document = json.loads(path.read_text())
    assert document["lineage"] == json.loads(HEX_ROWS)
    # A program that knows only base64 must not take these for other histories.
    assert document["format"] == 2
    assert read_identity(path).lineage == LINEAGE


def test_switch_that_was_begun_reads_back(tmp_path: Path) -> None:
    begin(paths_in(tmp_path), SWITCH)
    assert pending(paths_in(tmp_path)) == SWITCH
    assert json.loads((tmp_path / "resync.json").read_text())["lineage"] == json.loads(HEX_ROWS)


@pytest.mark.parametrize("record", [IDENTITY, SWITCH, MANIFEST, BACKUP])
def test_record_reads_back_from_its_json(record: Manifest) -> None:
    assert decode_json(encode_json(record), type(record)) == record


@pytest.mark.parametrize(
    "rows",
    ['"x"', "[1]", '[["1", "00", 1]]', '[[1, "zz", 1]]', '[[1, "00", 1]]', '[[1, "AA==", 1]]'],
)
def test_node_file_with_a_damaged_lineage_is_refused(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "node.json"
    path.write_text(f'{{"id": "a", "role": "master", "lineage": {rows}}}')
    with pytest.raises(DataDirUnusable, match="damaged"):
        read_identity(path)


@pytest.mark.parametrize("record", [NodeIdentity, Manifest, ResyncSwitch, BackupManifest])
@pytest.mark.parametrize("lists", ["[" * 100_000, "[" * 100_000 + "]" * 100_000])
def test_file_that_is_nested_deeply_is_refused_as_damaged(
    record: type[NodeIdentity | Manifest | ResyncSwitch | BackupManifest], lists: str
) -> None:
    content = b'{"lineage": %b}' % lists.encode()
    for read in (decode_json, unsealed):
        with pytest.raises(ValueError, match="too deeply"):
            read(content, record)
