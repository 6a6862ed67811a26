"""One system under one load, round by round, and what its rounds came to."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from ops.bench.cpu import cpu_seconds
from ops.bench.data import FAULTS
from ops.bench.errors import MeasurementFailed
from ops.bench.fleet import Member
from ops.bench.wrk import Load, Outcome, check, key_name, measure, value_text

CHECK_SECONDS = 1
_PAIRS_A_REQUEST = 1000
_SAMPLES = 500
_FIRST_TAG = "first"


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one system."""

    outcome: Outcome
    cpu_us: float


class Attempts:
    """What is tried with one system in one row, up to the first fault.

    Attributes:
        fault: Why there is no figure; empty where there is one.
    """

    def __init__(self) -> None:
        self.fault = ""

    def attempt(self, action: Callable[[], object]) -> None:
        """Run `action`, unless there was a fault before; keep a fault of its own."""
        if self.fault:
            return
        try:
            action()
        except FAULTS as error:
            self.fault = str(error)


class Contender(Attempts):
    """One system in one row, driven by wrk.

    Attributes:
        system: What is driven.
        load: How; each round sets a tag of its own.
        rounds: The measurements, in order.
        settle: Waits until what a load set going has ended, so that it does not disturb the next.
    """

    def __init__(self, member: Member, load: Load, seconds: int) -> None:
        super().__init__()
        self.system = member.system
        self.load = load
        self.rounds: list[Round] = []
        self.settle: Callable[[], object] = lambda: None
        self._member = member
        self._seconds = seconds

    def prepare(self) -> None:
        """Start the system, write every key, and look at the answers to a short load; each once."""
        member, load = self._member, self.load
        member.start()
        numbers = iter(range(member.filled_keys, load.keys))
        while batch := [key_name(number) for number in islice(numbers, _PAIRS_A_REQUEST)]:
            self.system.write([(key, value_text(key, _FIRST_TAG)) for key in batch])
            member.filled_keys += len(batch)
        if load.operation not in member.checked:
            check(self.system.url, replace(load, tag="checked"), CHECK_SECONDS)
            member.checked.add(load.operation)
        self.settle()

    def measure(self, tag: str) -> None:
        """Measure one round, and look at samples of what it left."""
        self.rounds.append(self.take(tag, self._seconds))
        self._verify(tag)
        self.settle()

    def take(self, tag: str, seconds: int) -> Round:
        """Return one measurement that is not kept."""
        pids = self.system.pids()
        before = cpu_seconds(pids)
        outcome = measure(self.system.url, replace(self.load, tag=tag), seconds)
        used = cpu_seconds(pids) - before
        return Round(outcome, used / outcome.requests * 1e6)

    def figure(self, of: Callable[[Round], float]) -> float:
        """Return the median of one figure over the rounds."""
        return statistics.median(map(of, self.rounds))

    def median(self, of: Callable[[Round], float], form: str) -> str:
        """Return the median of one figure over the rounds as text; a dash after a fault."""
        return "–" if self.fault else format(self.figure(of), form)

    def _verify(self, tag: str) -> None:
        numbers = random.sample(range(self.load.keys), min(_SAMPLES, self.load.keys))
        written = 0
        for key in map(key_name, numbers):
            value = self.system.read(key)
            if not isinstance(value, str) or value != value_text(key, value.split("-")[1]):
                raise MeasurementFailed(f"{key} holds {value!r}")
            written += value == value_text(key, tag)
        if self.load.operation == "set" and not written:
            raise MeasurementFailed(f"none of {len(numbers)} keys holds what was set")


def take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    """Measure each in each round, and begin each round with the other one."""
    for number in range(rounds):
        for each in contenders if number % 2 == 0 else reversed(contenders):
            each.attempt(partial(each.measure, f"round{number}"))


def ratio(
    first: Contender, second: Contender, of: Callable[[Round], float], form: str = ".2f"
) -> str:
    """Return the first one's median over the second one's; a dash where either has none."""
    if first.fault or second.fault:
        return "–"
    return format(first.figure(of) / second.figure(of), form)


def rate(each: Round) -> float:
    """Return requests a second."""
    return each.outcome.per_second


def p50_ms(each: Round) -> float:
    """Return the median latency."""
    return each.outcome.p50_us / 1000


def p99_ms(each: Round) -> float:
    """Return the latency that one request of a hundred exceeds."""
    return each.outcome.p99_us / 1000
