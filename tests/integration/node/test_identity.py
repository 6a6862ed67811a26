"""The node's identity on disk, its paths and its lock."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synap.config.loading import load_config
from synap.errors import DataDirInUse, DataDirUnusable, DiskFull, SealRefused
from synap.node.identity import Node, lock_file, new_reign, read_identity
from synap.node.paths import NodePaths
from synap.replication.rules.reigns import outranks
from tests import disks


def _paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str = "master"):
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    overrides = {"data_dir": str(tmp_path / "data"), "replication.role": role}
    if role == "replica":
        overrides["replication.master_address"] = "127.0.0.1:1"
    config = load_config(None, overrides, environ={})
    paths = NodePaths.of(config)
    paths.create()
    return config, paths


def test_node_new_master_has_a_reign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, paths = _paths(tmp_path, monkeypatch)
    node = Node.load_or_create(config, paths)
    assert (node.role, node.lineage[0].epoch, node.lineage[0].first_offset) == ("master", 1, 1)
    assert Node.load_or_create(config, paths).identity == node.identity


def test_node_new_replica_has_no_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, paths = _paths(tmp_path, monkeypatch, "replica")
    node = Node.load_or_create(config, paths)
    assert node.reign is None
    assert not node.identity.has_synced
    node.note_synced()
    assert Node.load_or_create(config, paths).identity.has_synced
    reign = new_reign(4, 10)
    node.adopt((reign,))
    assert Node.load_or_create(config, paths).reign == reign


def test_node_role_on_disk_wins_over_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = _paths(tmp_path, monkeypatch)
    Node.load_or_create(config, paths)
    config, paths = _paths(tmp_path, monkeypatch, "replica")
    assert Node.load_or_create(config, paths).role == "master"


def test_node_file_unchanged_identity_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = _paths(tmp_path, monkeypatch)
    node = Node.load_or_create(config, paths)
    before = paths.node_file.stat()
    node.adopt(node.lineage)
    Node.load_or_create(config, paths)
    assert paths.node_file.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"{", "damaged"), (b'{"id":"a","role":"master","lineage":[],"format":9}', "later version")],
)
def test_node_unreadable_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, word: str
) -> None:
    config, paths = _paths(tmp_path, monkeypatch)
    paths.node_file.write_bytes(content)
    with pytest.raises(DataDirUnusable, match=word):
        Node.load_or_create(config, paths)


def test_node_log_without_identity_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = _paths(tmp_path, monkeypatch)
    (paths.wal_dir / "synap-00000000000000000001.wal").touch()
    with pytest.raises(DataDirUnusable, match=r"node\.json is missing"):
        Node.load_or_create(config, paths)


def test_run_dir_long_data_dir_keeps_socket_path_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", "/tmp/" + "x" * 120)
    config = load_config(None, {"data_dir": str(tmp_path / ("d" * 200))}, environ={})
    assert len(os.fsencode(NodePaths.of(config).writer_socket)) < 107


def test_run_dir_of_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, paths = _paths(tmp_path, monkeypatch)
    paths.run_dir.chmod(0o777)
    try:
        with pytest.raises(DataDirUnusable, match="nobody else"):
            paths.create()
    finally:
        # Where the path is long, it lies outside of this test's folder, for the next one to find.
        paths.run_dir.chmod(0o700)


def test_folder_of_run_dirs_that_somebody_else_made_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, paths = _paths(tmp_path, monkeypatch)
    # Not the one that is in use, which is all nodes' of this user where the path is long.
    made = tmp_path / "made"
    made.mkdir()
    made.chmod(0o777)
    paths = replace(paths, run_dir=made / "node")
    with pytest.raises(DataDirUnusable, match="set SYNAP_RUN_DIR to a folder of your own"):
        paths.create()
    assert list(made.iterdir()) == []


def test_lock_second_holder_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    path = tmp_path / "node.lock"
    program = "import sys; from synap.node.identity import lock_file; from pathlib import Path;"
    program += "lock_file(Path(sys.argv[1])); print('locked', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(DataDirInUse):
            lock_file(path)
        holder.kill()
    os.close(lock_file(path, wait_seconds=5))


def test_node_promoted_replica_reigns_behind_its_log_and_remembers_its_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1."""
    config, paths = _paths(tmp_path, monkeypatch, "replica")
    node = Node.load_or_create(config, paths)
    unused = new_reign(2, 11)
    node.adopt((new_reign(1, 1), unused))
    reign = node.promote(10, node.master_addresses(config))
    assert (reign.epoch, reign.first_offset) == (3, 11)
    found = Node.load_or_create(config, paths)
    assert (found.role, found.identity.has_synced) == ("master", True)
    assert [each.epoch for each in found.lineage] == [1, 3]
    assert found.identity.master_address == "127.0.0.1:1"


def test_node_that_crashed_begins_a_reign_that_nobody_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E6."""
    node = Node.load_or_create(*_paths(tmp_path, monkeypatch))
    assert not node.lineage[-1].is_unasked
    assert node.begin_reign(10).is_unasked
    assert not node.promote(20, None).is_unasked
    assert node.begin_reign(30).is_unasked
    assert [each.epoch for each in node.lineage] == [1, 2, 3, 4]


def test_crashes_of_a_promoted_node_before_its_first_entry_raise_no_number_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E6: the promotion still counts, and no higher than it did."""
    node = Node.load_or_create(*_paths(tmp_path, monkeypatch))
    promoted = node.promote(20, None)
    for epoch in (3, 4):
        reign = node.begin_reign(20)
        assert (reign.epoch, reign.is_unasked, reign.first_offset) == (epoch, True, 21)
    assert node.lineage[1:] == (promoted, reign)
    later = (node.lineage[0], new_reign(3, 21))
    assert (outranks(later, node.lineage), outranks(node.lineage, later)) == (True, False)
    assert outranks(node.lineage, (node.lineage[0], promoted))


def test_reign_that_lost_more_than_its_entries_is_replaced_by_one_that_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E6."""
    node = Node.load_or_create(*_paths(tmp_path, monkeypatch))
    node.promote(20, None)
    assert not node.begin_reign(19).is_unasked
    assert [each.epoch for each in node.lineage] == [1, 3]


def test_node_whose_disk_is_full_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disks.small_disk(tmp_path / "data", 256 * 1024) as disk:
        node = Node.load_or_create(*_paths(tmp_path, monkeypatch))
        before = node.identity
        disks.fill(disk)
        for change in (
            lambda: node.end_reign(7),
            lambda: node.begin_reign(3),
            lambda: node.promote(3, None),
            lambda: node.follow("127.0.0.1:5", "127.0.0.1:9"),
        ):
            with pytest.raises(DiskFull):
                change()
            assert node.identity == before == read_identity(disk / "node.json")


def test_node_told_to_follow_wins_over_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1."""
    config, paths = _paths(tmp_path, monkeypatch)
    node = Node.load_or_create(config, paths)
    node.end_reign(7)
    node.follow("127.0.0.1:5", "127.0.0.1:9")
    found = Node.load_or_create(config, paths)
    assert (found.role, found.identity.ended_by_epoch) == ("replica", 0)
    assert found.master_addresses(config) == ("127.0.0.1:5", "127.0.0.1:9")


def test_node_promoted_again_reigns_above_what_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2."""
    config, paths = _paths(tmp_path, monkeypatch)
    node = Node.load_or_create(config, paths)
    node.end_reign(7)
    node.end_reign(5)
    assert Node.load_or_create(config, paths).identity.ended_by_epoch == 7
    assert node.promote(0, None).epoch == 8
    assert Node.load_or_create(config, paths).identity.ended_by_epoch == 0


def test_seal_is_kept_and_given_to_one_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cites S1 and S3."""
    config, paths = _paths(tmp_path, monkeypatch, "replica")
    node = Node.load_or_create(config, paths)
    node.adopt((new_reign(4, 10),))
    for epoch in (3, 4):
        with pytest.raises(SealRefused, match="epoch 4"):
            node.seal(epoch, "one")
    node.seal(5, "one")
    node.seal(5, "one")
    again = Node.load_or_create(config, paths)
    with pytest.raises(SealRefused, match="promised to one"):
        again.seal(5, "two")
    again.seal(6, "two")
    assert read_identity(paths.node_file).sealed_for == "two"


def test_promotion_by_number_needs_the_own_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cites S3."""
    config, paths = _paths(tmp_path, monkeypatch, "replica")
    node = Node.load_or_create(config, paths)
    node.adopt((new_reign(4, 10),))
    node.seal(7, "one")
    node.check_promised(7, "one")
    for epoch, candidate in ((8, "one"), (7, "two")):
        with pytest.raises(SealRefused, match="sealed for"):
            node.check_promised(epoch, candidate)
    assert node.promote(12, None, 7).epoch == 7
    with pytest.raises(SealRefused):
        node.check_promised(7, "one")
    # Nothing that was promised to somebody else is used.
    node.seal(9, "two")
    assert node.promote(12, None).epoch == 10
