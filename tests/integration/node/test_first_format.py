"""What a program of the first format left behind opens, goes on and restores.

`tests/data/format-1.tar.gz` was written by such a program: a node of one history with a snapshot at
offset 23, its log and live store at 26, a backup taken at 25, and what `/digest` said at the end.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from synap.backup.restore import restore
from synap.errors import StoreUnusable
from synap.store import StoreReader, generations
from tests.integration.node_dirs import START_MS, digest_of, open_node, write

ARCHIVE = Path(__file__).parents[2] / "data" / "format-1.tar.gz"
HEADER_VERSION = 4


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack what was left; return the folder."""
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def digest_at_the_end(left: Path) -> tuple[int, int, str]:
    told = json.loads((left / "digest.json").read_text())
    return told["offset"], told["keys"], told["digest"]


def segments(left: Path) -> list[Path]:
    return sorted((left / "node" / "wal").glob("synap-*.wal"))


def test_node_is_rebuilt_from_its_snapshot_and_log(left: Path) -> None:
    assert digest_of(left / "node") == digest_at_the_end(left)


def test_live_store_that_is_trusted_gets_its_checksums_in_place(left: Path) -> None:
    root = left / "node" / "store"
    folder = generations.folder_in_use(root)
    generations.mark(folder, clean=True)
    with open_node(left / "node") as data_dir:
        assert data_dir.store.generation == int(folder.name)
        assert data_dir.store.reader().digest() == digest_at_the_end(left)
        record, _ = data_dir.store.reader().get(b"k2")
    assert record is not None
    assert (record.value, record.version) == (b"value 2", 2)


def test_first_write_begins_a_segment_of_this_format(left: Path) -> None:
    before = segments(left)
    with open_node(left / "node") as data_dir:
        assert write(data_dir, ["new"]) == 27
        digest = data_dir.store.reader().digest()
    assert [path.read_bytes()[HEADER_VERSION] for path in before] == [1]
    assert [path.read_bytes()[HEADER_VERSION] for path in segments(left)] == [1, 2]
    assert digest_of(left / "node") == digest


def test_log_alone_leads_to_the_same_state(left: Path) -> None:
    for path in (left / "node" / "snapshots").iterdir():
        path.unlink()
    assert digest_of(left / "node") == digest_at_the_end(left)


def test_backup_restores_with_and_without_the_log(left: Path) -> None:
    restore(left / "one.backup", left / "alone", now_ms=START_MS)
    assert digest_of(left / "alone")[:2] == (25, 22)
    restore(left / "one.backup", left / "with", now_ms=START_MS, wal_dir=left / "node" / "wal")
    assert digest_of(left / "with") == digest_at_the_end(left)


def test_reader_comes_in_only_after_the_owner(left: Path) -> None:
    with pytest.raises(StoreUnusable):
        StoreReader.open(left / "node" / "store")
    with open_node(left / "node") as data_dir:
        assert data_dir.store.reader().get(b"k2")[0] is not None
