"""How the rate of one node changes with its keys, its connections and the length of its values."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from ops.bench.chart import Points, line_chart
from ops.bench.data import FAULTS, check_samples, fill
from ops.bench.report import Picture, Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode
from ops.bench.wrk import Load, check, key_name, measure, value_text

TITLE = "Cost of growth"
HEADER = ("", "", "GET a second", "SET a second", "GET p99, ms", "SET p99, ms")
_SETTINGS = {"persistence.snapshot.enabled": False, "kv_store.max_memory_mb": 0}
_OPERATIONS = ("get", "set")
_CONNECTIONS = (1, 4, 16, 64, 256)
_VALUE_BYTES = (16, 256, 4096, 65_536, 1_048_576)
# Large values on few keys, so that all of them together stay small.
_VALUES_BYTES = 64 * 1024 * 1024
_MOST_VALUES = 10_000
_FIRST_KEYS = 10_000
# Many, because a store of ten million keys is to be filled.
_PAIRS_A_REQUEST = 1000
# Short, so that a key of ten characters and the tag fit into the smallest value.
_TAG = "m"
_CHECK_SECONDS = 1

# For each operation its rate and its p99, in ms.
Figures = dict[str, tuple[float, float]]


def run(settings: Settings) -> Section:
    """Measure all three curves."""
    rows: list[tuple[str, ...]] = []
    pictures: list[Picture] = []
    faults = []
    curves = (
        ("keys", "keys", _by_keys),
        ("connections", "connections", _by_connections),
        ("values", "bytes a value", _by_values),
    )
    for name, x_title, measured in curves:
        points: dict[int, Figures] = {}
        try:
            for size, figures in measured(settings):
                points[size] = figures
        except FAULTS as error:
            faults.append(f"{name}: {error}")
        rows += [_cells(x_title, size, figures) for size, figures in points.items()]
        if points:
            lines: dict[str, Points] = {
                each.upper(): [(size, figures[each][0]) for size, figures in points.items()]
                for each in _OPERATIONS
            }
            svg = line_chart(f"Requests a second by {x_title}", x_title, lines)
            pictures.append(Picture(f"growth-{name}.svg", f"Requests a second by {x_title}", svg))
    text = (
        f"One node, the log synced every second, driven by wrk for {settings.seconds} s at each "
        f"point. Where they do not grow: {settings.keys:,} keys, {settings.connections} "
        f"connections, values of 64 bytes. There are {_MOST_VALUES:,} keys while the values grow, "
        "and fewer of the long ones, of which a store holds 64 MiB."
    )
    return Section(TITLE, text, HEADER, rows, faults, pictures)


def _cells(x_title: str, size: int, figures: Figures) -> tuple[str, ...]:
    rates = (f"{figures[each][0]:,.0f}" for each in _OPERATIONS)
    latencies = (f"{figures[each][1]:.2f}" for each in _OPERATIONS)
    return (x_title, f"{size:,}", *rates, *latencies)


def _by_keys(settings: Settings) -> Iterator[tuple[int, Figures]]:
    sizes = [_FIRST_KEYS]
    while sizes[-1] < settings.largest:
        sizes.append(sizes[-1] * 10)
    with _node(settings) as node:
        for before, keys in pairwise((0, *sizes)):
            fill(node, before, keys, _PAIRS_A_REQUEST)
            check_samples(node, keys - before, before)
            yield keys, _measure(node, settings, keys, settings.connections, 64)


def _by_connections(settings: Settings) -> Iterator[tuple[int, Figures]]:
    with _node(settings) as node:
        fill(node, 0, settings.keys)
        for connections in _CONNECTIONS[:: settings.stride]:
            yield connections, _measure(node, settings, settings.keys, connections, 64)


def _by_values(settings: Settings) -> Iterator[tuple[int, Figures]]:
    for value_bytes in _VALUE_BYTES[:: settings.stride]:
        keys = min(_MOST_VALUES, _VALUES_BYTES // value_bytes)
        with _node(settings) as node:
            for number in range(keys):
                key = key_name(number)
                node.write([(key, value_text(key, _TAG, value_bytes))])
            yield value_bytes, _measure(node, settings, keys, settings.connections, value_bytes)


def _measure(
    node: SynapNode, settings: Settings, keys: int, connections: int, value_bytes: int
) -> Figures:
    figures = {}
    for operation in _OPERATIONS:
        load = Load("synap", operation, keys, connections, _TAG, value_bytes)
        check(node.url, load, _CHECK_SECONDS)
        outcome = measure(node.url, load, settings.seconds)
        figures[operation] = outcome.per_second, outcome.p99_us / 1000
    return figures


@contextmanager
def _node(settings: Settings) -> Iterator[SynapNode]:
    with (
        tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as place,
        SynapNode(Path(place), "periodic", _SETTINGS) as node,
    ):
        yield node
