"""Requests a second of one node over HTTP: GET, SET, and SET that waits for the disk.

For each row both systems run side by side on the same data, but only one is driven at a time, in
turns, and each round begins with the other one, so that what disturbs the machine meets both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ops.bench.contender import Contender, Round, p50_ms, p99_ms, rate, ratio, take_turns
from ops.bench.fleet import Maker, Member, etcd, redis, synap
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.wrk import Load

TITLE = "Requests a second"
HEADER = (
    "", "against", "Synap", "the other", "ratio", "goal", "p50, ms", "p99, ms", "CPU µs a request",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is sent, and to whom beside Synap.

    Attributes:
        name: For the table.
        operation: As of a load.
        fsync_mode: How Synap treats its log meanwhile.
        peer: Makes the other system.
        goal: What the ratio should at least be.
    """

    name: str
    operation: str
    fsync_mode: str
    peer: Maker
    goal: float


ROWS = (
    Row("GET", "get", "periodic", redis("no"), 1.4),
    Row("SET, log synced every second", "set", "periodic", redis("everysec"), 1.0),
    Row("SET, log synced before the answer", "set", "always", redis("always"), 1.0),
    Row("SET, log synced before the answer", "set", "always", etcd, 4.0),
)


def run(settings: Settings) -> Section:
    """Measure every row."""
    rows, faults = [], []
    for row in ROWS:
        both = _measure_row(row, settings)
        rows.append(_cells(row, *both))
        faults += [f"{row.name}: {each.system.name}: {each.fault}" for each in both if each.fault]
    text = (
        f"wrk with 1 thread and {settings.connections} connections, {settings.keys:,} random keys, "
        f"values of 64 bytes; medians of {settings.rounds} rounds of {settings.seconds} s, the "
        "systems in turns. webdis stands for Redis with webdis, which answers HTTP for it; Redis "
        "keeps no log in the GET row, and syncs it as Synap does in the others. etcd is one member "
        "with its JSON gateway. The ratio is Synap's rate over the other's. Where a cell has two "
        "figures, Synap's is the first. CPU time is that of all of a system's processes, without "
        "wrk, which shares the cores; Synap's goals are 20 µs a GET and 38 µs a SET."
    )
    return Section(TITLE, text, HEADER, rows, faults)


def _measure_row(row: Row, settings: Settings) -> tuple[Contender, Contender]:
    ours = contender(settings.fleet.get(synap(row.fsync_mode)), row.operation, settings)
    theirs = contender(settings.fleet.get(row.peer), row.operation, settings)
    for each in (ours, theirs):
        each.attempt(each.prepare)
    take_turns((ours, theirs), settings.rounds)
    return ours, theirs


def contender(member: Member, operation: str, settings: Settings) -> Contender:
    """Return a system under the load that most rows have."""
    load = Load(member.system.dialect, operation, settings.keys, settings.connections, "")
    return Contender(member, load, settings.seconds)


def _cells(row: Row, ours: Contender, theirs: Contender) -> tuple[str, ...]:
    def both(figure: Callable[[Round], float], form: str) -> str:
        return f"{ours.median(figure, form)} / {theirs.median(figure, form)}"

    return (
        row.name,
        theirs.system.name,
        ours.median(rate, ",.0f"),
        theirs.median(rate, ",.0f"),
        ratio(ours, theirs, rate),
        f"{row.goal:g}",
        both(p50_ms, ".2f"),
        both(p99_ms, ".2f"),
        both(lambda each: each.cpu_us, ".0f"),
    )
