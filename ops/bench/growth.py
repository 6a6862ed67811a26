"""How the rate of one node changes with its keys, its connections and the length of its values."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from ops.bench.chart import Points, line_chart, short_bytes
from ops.bench.data import FAULTS, check_samples
from ops.bench.fleet import synap
from ops.bench.report import Picture, Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode, System
from ops.bench.wrk import VALUE_BYTES, Load, check, key_name, measure, value_text

TITLE = "Cost of growth"
HEADER = ("", "", "GET a second", "SET a second", "GET p99, ms", "SET p99, ms")
_SETTINGS = {"persistence.snapshot.enabled": False, "kv_store.max_memory_mb": 0}
_OPERATIONS = ("get", "set")
_CONNECTIONS = (1, 4, 16, 64, 256)
_LENGTHS = (16, 256, 4096, 65_536, 1_048_576)
# Large values on few keys, so that all of them together stay small.
_VALUES_BYTES = 64 * 1024 * 1024
_MOST_VALUES = 10_000
_FIRST_KEYS = 10_000
# Many, because a store of ten million keys is to be filled.
_PAIRS_A_REQUEST = 1000
_REQUEST_BYTES = 1024 * 1024
# Short, so that a key of eleven characters and the tag fit into the smallest value.
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
            title = f"Requests a second by {x_title}"
            if name == "values":
                svg = line_chart(title, x_title, lines, x_name=short_bytes, by_decades=True)
            else:
                svg = line_chart(title, x_title, lines)
            pictures.append(Picture(f"growth-{name}.svg", title, svg))
    text = (
        f"One node, the log synced every second, driven by wrk for {settings.seconds} s at each "
        f"point. Where they do not grow: {settings.keys:,} keys, {settings.connections} "
        f"connections, values of {VALUE_BYTES} bytes. Keys are written first in the "
        f"order of their numbers, by MSETs of {_PAIRS_A_REQUEST:,}; then random ones are read and "
        f"written. There are {_MOST_VALUES:,} keys while the values grow, and fewer of the long "
        "ones, of which a store holds 64 MiB."
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
            _fill(node, before, keys, VALUE_BYTES)
            checked = () if before else _OPERATIONS
            yield keys, _measure(node, settings, keys, checked=checked)


def _by_connections(settings: Settings) -> Iterator[tuple[int, Figures]]:
    member = settings.fleet.get(synap("periodic"))
    member.start()
    node = member.system
    _fill(node, 0, settings.keys, VALUE_BYTES)
    for connections in _CONNECTIONS[:: settings.stride]:
        unchecked = [each for each in _OPERATIONS if each not in member.checked]
        yield (
            connections,
            _measure(node, settings, settings.keys, connections=connections, checked=unchecked),
        )
        member.checked.update(unchecked)


def _by_values(settings: Settings) -> Iterator[tuple[int, Figures]]:
    with _node(settings) as node:
        for value_bytes in _LENGTHS[:: settings.stride]:
            keys = min(_MOST_VALUES, _VALUES_BYTES // value_bytes)
            _fill(node, 0, keys, value_bytes)
            yield (
                value_bytes,
                _measure(node, settings, keys, value_bytes=value_bytes, checked=("get",)),
            )


def _fill(node: System, start: int, end: int, value_bytes: int) -> None:
    """Write the keys from `start` up to `end`, and look at samples of them.

    Raises:
        MeasurementFailed: it did not acknowledge one, or does not hold it.
    """
    step = max(1, min(_PAIRS_A_REQUEST, _REQUEST_BYTES // value_bytes))
    for first in range(start, end, step):
        keys = map(key_name, range(first, min(first + step, end)))
        node.write([(key, value_text(key, _TAG, value_bytes)) for key in keys])
    check_samples(node, end - start, start, _TAG, value_bytes)


def _measure(
    node: System,
    settings: Settings,
    keys: int,
    *,
    connections: int | None = None,
    value_bytes: int = VALUE_BYTES,
    checked: Collection[str],
) -> Figures:
    """Measure both operations, and look at samples of what is left.

    Args:
        checked: The operations whose answers are to be looked at first, for a second.
    """
    figures = {}
    for operation in _OPERATIONS:
        load = Load(
            "synap", operation, keys, connections or settings.connections, _TAG, value_bytes
        )
        if operation in checked:
            check(node.url, load, _CHECK_SECONDS)
        outcome = measure(node.url, load, settings.seconds)
        figures[operation] = outcome.per_second, outcome.p99_us / 1000
    check_samples(node, keys, 0, _TAG, value_bytes)
    return figures


@contextmanager
def _node(settings: Settings) -> Iterator[SynapNode]:
    with (
        tempfile.TemporaryDirectory(prefix="b", dir=settings.folder) as place,
        SynapNode(Path(place), "periodic", _SETTINGS) as node,
    ):
        yield node
