"""How workers know of each other's connections."""

from __future__ import annotations

import multiprocessing

import pytest

from synap.shared.connection_counts import Tally

DEADLINE_SECONDS = 20


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (8, 7, False), (8, 6, True), (160, 150, False),
     (160, 148, True)],
)  # fmt: skip
def test_is_ahead_of_one_that_has_clearly_fewer(mine: int, others: int, expected: bool) -> None:
    tally = Tally()
    seat, other = tally.seat(1), tally.seat(2)
    seat.connections = mine
    other.connections = others
    assert seat.is_ahead() is expected
    assert not other.is_ahead() or others > mine


def test_is_ahead_of_nobody_where_the_other_has_left() -> None:
    tally = Tally()
    seat, other = tally.seat(1), tally.seat(2)
    seat.connections = 9
    assert seat.is_ahead()
    other.leave()
    assert not seat.is_ahead()


def test_seats_are_shared_with_a_forked_process_and_free_when_it_is_gone() -> None:
    tally = Tally()
    seat = tally.seat(1)
    seat.connections = 9
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()

    def sit() -> None:
        tally.seat(2)
        there.send("seated")
        there.recv()

    process = fork.Process(target=sit, daemon=True)
    process.start()
    assert here.poll(DEADLINE_SECONDS)
    assert here.recv() == "seated"
    assert seat.is_ahead()
    process.kill()
    process.join(DEADLINE_SECONDS)
    assert not seat.is_ahead()
