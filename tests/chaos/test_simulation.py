"""The simulated cluster of `tests/unit/test_simulation.py`, for many more seeds."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.chaos.length import IS_LONG
from tests.simulation.run import simulate

# Those below are run with every test run.
FIRST = 500
SEEDS = int(os.environ.get("SYNAP_CHAOS_SEEDS", "50000"))
_BATCH = 100


def run_batch(first: int) -> int:
    """Run a batch of seeds; return how many lines they told."""
    # Each jump of a clock and each damaged file would be told.
    logging.disable()
    return sum(len(simulate(seed)) for seed in range(first, first + _BATCH))


@pytest.mark.skipif(not IS_LONG, reason="the unit tests run the first seeds")
@pytest.mark.timeout(4 * 3600)
def test_nodes_agree_and_no_acknowledged_write_is_gone() -> None:
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        lines = sum(pool.map(run_batch, range(FIRST, FIRST + SEEDS, _BATCH)))
    assert lines > SEEDS
    rate = SEEDS / (time.monotonic() - began)
    print(f"{SEEDS} seeds, {rate:.0f} a second, {lines} events told")
