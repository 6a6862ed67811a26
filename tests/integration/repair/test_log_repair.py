"""Checking, repairing and rebuilding what a node refuses, on the data directories of real nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synap.errors import DataDirInUse, RepairRefused, WalCorrupt
from synap.node.identity import lock_file
from synap.repair.log_repair import Repair
from synap.repair.store_rebuild import rebuild_store
from synap.snapshot.image import write_snapshot
from synap.store.generations import set_aside
from synap.wal.walk import LogWalk, check_log
from tests.integration.node_dirs import START_MS, digest_of, open_node, write
from tests.integration.wal_logs import build_log, contents, segments_in

BIG = bytes(600_000)
NAME = "removed-now"


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node with six writes, each but the last in a segment of its own; stopped."""
    with open_node(tmp_path / "node") as log:
        for number in range(6):
            write(log, [f"key{number}"], BIG)
    return tmp_path / "node"


def snapshot_at(folder: Path, offset: int) -> None:
    """Make a node with six writes again, with a snapshot at one of them."""
    with open_node(folder) as log:
        for number in range(6):
            write(log, [f"key{number}"], BIG)
            if log.position.offset == offset:
                write_snapshot(
                    log.store.reader(), folder / "snapshots", log.lineage,
                    compress=False, now_ms=START_MS,
                )  # fmt: skip


def damage(folder: Path, segment: int, at: int = 200) -> Path:
    path = segments_in(folder / "wal")[segment]
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    return path


def distrust(folder: Path) -> None:
    set_aside(folder / "store")


def repair(folder: Path) -> Repair:
    with Repair(folder / "wal") as repair:
        if repair.plan is not None:
            repair.carry_out(NAME, START_MS)
        return repair


def test_check_of_a_sound_log_counts_all_of_it(node: Path) -> None:
    report = check_log(node / "wal")
    assert (report.frames, report.entries, report.position.offset) == (6, 6, 6)
    assert (report.bad, report.unread, report.first_offset) == (None, (), 1)


def test_check_of_an_empty_folder_is_an_empty_log(tmp_path: Path) -> None:
    report = check_log(tmp_path)
    assert (report.segments, report.bad, report.position.offset) == ((), None, 0)


def test_check_of_a_damaged_log_names_segment_and_byte(node: Path) -> None:
    path = damage(node, 2)
    report = check_log(node / "wal")
    assert report.bad is not None
    assert (report.bad.path, report.bad.byte_position, report.bad.is_torn) == (path, 68, False)
    assert (report.position.offset, len(report.unread)) == (2, 3)


def test_check_calls_torn_what_a_node_would_cut_and_changes_nothing(tmp_path: Path) -> None:
    build_log(tmp_path, 3)
    segment = segments_in(tmp_path)[0]
    whole = segment.read_bytes()
    for length in range(len(whole) - 60, len(whole)):
        segment.write_bytes(whole[:length])
        report = check_log(tmp_path)
        assert report.bad is not None
        assert report.bad.is_torn
        assert report.frames == 2
        assert segment.stat().st_size == length


def test_check_of_every_flipped_bit_never_calls_the_log_sound(tmp_path: Path) -> None:
    build_log(tmp_path, 3)
    segment = segments_in(tmp_path)[0]
    whole = segment.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        segment.write_bytes(flipped)
        assert check_log(tmp_path).bad is not None, at


def test_walk_from_an_offset_leaves_out_the_segments_before_it(node: Path) -> None:
    walk = LogWalk(node / "wal")
    assert [each.frame.first_offset for each in walk.frames(3)] == [4, 5, 6]


def test_repair_of_a_sound_log_has_nothing_to_do(node: Path) -> None:
    assert repair(node).plan is None


def test_repair_while_the_node_runs_is_refused(node: Path) -> None:
    lock = lock_file(node / "node.lock")
    try:
        with pytest.raises(DataDirInUse):
            Repair(node / "wal")
    finally:
        os.close(lock)


def test_repair_behind_a_trusted_store_snapshots_it_and_loses_nothing(node: Path) -> None:
    expected = digest_of(node)
    damage(node, 4)
    plan = repair(node).plan
    assert plan is not None
    assert (plan.takes_snapshot, plan.lost_after) == (True, None)
    assert digest_of(node) == expected
    distrust(node)
    assert digest_of(node) == expected


def test_repair_before_a_snapshot_keeps_what_goes_on_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    snapshot_at(folder, 4)
    expected = digest_of(folder)
    distrust(folder)
    damage(folder, 1)
    plan = repair(folder).plan
    assert plan is not None
    assert plan.lost_after is None
    assert [path.name for path in plan.moved] == [
        f"synap-{number:020d}.wal" for number in (1, 2, 3, 4)
    ]
    assert digest_of(folder) == expected


def test_repair_before_a_snapshot_keeps_what_goes_on_from_it_up_to_a_torn_end(
    tmp_path: Path,
) -> None:
    """The last write was cut short; the one before it is behind the snapshot, and stays."""
    folder = tmp_path / "node"
    snapshot_at(folder, 4)
    distrust(folder)
    damage(folder, 1)
    last = segments_in(folder / "wal")[-1]
    os.truncate(last, last.stat().st_size - 3)
    plan = repair(folder).plan
    assert plan is not None
    assert plan.lost_after is None
    assert digest_of(folder)[:2] == (5, 5)


def test_repair_of_the_segment_behind_a_snapshot_goes_back_to_the_snapshot(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    snapshot_at(folder, 4)
    distrust(folder)
    damage(folder, 3)
    damage(folder, 4)
    plan = repair(folder).plan
    assert plan is not None
    assert plan.lost_after == 4
    assert digest_of(folder)[:2] == (4, 4)


def test_repair_without_anything_else_cuts_at_the_bad_place(node: Path) -> None:
    distrust(node)
    path = damage(node, 3)
    with pytest.raises(WalCorrupt), open_node(node):
        pass
    plan = repair(node).plan
    assert plan is not None
    assert (plan.cut, plan.keep_bytes, plan.lost_after) == (path, 68, 3)
    assert digest_of(node)[:2] == (3, 3)
    with open_node(node) as log:
        # Others may hold what was lost here; a new epoch keeps the two apart.
        assert log.lineage[-1].epoch == 2


def test_repair_keeps_every_byte_that_it_removes(node: Path) -> None:
    distrust(node)
    damage(node, 3)
    before = contents(node / "wal")
    repair(node)
    kept = contents(node / "wal" / NAME)
    after = contents(node / "wal")
    cut = "synap-00000000000000000004.wal"
    assert after[cut] + kept[f"{cut}.from-byte-68"] == before[cut]
    for name in ("synap-00000000000000000005.wal", "synap-00000000000000000006.wal"):
        assert kept[name] == before[name]
        assert name not in after


def test_repair_of_a_missing_segment_takes_what_is_behind_the_hole(node: Path) -> None:
    distrust(node)
    segments_in(node / "wal")[2].unlink()
    plan = repair(node).plan
    assert plan is not None
    assert (plan.cut, plan.lost_after, len(plan.moved)) == (None, 2, 3)
    assert digest_of(node)[:2] == (2, 2)


def test_repair_of_a_torn_tail_cuts_it_and_keeps_it(tmp_path: Path) -> None:
    build_log(tmp_path / "wal", 3)
    segment = segments_in(tmp_path / "wal")[0]
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-3])
    plan = repair(tmp_path).plan
    assert plan is not None
    assert (plan.lost_after, plan.rebuilds) == (None, False)
    assert check_log(tmp_path / "wal").bad is None
    assert (
        segment.read_bytes() + next((tmp_path / "wal" / NAME).iterdir()).read_bytes()
        == (whole[:-3])
    )


def test_rebuild_leads_to_the_same_state(node: Path) -> None:
    expected = digest_of(node)
    rebuild = rebuild_store(node)
    assert (rebuild.snapshot, rebuild.log.position.offset, rebuild.had_store) == (None, 6, True)
    assert digest_of(node) == expected


def test_rebuild_from_a_damaged_log_is_refused_and_keeps_the_store(node: Path) -> None:
    damage(node, 2)
    with pytest.raises(RepairRefused, match="synap wal repair"):
        rebuild_store(node)
    assert (node / "store" / "CURRENT").exists()


def test_rebuild_without_the_logs_beginning_and_a_snapshot_is_refused(node: Path) -> None:
    segments_in(node / "wal")[0].unlink()
    with pytest.raises(RepairRefused, match="no snapshot reaches so far"):
        rebuild_store(node)


def test_rebuild_while_the_node_runs_is_refused(node: Path) -> None:
    lock = lock_file(node / "node.lock")
    try:
        with pytest.raises(DataDirInUse):
            rebuild_store(node)
    finally:
        os.close(lock)
