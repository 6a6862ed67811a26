"""The table of access times over real shared memory and real processes."""

import logging
import multiprocessing
import os
from pathlib import Path

import pytest

from synap.eviction.access_table import AccessTable, cell_bits
from synap.eviction.rules import FIRST_COUNT, MAX_COUNT, POLICIES

MIB = 1024 * 1024
SECOND = 1_000_000_000


def _touch(folder: Path, key: bytes, times: int) -> None:
    table = AccessTable.open(folder, "recency", MIB)
    for _ in range(times):
        table.touch(key)
    os._exit(0)


def test_use_in_another_process_is_seen(tmp_path: Path) -> None:
    table = AccessTable.open(tmp_path, "recency", MIB)
    table.tick(SECOND)
    table.touch(b"a")
    table.tick(3 * SECOND)
    process = multiprocessing.get_context("spawn").Process(target=_touch, args=(tmp_path, b"b", 1))
    process.start()
    process.join(30)
    table.tick(4 * SECOND)
    assert (table.coldness(b"a"), table.coldness(b"b")) == (300, 100)
    assert table.coldness(b"never") > 300
    table.close()


def test_clock_goes_on_after_a_restart_with_an_earlier_clock(tmp_path: Path) -> None:
    table = AccessTable.open(tmp_path, "recency", MIB)
    table.tick(500 * SECOND)
    table.touch(b"old")
    table.close()
    table = AccessTable.open(tmp_path, "recency", MIB)
    table.tick(SECOND)
    table.touch(b"new")
    table.tick(2 * SECOND)
    assert table.coldness(b"old") > table.coldness(b"new") == 100
    assert table.coldness(b"old") < 200
    table.close()


def test_frequency_much_used_is_less_cold_and_cools_down(tmp_path: Path) -> None:
    table = AccessTable.open(tmp_path, "frequency", MIB)
    table.tick(0)
    table.wrote(b"hot")
    table.wrote(b"cold")
    for _ in range(1000):
        table.touch(b"hot")
    assert table.coldness(b"cold") == MAX_COUNT - FIRST_COUNT
    hot = table.coldness(b"hot")
    assert hot < MAX_COUNT - 2 * FIRST_COUNT
    table.tick(60 * SECOND * 3)
    assert table.coldness(b"hot") == hot + 3
    table.touch(b"hot")
    assert hot + 2 <= table.coldness(b"hot") <= hot + 3
    table.close()


def test_frequency_key_written_again_begins_anew(tmp_path: Path) -> None:
    table = AccessTable.open(tmp_path, "frequency", MIB)
    table.tick(0)
    table.wrote(b"k")
    table.tick(60 * SECOND * 10)
    assert table.coldness(b"k") == MAX_COUNT
    table.wrote(b"k")
    assert table.coldness(b"k") == MAX_COUNT - FIRST_COUNT
    table.close()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-random", "volatile-ttl"])
def test_policy_without_access_times_makes_no_table(tmp_path: Path, policy: str) -> None:
    assert AccessTable.of(POLICIES[policy], tmp_path, MIB) is None
    assert AccessTable.of(POLICIES["allkeys-lru"], tmp_path, 0) is None
    assert list(tmp_path.iterdir()) == []


def test_table_that_cannot_be_shared_works_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        table = AccessTable.open(tmp_path / "missing", "recency", MIB)
    table.tick(SECOND)
    table.touch(b"k")
    assert table.coldness(b"k") == 0
    assert "reads do not count for eviction" in caplog.text
    table.close()


def test_table_is_reserved_in_full(tmp_path: Path) -> None:
    table = AccessTable.open(tmp_path, "recency", 64 * MIB)
    (path,) = tmp_path.iterdir()
    size = path.stat().st_size
    assert size == (4 << cell_bits(64 * MIB)) + 4096
    assert path.stat().st_blocks * 512 >= size
    table.close()
