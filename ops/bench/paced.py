"""Writes to a node at a steady rate, from a process of its own, so that it disturbs no clock.

    python -m ops.bench.paced URL ENTRIES_PER_SECOND ENTRIES_PER_REQUEST SECONDS

Prints the number of entries that were acknowledged; exits with 1 where one was not.
"""

from __future__ import annotations

import sys
import threading
import time

from ops.client import Client

_CONNECTIONS = 4
_KEYS = 20_000
_VALUE = "v" * 64


def write(url: str, entries_per_second: int, entries_a_request: int, seconds: float) -> int:
    """Write and return the number of entries; one that is late is not made up for.

    Raises:
        UnexpectedAnswer: a write was not acknowledged.
    """
    counts = [0] * _CONNECTIONS
    failures: list[BaseException] = []
    interval = _CONNECTIONS * entries_a_request / entries_per_second
    end = time.monotonic() + seconds

    def run(place: int) -> None:
        due = time.monotonic() + interval * place / _CONNECTIONS
        number = place
        try:
            with Client(url) as client:
                while due < end:
                    time.sleep(max(0.0, due - time.monotonic()))
                    due = max(due + interval, time.monotonic())
                    keys = [f"paced:{(number + i) % _KEYS}" for i in range(entries_a_request)]
                    number += entries_a_request
                    if entries_a_request == 1:
                        client.post("/kv/set", {"key": keys[0], "value": _VALUE})
                    else:
                        pairs = [{"key": key, "value": _VALUE} for key in keys]
                        client.post("/kv/mset", {"pairs": pairs})
                    counts[place] += entries_a_request
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(_CONNECTIONS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]
    return sum(counts)


if __name__ == "__main__":
    print(write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
