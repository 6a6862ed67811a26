"""Writes that pause: waiting, refused, going on."""

from __future__ import annotations

from synap.writer.pause import Pause


def test_pause_holds_then_refuses_then_ends_by_itself() -> None:
    """W1."""
    pause = Pause(hold_seconds=2.0)
    assert not pause.is_on(99.0)
    pause.begin(100.0, 5.0)
    assert (pause.is_on(101.9), pause.is_holding(101.9)) == (True, True)
    assert (pause.is_on(102.0), pause.is_holding(102.0)) == (True, False)
    assert (pause.is_on(105.0), pause.is_holding(105.0)) == (False, False)


def test_second_pause_moves_the_end_and_lets_no_write_wait_longer() -> None:
    pause = Pause(hold_seconds=2.0)
    pause.begin(100.0, 5.0)
    pause.begin(101.0, 5.0)
    assert pause.is_on(105.9)
    assert not pause.is_holding(102.0)


def test_pause_that_was_ended_holds_nothing() -> None:
    pause = Pause(hold_seconds=2.0)
    pause.begin(100.0, 5.0)
    pause.end()
    assert (pause.is_on(100.5), pause.is_holding(100.5)) == (False, False)
    pause.begin(101.0, 5.0)
    assert pause.is_holding(102.9)
