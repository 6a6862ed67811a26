"""The wall clock in the frames of a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.wal.walk import LogWalk
from tests.integration.node_dirs import START_MS, open_node, write

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


def test_stamp_does_not_go_back_with_the_clock_nor_over_a_restart(tmp_path: Path) -> None:
    with open_node(tmp_path / "node") as log:
        write(log, ["a"], b"v", START_MS)
        write(log, ["b"], b"v", START_MS - HOUR_MS)
    with open_node(tmp_path / "node") as log:
        write(log, ["c"], b"v", START_MS - 1)
        write(log, ["d"], b"v", START_MS + 1)
    stamps = [each.frame.time_ms for each in LogWalk(tmp_path / "node" / "wal").frames()]
    assert stamps == [START_MS, START_MS, START_MS, START_MS + 1]
