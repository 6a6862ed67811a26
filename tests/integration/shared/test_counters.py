"""Counters over real processes: sums never fall, rows of the dead are used again."""

import multiprocessing
import os
from pathlib import Path

from synap.shared.counters import Counter, Counters, read_counters


def _count(folder: Path, times: int) -> None:
    counters = Counters(folder)
    for _ in range(times):
        counters.row[Counter.SETS] += 1
    os._exit(0)


def _run(folder: Path, times: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_count, args=(folder, times))
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_total_sums_rows_of_living_and_ended_processes(tmp_path: Path) -> None:
    counters = Counters(tmp_path)
    counters.row[Counter.SETS] += 5
    counters.row[Counter.HITS] += 1
    counters.row[Counter.MISSES] += 2
    _run(tmp_path, 1000)
    _run(tmp_path, 1000)
    totals = read_counters(tmp_path)
    assert totals[Counter.SETS] == 2005
    assert totals[Counter.HITS] == 1
    assert totals[Counter.GETS] == 3
    assert totals[Counter.DELS] == 0
    counters.close()


def test_row_of_an_ended_process_goes_on_counting(tmp_path: Path) -> None:
    _run(tmp_path, 10)
    counters = Counters(tmp_path)
    assert counters.row[Counter.SETS] == 10
    counters.close()
