"""Series over real processes: sums never fall, files of the dead are used again."""

import multiprocessing
import os
import resource
from collections.abc import Callable
from pathlib import Path

from synap.shared.series import COUNT_BOUNDS, OVERFLOW, Series, read_series


def _count(folder: Path, times: int) -> None:
    series = Series(folder)
    for _ in range(times):
        series.count(("resyncs", "full"))
    os._exit(0)


def _count_without_room(folder: Path, times: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    _count(folder, times)


def _run(folder: Path, times: int, count: Callable[[Path, int], None] = _count) -> None:
    process = multiprocessing.get_context("spawn").Process(target=count, args=(folder, times))
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_sums_hold_living_and_ended_processes_in_one_file_each(tmp_path: Path) -> None:
    series = Series(tmp_path)
    series.count(("resyncs", "full"), 5)
    _run(tmp_path, 10)
    _run(tmp_path, 10)
    assert read_series(tmp_path)["resyncs", "full"][0] == 25
    assert len(list(tmp_path.iterdir())) == 2
    series.close()


def test_process_without_room_for_its_file_counts_for_itself(tmp_path: Path) -> None:
    _run(tmp_path, 10, _count_without_room)
    assert ("resyncs", "full") not in read_series(tmp_path)
    _run(tmp_path, 10)
    assert read_series(tmp_path)["resyncs", "full"][0] == 10


def test_series_goes_on_where_the_last_holder_of_its_file_stopped(tmp_path: Path) -> None:
    for _ in range(2):
        series = Series(tmp_path)
        series.observe(("batch",), 3, COUNT_BOUNDS)
        series.close()
    assert read_series(tmp_path)["batch",][:5] == [6, 0, 0, 2, 0]


def test_value_on_a_bound_counts_below_it_and_a_huge_one_in_the_last_cell(tmp_path: Path) -> None:
    series = Series(tmp_path)
    series.observe(("batch",), COUNT_BOUNDS[1], COUNT_BOUNDS)
    series.observe(("batch",), 10**9, COUNT_BOUNDS)
    counts = read_series(tmp_path)["batch",][1:]
    assert (counts[1], counts[len(COUNT_BOUNDS)], sum(counts)) == (1, 1, 2)
    series.close()


def test_more_names_than_slots_are_counted_together(tmp_path: Path) -> None:
    series = Series(tmp_path)
    for number in range(600):
        series.count(("resyncs", str(number)))
    series.count(("x" * 200,))
    sums = read_series(tmp_path)
    assert len(sums) == 512
    assert sum(cells[0] for cells in sums.values()) == 601
    assert sums[OVERFLOW][0] == 601 - 511
    series.close()


def test_file_of_another_size_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "series-0").write_bytes(b"x" * 100)
    assert read_series(tmp_path) == {}
    series = Series(tmp_path)
    assert list(read_series(tmp_path)) == [OVERFLOW]
    series.close()
