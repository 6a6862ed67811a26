"""How workers know of each other's connections."""

from __future__ import annotations

import multiprocessing

import pytest

from synap.shared.connection_counts import ConnectionCounts

DEADLINE_SECONDS = 20


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (8, 7, False), (8, 6, True), (160, 150, False),
     (160, 148, True)],
)  # fmt: skip
def test_is_ahead_of_one_that_has_clearly_fewer(mine: int, others: int, expected: bool) -> None:
    counts = ConnectionCounts()
    worker_slot, other = counts.worker_slot(1), counts.worker_slot(2)
    worker_slot.connections = mine
    other.connections = others
    assert worker_slot.is_ahead() is expected
    assert not other.is_ahead()


def test_is_ahead_of_nobody_where_the_other_has_left() -> None:
    counts = ConnectionCounts()
    worker_slot, other = counts.worker_slot(1), counts.worker_slot(2)
    worker_slot.connections = 9
    assert worker_slot.is_ahead()
    other.leave()
    assert not worker_slot.is_ahead()


def test_seats_are_shared_with_a_forked_process_and_free_when_it_is_gone() -> None:
    counts = ConnectionCounts()
    worker_slot = counts.worker_slot(1)
    worker_slot.connections = 9
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()

    def sit() -> None:
        counts.worker_slot(2)
        there.send("seated")
        there.recv()

    process = fork.Process(target=sit, daemon=True)
    process.start()
    assert here.poll(DEADLINE_SECONDS)
    assert here.recv() == "seated"
    assert worker_slot.is_ahead()
    process.kill()
    process.join(DEADLINE_SECONDS)
    assert not worker_slot.is_ahead()
