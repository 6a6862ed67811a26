"""Keys a second where a request has many: mset and mget beside pipelined commands of Redis."""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ops.bench.contender import Contender
from ops.bench.data import FAULTS
from ops.bench.errors import MeasurementFailed
from ops.bench.programs import require_program
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import RedisBehindWebdis, SynapNode
from ops.bench.throughput import contender
from ops.bench.wrk import MANY_KEYS, VALUE_BYTES

TITLE = "Keys a second, many a request"
HEADER = ("", "Synap", "redis-benchmark", "ratio", "goal")
# name, Synap's operation, Redis's
ROWS = (("mset / pipelined SET", "mset", "set"), ("mget / pipelined GET", "mget", "get"))
GOAL = "0.3"
PIPELINED = 16
_FIRST_COMMANDS = 100_000
_GRACE_SECONDS = 60


def run(settings: Settings) -> Section:
    """Measure writing and reading."""
    rows: list[tuple[str, ...]] = []
    faults = []
    with ExitStack() as stack:
        try:
            places = [
                Path(
                    stack.enter_context(
                        tempfile.TemporaryDirectory(prefix="b", dir=settings.folder)
                    )
                )
                for _ in range(2)
            ]
            node = stack.enter_context(SynapNode(places[0], "periodic"))
            threads = len(os.sched_getaffinity(0))
            redis = stack.enter_context(RedisBehindWebdis(places[1], "everysec", threads))
            for name, ours, theirs in ROWS:
                rows.append(_row(name, contender(node, ours, settings), redis, theirs, settings))
        except FAULTS as error:
            faults.append(str(error))
    text = (
        f"{settings.connections} connections, {settings.keys:,} random keys, values of 64 bytes, "
        f"logs synced every second; medians of {settings.rounds} rounds of about "
        f"{settings.seconds} s, in turns. Synap gets requests of {MANY_KEYS} keys from wrk, Redis "
        f"single commands, {PIPELINED} at a time, in its own protocol over a UNIX socket from "
        "redis-benchmark. The ratio is that of keys a second."
    )
    return Section(TITLE, text, HEADER, rows, faults)


def _row(
    name: str, synap: Contender, redis: RedisBehindWebdis, operation: str, settings: Settings
) -> tuple[str, ...]:
    ours: list[float] = []
    theirs: list[float] = []
    synap.prepare()
    rate = _pipelined(redis, operation, _FIRST_COMMANDS, settings)

    def measure_ours() -> None:
        synap.measure(f"round{number}")
        ours.append(synap.rounds[-1].outcome.per_second * MANY_KEYS)

    def measure_theirs() -> None:
        theirs.append(_pipelined(redis, operation, int(rate * settings.seconds), settings))

    for number in range(settings.rounds):
        steps = (measure_ours, measure_theirs)
        for step in steps if number % 2 == 0 else reversed(steps):
            step()
    mine, other = statistics.median(ours), statistics.median(theirs)
    return name, f"{mine:,.0f}", f"{other:,.0f}", f"{mine / other:.2f}", GOAL


def _pipelined(
    redis: RedisBehindWebdis, operation: str, commands: int, settings: Settings
) -> float:
    """Return the commands a second of one run of redis-benchmark.

    Raises:
        MeasurementFailed: it failed, Redis answered with an error, or a key has no value.
    """
    command = [require_program("redis-benchmark"), "-s", str(redis.socket), "--csv"]
    command += ["-t", operation, "-n", str(commands), "-c", str(settings.connections)]
    command += ["-P", str(PIPELINED), "-d", str(VALUE_BYTES), "-r", str(settings.keys)]
    finished = _run(command, settings.seconds * 10 + _GRACE_SECONDS)
    lines = list(csv.DictReader(finished.splitlines()))
    if len(lines) != 1 or lines[0].get("test") != operation.upper():
        raise MeasurementFailed(f"redis-benchmark gave no result: {finished[-200:]!r}")
    _check(redis)
    return float(lines[0]["rps"])


def _check(redis: RedisBehindWebdis) -> None:
    """Look for errors that Redis answered with, and at one of the values."""
    cli = [require_program("redis-cli"), "-s", str(redis.socket)]
    if "total_error_replies:0" not in _run([*cli, "info", "stats"], _GRACE_SECONDS).split():
        raise MeasurementFailed("Redis answered with errors")
    key = _run([*cli, "randomkey"], _GRACE_SECONDS).strip()
    if _run([*cli, "strlen", key], _GRACE_SECONDS).strip() != str(VALUE_BYTES):
        raise MeasurementFailed(f"{key!r} in Redis has no value of {VALUE_BYTES} bytes")


def _run(command: list[str], seconds: int) -> str:
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=seconds)
    if finished.returncode:
        raise MeasurementFailed(f"{command[0]}: {finished.stdout}{finished.stderr}".strip())
    return finished.stdout
