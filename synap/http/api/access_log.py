"""The access log: a line for each request, gathered so that a request pays for little.

Lines leave together, ten times a second: one log record has many of them, in its field `requests`,
and the process's formatter makes a line of each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

import msgspec

from synap.http.api.traces import Trace

# Its level decides on these lines, and nothing else here.
logger = logging.getLogger("synap.access")

_INTERVAL_SECONDS = 0.1
# Of one record: a queue of records is then bounded in bytes too.
_MOST_LINES = 100


class AccessLine(msgspec.Struct, frozen=True, gc=False):
    """One request that was answered.

    Attributes:
        time: When, in seconds since 1970.
        client: Its IP address.
        method: As it was sent.
        target: Path and query as they were sent.
        status: The answer's.
        duration_us: From the request's arrival to its answer.
        request_id: The one on the answer.
        trace: What it is part of; None where its client does not say.
    """

    time: float
    client: str
    method: str
    target: str
    status: int
    duration_us: int
    request_id: str
    trace: Trace | None = None


class Answered(msgspec.Struct, frozen=True, gc=False):
    """What there is to tell of a request whose answer is made.

    Attributes:
        client, method, target, status, request_id, trace: As in `AccessLine`.
        route: The path's template, as clients know it.
        elapsed_ns: From the request's arrival on.
    """

    client: str
    method: str
    target: str
    route: str
    status: int
    elapsed_ns: int
    request_id: str
    trace: Trace | None


class Listener(Protocol):
    """Who is told of each request; its calls are on the path of all of them."""

    def note(self, answered: Answered) -> None:
        """Take a request."""

    def flush(self) -> None:
        """Pass on what was gathered."""


class Listeners:
    """Several that are told as one."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def note(self, answered: Answered) -> None:
        for each in self._listeners:
            each.note(answered)

    def flush(self) -> None:
        for each in self._listeners:
            each.flush()


class AccessLog:
    """Gathers lines. Belongs to the running loop."""

    def __init__(self) -> None:
        self._lines: list[AccessLine] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, answered: Answered) -> None:
        """Take a request whose answer is made."""
        lines = self._lines
        lines.append(
            AccessLine(
                time.time(), answered.client, answered.method, answered.target, answered.status,
                answered.elapsed_ns // 1000, answered.request_id, answered.trace,
            )
        )  # fmt: skip
        if len(lines) >= _MOST_LINES:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_INTERVAL_SECONDS, self.flush)

    def flush(self) -> None:
        """Log what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            logger.info("%d requests", len(lines), extra={"requests": lines})
