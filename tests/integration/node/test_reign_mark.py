"""The entry that a reign writes first, on a full disk: none of it, and then all of it."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import pytest

from synap.errors import DiskFull, WalFailed
from synap.node.data_dir import DataDir
from synap.node.identity import Node, NodeIdentity, write_identity
from synap.node.paths import NodePaths
from synap.position import Reign
from tests.integration.failing_disk import every_disk
from tests.integration.kth_call import ONCE, KthCallFails
from tests.integration.node_dirs import START_MS, node_config, open_node, write

FIRST = Reign(1, b"the reign before", 1)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


def promoted(folder: Path, files: KthCallFails) -> DataDir:
    """Make a replica with three entries and have it begin a reign."""
    files.is_armed = False
    config = node_config(folder)
    paths = NodePaths.of(config)
    paths.create()
    write_identity(paths.node_file, NodeIdentity("0123456789abcdef", "replica", (FIRST,)))
    node = Node.load_or_create(config, paths, files)
    data_dir = DataDir.open(config, paths, node, pytest.fail, files)
    data_dir.wal.begin_reign(FIRST)
    for number in range(3):
        write(data_dir, [f"key {number}"])
    data_dir.wal.begin_reign(data_dir.promote(None))
    files.is_armed = True
    return data_dir


def test_mark_of_a_reign_that_finds_no_room_is_written_when_there_is_some(tmp_path: Path) -> None:
    refusals = 0
    for number, files in every_disk(errno.ENOSPC, ONCE, 1):
        folder = tmp_path / str(number)
        data_dir = promoted(folder, files)
        try:
            data_dir.mark_reign(START_MS)
        except DiskFull:
            refusals += 1
            assert data_dir.position.offset == 3
            assert data_dir.store.reader().count(START_MS) == 3
            assert data_dir.mark_reign(START_MS) is not None
            assert data_dir.mark_reign(START_MS) is None
        except WalFailed:
            # The log could not be synced: the process ends, and the next one finds all or nothing.
            with suppress(WalFailed):
                data_dir.close(clean=False)
            with open_node(folder) as again:
                assert again.position.offset in (3, 4)
                assert again.store.reader().count(START_MS) == 3
            continue
        files.is_armed = False
        data_dir.close(clean=False)
        with open_node(folder) as again:
            assert (again.position.offset, again.store.reader().count(START_MS)) == (4, 3)
    assert refusals
