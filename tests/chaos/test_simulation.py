"""The simulated clusters of the unit tests, without agents and with them, for many more seeds."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.chaos.length import IS_LONG
from tests.simulation.guarded_run import simulate_agents
from tests.simulation.run import simulate

# Those below are run with every test run.
FIRST = 500
SEEDS = int(os.environ.get("SYNAP_CHAOS_SEEDS", "50000"))
_BATCH = 100


def run_batch(simulation: Callable[[int], list[str]], first: int) -> int:
    """Run a batch of seeds; return how many lines they told."""
    # Each jump of a clock and each damaged file would be told.
    logging.disable()
    return sum(len(simulation(seed)) for seed in range(first, first + _BATCH))


@pytest.mark.skipif(not IS_LONG, reason="the unit tests run the first seeds")
@pytest.mark.timeout(8 * 3600)
@pytest.mark.parametrize("simulation", [simulate, simulate_agents])
def test_nodes_agree_and_no_acknowledged_write_is_gone(
    simulation: Callable[[int], list[str]],
) -> None:
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        batches = range(FIRST, FIRST + SEEDS, _BATCH)
        lines = sum(pool.map(partial(run_batch, simulation), batches))
    assert lines > SEEDS
    rate = SEEDS / (time.monotonic() - began)
    print(f"{simulation.__name__}: {SEEDS} seeds, {rate:.0f} a second, {lines} events told")
