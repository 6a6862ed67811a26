"""Drive one system with wrk and read what it counted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.bench.errors import MeasurementFailed
from ops.bench.programs import require_program

VALUE_BYTES = 64
MANY_KEYS = 100
_SCRIPT = Path(__file__).with_name("requests.lua")
# wrk stops by itself; this is for a wrk that does not.
_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk does.

    Attributes:
        dialect: How requests look: "synap", "webdis" or "etcd", as in requests.lua.
        operation: "get" or "set"; with Synap also "mget" or "mset", of MANY_KEYS keys a request.
        keys: Number of distinct keys.
        connections: Open connections, all from one thread.
        tag: Letters and digits that a set writes into its values.
        value_bytes: Length of each value.
        delay_ms: Mean of the times that each connection waits before a request.
    """

    dialect: str
    operation: str
    keys: int
    connections: int
    tag: str
    value_bytes: int = VALUE_BYTES
    delay_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk counted in one run without a fault."""

    requests: int
    seconds: float
    p50_us: int
    p99_us: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def key_name(number: int) -> str:
    """Return the name of a key, as requests.lua writes it."""
    return f"key:{number:06d}"


def value_text(key: str, tag: str, value_bytes: int = VALUE_BYTES) -> str:
    """Return the value that a load with `tag` writes under `key`."""
    return f"{key}-{tag}-".ljust(value_bytes, "-")


def measure(url: str, load: Load, seconds: int) -> Outcome:
    """Run `load` and leave the checking of answers to wrk's count of error statuses.

    Raises:
        MeasurementFailed: a request had no answer or one from 400 on.
    """
    return _run(url, load, seconds, "measured")


def check(url: str, load: Load, seconds: int) -> Outcome:
    """Run `load` and look at the status and the body of each answer.

    Raises:
        MeasurementFailed: an answer was wrong or missing.
    """
    return _run(url, load, seconds, "checked")


def _run(url: str, load: Load, seconds: int, mode: str) -> Outcome:
    words = [load.dialect, load.operation, str(load.keys), load.tag, mode]
    words += [str(load.value_bytes), str(load.delay_ms)]
    return drive(url, _SCRIPT, words, load.connections, seconds, is_checked=mode == "checked")


def drive(
    url: str,
    script: Path,
    words: Sequence[str],
    connections: int,
    seconds: int,
    *,
    is_checked: bool = False,
) -> Outcome:
    """Run wrk with a script that prints what requests.lua does.

    Args:
        words: For the script.
        is_checked: The script looks at the answers.

    Raises:
        MeasurementFailed: a request had no answer, a wrong one, or one from 400 on.
    """
    command = [require_program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(script), url, "--", *words]
    try:
        finished = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=seconds + _GRACE_SECONDS
        )
        counts = json.loads(finished.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise MeasurementFailed(f"wrk gave no result: {error}") from error
    _refuse_faults(counts, is_checked)
    return Outcome(
        counts["requests"], counts["microseconds"] / 1e6, counts["p50_us"], counts["p99_us"]
    )


def _refuse_faults(counts: dict[str, int], is_checked: bool) -> None:
    kinds = {
        "statuses": "error statuses",
        "sockets": "socket errors",
        "timeouts": "timeouts",
        "wrong": f"wrong answers, as {counts['example']!r}",
    }
    faults = [f"{counts[kind]} {words}" for kind, words in kinds.items() if counts[kind]]
    if faults:
        raise MeasurementFailed(f"{', '.join(faults)} in {counts['requests']} requests")
    if not counts["requests"] or (is_checked and not counts["checked"]):
        raise MeasurementFailed("no request was answered")
