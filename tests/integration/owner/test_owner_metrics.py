"""What the log's owner measures of its log."""

from __future__ import annotations

import os
from pathlib import Path

from synap.owner.owner_metrics import TimedFiles
from synap.shared.series import FSYNC, Series, read_series


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
