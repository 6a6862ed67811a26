"""A live store whose pages are damaged: put aside, rebuilt from snapshot and log, and told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synap.errors import StoreUnusable
from synap.node.suspicion import suspect, suspicion
from tests.integration.node.test_recovery import Home, keys_in, outcome
from tests.support import rewrite_json

PAGE = 4096
KEYS = 50


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


def spoil(home: Home, content: bytes, at: int) -> None:
    (data,) = home.paths.store_dir.glob("*/data.mdb")
    with data.open("r+b") as file:
        file.seek(at)
        file.write(content)


def aside(home: Home) -> list[Path]:
    return [path for path in home.paths.foreign_dir.rglob("*") if path.is_file()]


@pytest.mark.parametrize("at", [0, 2 * PAGE, 3 * PAGE])
@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"x"])
def test_store_with_a_bad_page_is_kept_aside_and_rebuilt(
    tmp_path: Path, at: int, filling: bytes
) -> None:
    home = Home(tmp_path / "data")
    home.fill(KEYS)
    length = 2 * PAGE if not at else PAGE
    spoil(home, filling * length, at)
    data_dir = home.open()
    found = (keys_in(data_dir), data_dir.recovery.source)
    assert found in ((KEYS, "log"), (KEYS, "store"))
    if found[1] == "log":
        assert "data.mdb" in {path.name for path in aside(home)}
    data_dir.close(clean=True)


def test_store_that_ended_its_owner_by_a_signal_is_rebuilt_once(home_with_keys: Home) -> None:
    home = home_with_keys
    suspect(home.paths, "the log's owner was ended by SIGBUS")
    data_dir = home.open()
    assert (outcome(data_dir), keys_in(data_dir)) == (("log", KEYS, KEYS), KEYS)
    assert "SIGBUS" in data_dir.recovery.reason
    data_dir.close(clean=True)
    assert suspicion(home.paths) == ""
    data_dir = home.open()
    assert data_dir.recovery.source == "store"
    data_dir.close(clean=True)


@pytest.fixture
def home_with_keys(tmp_path: Path) -> Home:
    home = Home(tmp_path / "data")
    home.fill(KEYS)
    return home


def lose_beginning(home: Home) -> None:
    """Leave a log that begins later, and no snapshot."""
    home.fill(2, value=bytes(1_500_000))
    home.fill(1)
    first, *_ = sorted(home.paths.wal_dir.glob("synap-*.wal"))
    first.unlink()
    spoil(home, bytes(2 * PAGE), 0)


def test_master_that_can_t_rebuild_a_damaged_store_refuses_and_keeps_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", persistence__wal__max_size_mb=16)
    lose_beginning(home)
    held = sorted(home.paths.store_dir.rglob("*.mdb"))
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="restore from a backup"):
            home.open()
    assert sorted(home.paths.store_dir.rglob("*.mdb")) == held


def test_replica_that_can_t_rebuild_a_damaged_store_begins_anew(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", persistence__wal__max_size_mb=16)
    lose_beginning(home)
    data_dir_of = Home(tmp_path / "data", "replica", persistence__wal__max_size_mb=16)
    rewrite_json(home.paths.node_file, role="replica")
    data_dir = data_dir_of.open()
    assert (outcome(data_dir), data_dir.has_synced) == (("nothing", 0, 0), False)
    names = {path.name for path in aside(home)}
    assert "data.mdb" in names
    assert any(name.endswith(".wal") for name in names)
    data_dir.close(clean=True)
    assert os.listdir(home.paths.store_dir)
