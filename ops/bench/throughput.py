"""Requests a second of one node over HTTP: GET, SET, and SET that waits for the disk.

For each row both systems run side by side on the same data, but only one is driven at a time, in
turns, and each round begins with the other one, so that what disturbs the machine meets both.
"""

from __future__ import annotations

import http.client
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ops.bench.cpu import cpu_seconds
from ops.bench.errors import MeasurementFailed
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import RedisBehindWebdis, SynapNode, System
from ops.bench.wrk import Load, Outcome, check, key_name, measure, value_text
from ops.client import UnexpectedAnswer
from ops.processes import StartFailed

TITLE = "Requests a second"
HEADER = ("", "Synap", "webdis", "ratio", "p50, ms", "p99, ms", "CPU µs a request")
CHECK_SECONDS = 1
_PAIRS_A_REQUEST = 1000
_SAMPLES = 500
_FIRST_TAG = "first"
FAULTS = (
    MeasurementFailed,
    StartFailed,
    UnexpectedAnswer,
    OSError,
    http.client.HTTPException,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is sent, and how both systems treat their log meanwhile."""

    name: str
    operation: str
    fsync_mode: str
    append_fsync: str


ROWS = (
    Row("GET", "get", fsync_mode="periodic", append_fsync="no"),
    Row("SET, log synced every second", "set", fsync_mode="periodic", append_fsync="everysec"),
    Row("SET, log synced before the answer", "set", fsync_mode="always", append_fsync="always"),
)


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one system."""

    outcome: Outcome
    cpu_us: float


class Contender:
    """One system in one row, with what its rounds came to.

    Attributes:
        rounds: The measurements, in order.
        fault: Why there is no figure; empty where there is one.
    """

    def __init__(self, system: System, row: Row, settings: Settings) -> None:
        self.system = system
        self.rounds: list[Round] = []
        self.fault = ""
        self._row = row
        self._settings = settings

    def attempt(self, action: Callable[[], object]) -> None:
        """Run `action`, unless there was a fault before; keep a fault of its own."""
        if self.fault:
            return
        try:
            action()
        except FAULTS as error:
            self.fault = str(error)

    def prepare(self) -> None:
        """Write every key once, and look at the answers to a short load."""
        numbers = iter(range(self._settings.keys))
        while batch := [key_name(number) for number in islice(numbers, _PAIRS_A_REQUEST)]:
            self.system.write([(key, value_text(key, _FIRST_TAG)) for key in batch])
        check(self.system.url, self._load("checked"), CHECK_SECONDS)

    def measure(self, tag: str) -> None:
        """Measure one round, and look at samples of what it left."""
        pids = self.system.pids()
        before = cpu_seconds(pids)
        outcome = measure(self.system.url, self._load(tag), self._settings.seconds)
        used = cpu_seconds(pids) - before
        self._verify(tag)
        self.rounds.append(Round(outcome, used / outcome.requests * 1e6))

    def median(self, figure: Callable[[Round], float], form: str) -> str:
        """Return the median of one figure over the rounds as text; a dash after a fault."""
        return "–" if self.fault else format(statistics.median(map(figure, self.rounds)), form)

    def _load(self, tag: str) -> Load:
        settings = self._settings
        return Load(
            self.system.dialect, self._row.operation, settings.keys, settings.connections, tag
        )

    def _verify(self, tag: str) -> None:
        numbers = random.sample(range(self._settings.keys), min(_SAMPLES, self._settings.keys))
        written = 0
        for key in map(key_name, numbers):
            value = self.system.read(key)
            if not isinstance(value, str) or value != value_text(key, value.split("-")[1]):
                raise MeasurementFailed(f"{key} holds {value!r}")
            written += value == value_text(key, tag)
        if self._row.operation == "set" and not written:
            raise MeasurementFailed(f"none of {len(numbers)} keys holds what was set")


def run(settings: Settings) -> Section:
    """Measure every row."""
    rows, faults = [], []
    for row in ROWS:
        synap, peer = _measure_row(row, settings)
        rows.append(_cells(row, synap, peer))
        faults += [
            f"{row.name}: {each.system.name}: {each.fault}" for each in (synap, peer) if each.fault
        ]
    text = (
        f"wrk with 1 thread and {settings.connections} connections, {settings.keys:,} random keys, "
        f"values of 64 bytes; medians of {settings.rounds} rounds of {settings.seconds} s, the "
        "systems in turns. webdis stands for Redis with webdis, which answers HTTP for it; Redis "
        "keeps no log in the GET row, and syncs it as Synap does in the others. The ratio is "
        "Synap's rate over the other's. Where a cell has two figures, Synap's is the first. CPU "
        "time is that of all of a system's processes, without wrk, which shares the cores."
    )
    return Section(TITLE, text, HEADER, rows, faults)


def _measure_row(row: Row, settings: Settings) -> tuple[Contender, Contender]:
    threads = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        places = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="b", dir=settings.folder)))
            for _ in range(2)
        ]
        synap = Contender(SynapNode(places[0], row.fsync_mode), row, settings)
        redis = RedisBehindWebdis(places[1], row.append_fsync, threads)
        peer = Contender(redis, row, settings)
        for each in (synap, peer):
            each.attempt(partial(stack.enter_context, each.system))
            each.attempt(each.prepare)
        _take_turns((synap, peer), settings.rounds)
    return synap, peer


def _take_turns(contenders: Sequence[Contender], rounds: int) -> None:
    for number in range(rounds):
        for each in contenders if number % 2 == 0 else reversed(contenders):
            each.attempt(partial(each.measure, f"round{number}"))


def _cells(row: Row, synap: Contender, peer: Contender) -> tuple[str, ...]:
    def both(figure: Callable[[Round], float], form: str) -> str:
        return f"{synap.median(figure, form)} / {peer.median(figure, form)}"

    return (
        row.name,
        synap.median(_rate, ",.0f"),
        peer.median(_rate, ",.0f"),
        _ratio(synap, peer),
        both(lambda each: each.outcome.p50_us / 1000, ".2f"),
        both(lambda each: each.outcome.p99_us / 1000, ".2f"),
        both(lambda each: each.cpu_us, ".0f"),
    )


def _ratio(synap: Contender, peer: Contender) -> str:
    if synap.fault or peer.fault:
        return "–"
    ours, theirs = (statistics.median(map(_rate, each.rounds)) for each in (synap, peer))
    return f"{ours / theirs:.2f}"


def _rate(each: Round) -> float:
    return each.outcome.per_second
