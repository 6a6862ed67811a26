"""Keys a second where a request has many: mset and mget beside pipelined commands of Redis."""

from __future__ import annotations

import csv
import statistics
import subprocess
from functools import partial
from pathlib import Path

from ops.bench.contender import Attempts, Contender, rate
from ops.bench.errors import MeasurementFailed
from ops.bench.fleet import redis, synap
from ops.bench.programs import require_program
from ops.bench.report import Section
from ops.bench.settings import Settings
from ops.bench.systems import RedisBehindWebdis
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
    for name, our_operation, their_operation in ROWS:
        ours = contender(settings.fleet.get(synap("periodic")), our_operation, settings)
        theirs = _Pipelined(settings, their_operation)
        ours.attempt(ours.prepare)
        theirs.attempt(theirs.prepare)
        for number in range(settings.rounds):
            both: tuple[Contender | _Pipelined, ...] = (ours, theirs)
            for each in both if number % 2 == 0 else reversed(both):
                each.attempt(partial(each.measure, f"round{number}"))
        rows.append(_cells(name, ours, theirs))
        faults += [
            f"{name}: {program}: {each.fault}"
            for program, each in zip(HEADER[1:3], (ours, theirs), strict=True)
            if each.fault
        ]
    text = (
        f"{settings.connections} connections, {settings.keys:,} random keys, values of 64 bytes, "
        f"logs synced every second; medians of {settings.rounds} rounds of about "
        f"{settings.seconds} s, in turns. Synap gets requests of {MANY_KEYS} keys from wrk, Redis "
        f"single commands, {PIPELINED} at a time, in its own protocol over a UNIX socket from "
        "redis-benchmark. The ratio is that of keys a second."
    )
    return Section(TITLE, text, HEADER, rows, faults)


class _Pipelined(Attempts):
    """Redis, driven by redis-benchmark in its own protocol.

    Attributes:
        rates: Commands a second of each round.
    """

    def __init__(self, settings: Settings, operation: str) -> None:
        """
        Args:
            operation: `set` or `get`.
        """
        super().__init__()
        member = settings.fleet.get(redis("everysec"))
        assert isinstance(member.system, RedisBehindWebdis)
        self.rates: list[float] = []
        self._redis = member.system
        self._start = member.start
        self._settings = settings
        self._operation = operation
        self._commands = _FIRST_COMMANDS

    def prepare(self) -> None:
        """Start it, and find out how many commands a round wants."""
        self._start()
        self._commands = int(self._run() * self._settings.seconds)

    def measure(self, tag: str) -> None:
        """Measure one round; redis-benchmark writes the same values in each."""
        self.rates.append(self._run())

    def _run(self) -> float:
        """Return the commands a second of one run of redis-benchmark.

        Raises:
            MeasurementFailed: it failed, Redis answered with an error, or a key has no value.
        """
        settings, operation = self._settings, self._operation
        command = [require_program("redis-benchmark"), "-s", str(self._redis.socket), "--csv"]
        command += ["-t", operation, "-n", str(self._commands), "-c", str(settings.connections)]
        command += ["-P", str(PIPELINED), "-d", str(VALUE_BYTES), "-r", str(settings.keys)]
        printed = _run(command, settings.seconds * 10 + _GRACE_SECONDS)
        lines = list(csv.DictReader(printed.splitlines()))
        if len(lines) != 1 or lines[0].get("test") != operation.upper():
            raise MeasurementFailed(f"redis-benchmark gave no result: {printed[-200:]!r}")
        _check(self._redis.socket)
        return float(lines[0]["rps"])


def _cells(name: str, ours: Contender, theirs: _Pipelined) -> tuple[str, ...]:
    mine = None if ours.fault else ours.figure(rate) * MANY_KEYS
    other = None if theirs.fault else statistics.median(theirs.rates)
    ratio = "–" if mine is None or other is None else f"{mine / other:.2f}"
    return name, *("–" if each is None else f"{each:,.0f}" for each in (mine, other)), ratio, GOAL


def _check(socket: Path) -> None:
    """Look for errors that Redis answered with, and at one of the values."""
    cli = [require_program("redis-cli"), "-s", str(socket)]
    if "total_error_replies:0" not in _run([*cli, "info", "stats"], _GRACE_SECONDS).split():
        raise MeasurementFailed("Redis answered with errors")
    key = _run([*cli, "randomkey"], _GRACE_SECONDS).strip()
    if _run([*cli, "strlen", key], _GRACE_SECONDS).strip() != str(VALUE_BYTES):
        raise MeasurementFailed(f"{key!r} in Redis has no value of {VALUE_BYTES} bytes")


def _run(command: list[str], seconds: int) -> str:
    try:
        finished = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"{command[0]} did not end within {seconds} s") from error
    if finished.returncode:
        raise MeasurementFailed(f"{command[0]}: {finished.stdout}{finished.stderr}".strip())
    return finished.stdout
