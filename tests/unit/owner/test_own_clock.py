"""A master's clock, on clocks that the test moves."""

from __future__ import annotations

from collections import Counter

import pytest

from synap.owner.own_clock import CONFIRMED_AFTER_NS, JUMP_NS, OwnClock
from synap.shared.node_clock import ClockWord
from synap.shared.series import CLOCK_JUMPS, Name

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS


class Machine:
    """A wall clock that is `ahead_ns` of a steady one, and the word that processes see."""

    def __init__(self) -> None:
        self.ahead_ns = START_NS
        self.steady_ns = 5 * SECOND_NS
        self.counted: Counter[Name] = Counter()
        self.memory = memoryview(bytearray(8)).cast("q")

    def clock(self) -> OwnClock:
        return OwnClock(
            ClockWord(self.memory), self.count, lambda: self.ahead_ns, lambda: self.steady_ns
        )

    def count(self, name: Name, count: int = 1, /) -> None:
        self.counted[name] += count


@pytest.mark.parametrize("step_ns", [JUMP_NS, -JUMP_NS, 1])
def test_own_clock_follows_a_small_step_at_once(step_ns: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ahead_ns += step_ns
    clock.look()
    assert (machine.memory[0], clock.held_seconds) == (START_NS + step_ns, 0)
    assert not machine.counted


@pytest.mark.parametrize("step_ns", [JUMP_NS + 1, -3600 * SECOND_NS])
def test_own_clock_holds_a_jump_back_until_a_minute_has_confirmed_it(step_ns: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ahead_ns += step_ns
    clock.look()
    machine.steady_ns += CONFIRMED_AFTER_NS - 1
    clock.look()
    assert machine.memory[0] == START_NS
    assert clock.held_seconds == pytest.approx(step_ns / SECOND_NS)
    machine.steady_ns += 1
    clock.look()
    assert (machine.memory[0], clock.held_seconds) == (START_NS + step_ns, 0)
    assert machine.counted[CLOCK_JUMPS] == 1


def test_own_clock_that_jumps_again_waits_anew_and_back_is_right() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ahead_ns += 3600 * SECOND_NS
    clock.look()
    machine.steady_ns += CONFIRMED_AFTER_NS
    machine.ahead_ns += 3600 * SECOND_NS
    clock.look()
    assert machine.memory[0] == START_NS
    machine.ahead_ns = START_NS
    clock.look()
    assert clock.held_seconds == 0
    machine.steady_ns += CONFIRMED_AFTER_NS
    clock.look()
    assert machine.memory[0] == START_NS


def test_own_clock_follows_a_jump_at_an_operators_word() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ahead_ns += 7200 * SECOND_NS
    assert clock.confirm() == 7200
    assert clock.confirm() == 0
    assert clock.now_ms() == (START_NS + 7205 * SECOND_NS) // 1_000_000


def test_own_clock_of_a_new_owner_goes_on_where_the_last_one_was() -> None:
    machine = Machine()
    machine.clock()
    machine.ahead_ns += 7200 * SECOND_NS
    clock = machine.clock()
    assert (machine.memory[0], clock.held_seconds) == (START_NS, 7200)
