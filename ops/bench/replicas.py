"""What three replicas on the same machine cost the master's writes."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ops.bench.contender import Contender, p99_ms, rate, ratio, take_turns
from ops.bench.errors import MeasurementFailed
from ops.bench.fleet import Member, synap
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import SynapNode
from ops.bench.throughput import contender
from ops.bench.wrk import key_name

TITLE = "Writes with three replicas"
HEADER = ("", "with", "without", "ratio", "goal")
GOAL = "0.85"
REPLICAS = 3
_SAMPLES = 200
_CATCH_UP_SECONDS = 30


def run(settings: Settings) -> Section:
    """Measure a master with replicas and one without, in turns."""
    with ExitStack() as stack:

        def node(extra: dict[str, object]) -> SynapNode:
            place = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="b", dir=settings.folder)
            )
            return SynapNode(Path(place), "periodic", extra)

        master = node({})
        replicas: list[SynapNode] = []
        members = [Member(master, stack), settings.fleet.get(synap("periodic"))]
        both = [contender(each, "set", settings) for each in members]
        both[0].attempt(members[0].start)

        def follow() -> None:
            for _ in range(REPLICAS):
                extra = {**master.master_settings, "server.workers": 1}
                replicas.append(stack.enter_context(node(extra)))

        both[0].attempt(follow)
        both[0].settle = partial(_check, master, replicas, settings)
        for each in both:
            each.attempt(each.prepare)
        take_turns(both, settings.rounds)
    text = (
        f"SETs of {settings.keys:,} random keys with values of 64 bytes, by wrk with 1 thread and "
        f"{settings.connections} connections, to a master with {REPLICAS} replicas and to one "
        f"without, the logs synced every second; medians of {settings.rounds} rounds of "
        f"{settings.seconds} s in turns. All nodes run on the same cores, so the replicas' own "
        "work is in it too. After each round the replicas have to hold what the master holds."
    )
    faults = [f"{name}: {e.fault}" for name, e in zip(HEADER[1:3], both, strict=True) if e.fault]
    return Section(TITLE, text, HEADER, _rows(*both), faults)


def _rows(with_replicas: Contender, without: Contender) -> list[tuple[str, ...]]:
    return [
        (
            "SETs a second",
            with_replicas.median(rate, ",.0f"),
            without.median(rate, ",.0f"),
            ratio(with_replicas, without, rate),
            GOAL,
        ),
        (
            "p99, ms",
            with_replicas.median(p99_ms, ".2f"),
            without.median(p99_ms, ".2f"),
            ratio(with_replicas, without, p99_ms),
            "",
        ),
    ]


def _check(master: SynapNode, replicas: list[SynapNode], settings: Settings) -> None:
    """Look whether each replica comes to hold the master's values.

    Raises:
        MeasurementFailed: one does not in time.
    """
    step = max(1, settings.keys // _SAMPLES)
    expected = {key: master.read(key) for key in map(key_name, range(0, settings.keys, step))}
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    for replica in replicas:
        while any(replica.read(key) != value for key, value in expected.items()):
            if time.monotonic() > deadline:
                raise MeasurementFailed("a replica does not hold what the master holds")
            time.sleep(0.1)
