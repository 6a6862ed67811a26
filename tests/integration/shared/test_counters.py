"""Counters over real processes: sums never fall, rows of the dead are used again."""

import multiprocessing
import os
from pathlib import Path

from synap.shared.series import Counter, Counters


def _count(path: Path, times: int) -> None:
    counters = Counters(path)
    for _ in range(times):
        counters.row[Counter.GETS] += 1
    os._exit(0)


def _run(path: Path, times: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_count, args=(path, times))
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_total_sums_rows_of_living_and_ended_processes(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    counters = Counters(path)
    counters.row[Counter.GETS] += 5
    counters.row[Counter.HITS] += 1
    _run(path, 1000)
    _run(path, 1000)
    assert counters.total(Counter.GETS) == 2005
    assert counters.total(Counter.HITS) == 1
    assert counters.total(Counter.SETS) == 0
    counters.close()


def test_row_of_an_ended_process_goes_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    _run(path, 10)
    counters = Counters(path)
    assert counters.row[Counter.GETS] == 10
    counters.close()
