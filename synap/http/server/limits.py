"""What one client may ask of a worker: sizes, numbers and times.

Pure. The limits on a request's head are fixed and stand in `request_parser`; these are the
operator's, who sets them by `server.…` (see `HttpLimits.of`), and a few that follow from nothing
else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from synap.config.keys import Config

# While draining: how long a silent connection is kept. A busy client's next request is on its way
# within the first; one that was only just accepted gets the second to say what it wants.
IDLE_GRACE_SECONDS = 1.0
FRESH_GRACE_SECONDS = 3.0

# Where every place is taken by a request under way: how long each keeps it at least.
WORK_GRACE_SECONDS = 0.5

# A head is at most some 24 KiB: who needs longer for it is not there to ask.
HEAD_SECONDS = 10.0


# Slower than this nobody reads whom others should wait for.
READ_BYTES_PER_SECOND = 64 * 1024


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may ask of the worker.

    Attributes:
        max_body_bytes: Largest request body; 413 beyond it.
        max_connections: Open connections of the process; those that wait for their clients make
            room for new ones.
        max_connections_of_address: Those of one client's address; 0 for any number.
        held_bytes: What all clients together may make the process hold.
        head_seconds: From a request's first byte to the end of its head; 408 beyond it.
        body_seconds: In which a body must bring another KiB, or its end; 408 beyond it.
        request_seconds: From a body's first byte to its end; 408 beyond it.
        idle_seconds: Silence between two requests before the connection is closed.
        write_seconds: In which a client must read something of what waits for it. All of it takes
            `request_seconds` at most, and a second for each `READ_BYTES_PER_SECOND`.
        linger_seconds: How long a refused client's rest is read away, so that it sees the answer.
    """

    max_body_bytes: int = 10 * 1024 * 1024
    max_connections: int = 1000
    max_connections_of_address: int = 500
    held_bytes: int = 96 * 1024 * 1024
    head_seconds: float = HEAD_SECONDS
    body_seconds: float = 20.0
    request_seconds: float = 60.0
    idle_seconds: float = 75.0
    write_seconds: float = 30.0
    linger_seconds: float = 2.0

    @classmethod
    def of(cls, config: Config) -> HttpLimits:
        """Return the limits that the configuration asks for."""
        server = config.server
        request_seconds = server.request_timeout_secs
        return cls(
            max_body_bytes=server.max_request_size_mb * 1024 * 1024,
            max_connections=server.max_connections,
            max_connections_of_address=min(
                server.max_connections_per_address, max(1, server.max_connections // 2)
            ),
            held_bytes=server.held_bytes,
            head_seconds=min(HEAD_SECONDS, request_seconds),
            request_seconds=request_seconds,
            idle_seconds=server.idle_timeout_secs,
        )


class Ticks(msgspec.Struct, frozen=True):
    """The limits' times in ticks, rounded up, with one tick more because the first is a part.

    Attributes:
        read_bytes: What a client must read in a tick.
    """

    read_bytes: int
    head: int
    body: int
    request: int
    idle: int
    write: int
    linger: int
    idle_grace: int
    fresh_grace: int
    work_grace: int

    @classmethod
    def of(cls, limits: HttpLimits, tick_seconds: float) -> Ticks:
        """Return the ticks of `limits`."""
        return cls(
            math.ceil(READ_BYTES_PER_SECOND * tick_seconds),
            *(
                math.ceil(seconds / tick_seconds) + 1
                for seconds in (
                    limits.head_seconds,
                    limits.body_seconds,
                    limits.request_seconds,
                    limits.idle_seconds,
                    limits.write_seconds,
                    limits.linger_seconds,
                    IDLE_GRACE_SECONDS,
                    FRESH_GRACE_SECONDS,
                    WORK_GRACE_SECONDS,
                )
            ),
        )
