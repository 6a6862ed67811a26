"""What the log's owner adds to the metrics, over restarts."""

from __future__ import annotations

import os
from pathlib import Path

from synap.owner.owner_metrics import EXPIRED, FSYNC, GAPS, OwnerSeries, TimedFiles
from synap.shared.board import Board, NodeDetails
from synap.shared.series import Series, read_series


def total(folder: Path, name: tuple[str, ...]) -> int:
    cells = read_series(folder).get(name)
    return cells[0] if cells else 0


def test_totals_of_one_owner_after_the_other_add_up(tmp_path: Path) -> None:
    for told in ((3, 5), (2, 2), (0, 4)):
        board, series = Board(tmp_path / "board"), Series(tmp_path)
        owner = OwnerSeries(series, board)
        owner.add_up()
        for expired in told:
            board.publish_details(NodeDetails(expired_total=expired, gaps_total=1))
            owner.add_up()
            owner.add_up()
        series.close()
        board.close()
    assert total(tmp_path, EXPIRED) == 5 + 2 + 4
    assert total(tmp_path, GAPS) == 3


def test_each_sync_of_the_log_is_timed(tmp_path: Path) -> None:
    series = Series(tmp_path)
    files = TimedFiles(series)
    file = files.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    for _ in range(3):
        files.sync(file)
    files.close(file)
    cells = read_series(tmp_path)[FSYNC]
    assert cells[0] > 0
    assert sum(cells[1:]) == 3
    series.close()
