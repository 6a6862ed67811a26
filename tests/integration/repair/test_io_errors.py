"""The k-th file call of a repair fails, for every k: it can be done again, and nothing is lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from synap.disk import DISK, Files
from synap.errors import RepairRefused
from synap.repair.log_repair import Repair
from synap.snapshot.image import write_snapshot
from synap.store.generations import set_aside
from tests.integration.failing_disk import every_disk, every_failure
from tests.integration.kth_call import ONCE
from tests.integration.node_dirs import START_MS, digest_of, open_node, write
from tests.integration.wal_logs import segments_in

VALUE = bytes(600_000)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


def damaged_node(folder: Path, cover: str) -> dict[str, bytes]:
    """Make a node with four segments, the second damaged; return what the log's files hold.

    Args:
        cover: What makes up for the damage: `nothing`, a `snapshot`, or the live `store`.
    """
    with open_node(folder) as log:
        for number in range(4):
            write(log, [f"key{number}"], VALUE)
            if number == 2 and cover == "snapshot":
                write_snapshot(
                    log.store.reader(), folder / "snapshots", log.lineage,
                    compress=False, now_ms=START_MS,
                )  # fmt: skip
    if cover != "store":
        set_aside(folder / "store")
    paths = segments_in(folder / "wal")
    content = bytearray(paths[1].read_bytes())
    content[200] ^= 1
    paths[1].write_bytes(content)
    return {path.name: path.read_bytes() for path in paths}


def carry_out(folder: Path, name: str, files: Files = DISK) -> None:
    with Repair(folder / "wal", files) as repair:
        if repair.plan is not None:
            repair.carry_out(name, START_MS)


def check_nothing_is_lost(folder: Path, before: dict[str, bytes]) -> None:
    """Each segment is there whole, or cut with all that was cut off beside; and nothing is half."""
    wal = folder / "wal"
    removed = {path.name: path.read_bytes() for path in wal.glob("removed-*/*")}
    for name, content in removed.items():
        whole, _, at = name.partition(".from-byte-")
        assert content == before[whole][int(at or 0) :], name
    for name, content in before.items():
        if removed.get(name) != content:
            kept = (wal / name).read_bytes()
            assert kept == content[: len(kept)], name
            rest = removed.get(f"{name}.from-byte-{len(kept)}", b"")
            assert kept + rest == content, name


@every_failure
@pytest.mark.parametrize(("cover", "at_least"), [("nothing", 12), ("snapshot", 6), ("store", 15)])
def test_repair_with_the_kth_call_failing_can_be_done_again(
    tmp_path: Path, error: int, length: str, cover: str, at_least: int
) -> None:
    held = 1 if cover == "nothing" else 4
    for number, files in every_disk(error, length, at_least):
        folder = tmp_path / f"try {number}"
        before = damaged_node(folder, cover)
        with suppress(RepairRefused):
            carry_out(folder, "removed-1", files)
        carry_out(folder, "removed-2")
        check_nothing_is_lost(folder, before)
        if length == ONCE:
            assert all(any(each.iterdir()) for each in (folder / "wal").glob("removed-*"))
        assert digest_of(folder)[:2] == (held, held), files.failed
