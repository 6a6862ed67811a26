"""CPU time of a request under either class of HTTP worker, on the same application.

Two nodes run side by side and are driven in turns, as in `throughput`; the CPU time is that of the
HTTP workers alone, so that the log's owner, the same in both, does not blur the difference.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ops.bench.cpu import cpu_seconds, process_tree
from ops.bench.data import FAULTS
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode
from ops.bench.wrk import Load, check, key_name, measure, value_text

TITLE = "HTTP workers"
HEADER = ("", "synap, CPU µs", "uvicorn, CPU µs", "ratio", "synap, a second", "uvicorn, a second")
CLASSES = ("synap", "uvicorn")
OPERATIONS = ("get", "set")
# Few enough to be written in one request.
KEYS = 1000
Figures = dict[tuple[str, str], list[tuple[float, float]]]


def run(settings: Settings) -> Section:
    """Measure GET and SET under both classes."""
    figures: Figures = {}
    faults = []
    try:
        _measure(settings, figures)
    except FAULTS as error:
        faults.append(str(error))
    text = (
        f"wrk with 1 thread and {settings.connections} connections, {KEYS:,} random keys, values "
        f"of 64 bytes; medians of {settings.rounds} rounds of {settings.seconds} s, in turns. "
        "CPU time is that of the HTTP workers a request, in user and kernel mode; the ratio is "
        "that of these times. The goal for a GET is 0.6."
    )
    rows = [] if faults else [_cells(operation, figures) for operation in OPERATIONS]
    return Section(TITLE, text, HEADER, rows, faults)


def _measure(settings: Settings, figures: Figures) -> None:
    with ExitStack() as stack:
        nodes = {}
        for name in CLASSES:
            place = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="b", dir=settings.folder)
            )
            node = SynapNode(Path(place), "periodic", environment={"SYNAP_WORKER_CLASS": name})
            nodes[name] = stack.enter_context(node)
            keys = map(key_name, range(KEYS))
            node.write([(key, value_text(key, "first")) for key in keys])
        for number in range(settings.rounds):
            for operation in OPERATIONS:
                for name in CLASSES if number % 2 == 0 else reversed(CLASSES):
                    load = Load("synap", operation, KEYS, settings.connections, f"round{number}")
                    if number == 0:
                        check(nodes[name].url, load, 1)
                    figure = _round(nodes[name], load, settings.seconds)
                    figures.setdefault((operation, name), []).append(figure)


def _round(node: SynapNode, load: Load, seconds: int) -> tuple[float, float]:
    """Return CPU µs a request, and requests a second."""
    workers = process_tree(node.http_pid())
    before = cpu_seconds(workers)
    outcome = measure(node.url, load, seconds)
    used = cpu_seconds(workers) - before
    return used / outcome.requests * 1e6, outcome.per_second


def _cells(operation: str, figures: Figures) -> tuple[str, ...]:
    times, rates = (
        [statistics.median(each[place] for each in figures[operation, name]) for name in CLASSES]
        for place in (0, 1)
    )
    ratio = f"{times[0] / times[1]:.2f}"
    cells = [*(f"{time:.0f}" for time in times), ratio, *(f"{rate:,.0f}" for rate in rates)]
    return (operation.upper(), *cells)
