"""A large store: filling a system with keys, and looking whether it holds them."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator
from itertools import islice

from ops.bench.errors import MeasurementFailed
from ops.bench.systems import Pair, System
from ops.bench.wrk import VALUE_BYTES, key_name, value_text
from ops.client import UnexpectedAnswer
from ops.processes import StartFailed

# What a measurement can fail by; anything else is a fault of the benchmark.
FAULTS = (
    MeasurementFailed,
    StartFailed,
    UnexpectedAnswer,
    OSError,
    http.client.HTTPException,
    ValueError,
)
# As many writes as share a frame of the log where many clients write at once.
PAIRS_A_REQUEST = 50
_SAMPLES = 500
_TAG = "first"


def pairs_of(start: int, end: int, pairs_a_request: int = PAIRS_A_REQUEST) -> Iterator[list[Pair]]:
    """Yield the pairs of the keys from `start` up to `end`, in batches, in an order of no pattern.

    Keys that come in order would fill the pages of a tree better than keys do.
    """
    numbers = list(range(start, end))
    random.Random(1).shuffle(numbers)
    each = iter(numbers)
    while batch := [key_name(number) for number in islice(each, pairs_a_request)]:
        yield [(key, value_text(key, _TAG)) for key in batch]


def fill(system: System, start: int, end: int, pairs_a_request: int = PAIRS_A_REQUEST) -> None:
    """Write the keys from `start` up to `end`.

    Raises:
        MeasurementFailed: it did not acknowledge them.
    """
    for pairs in pairs_of(start, end, pairs_a_request):
        system.write(pairs)


def check_samples(
    system: System,
    keys: int,
    start: int = 0,
    tag: str = _TAG,
    value_bytes: int = VALUE_BYTES,
) -> None:
    """Look whether the system holds `keys` keys from `start` on, as `fill` or a load wrote them.

    Args:
        tag: The load's.
        value_bytes: The values' length.

    Raises:
        MeasurementFailed: a sample is missing or wrong.
    """
    for number in random.sample(range(start, start + keys), min(_SAMPLES, keys)):
        key = key_name(number)
        value = system.read(key)
        if value != value_text(key, tag, value_bytes):
            raise MeasurementFailed(f"{key} holds {value!r}")
