"""How far one client's connection is on its way to its end.

Pure. `connection` makes the transitions; who writes an answer looks here whether it may be the
last one.

    OPEN ──────── draining ────────> LEAVING
      │                                 │        at the client's end, each of these
      │ last request, or a refused one  │        three becomes DEAF_LEAVING
      v                                 v
    DEAF ──────── draining ────────> DEAF_LEAVING
      │                                 │
      └─────────> LINGERING <───────────┘        from every state the way leads to CLOSED
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The states of a connection, each with what it means for the input and for the answers.

    Attributes:
        is_deaf: Nothing that comes is read as a request any more.
        is_leaving: An answer that no further request waits after is the last one, and says so.
    """

    # Requests are read and answered.
    OPEN = 1, False, False
    # The worker drains: requests are read, and the connection closes after those that are here.
    LEAVING = 2, False, True
    # The last request is here, because it asked for the close or what followed was refused. Its
    # answer ends the connection by itself; those before it are answers like any other.
    DEAF = 3, True, False
    # Nothing more is read, and the connection closes after the requests that are here.
    DEAF_LEAVING = 4, True, True
    # Everything is answered, and the answers' end was sent; what comes is read away for a while.
    LINGERING = 5, True, True
    # Nobody is answered any more. The transport ends when everything written has left, or is gone.
    CLOSED = 6, True, True

    is_deaf: bool
    is_leaving: bool

    def __init__(self, number: int, is_deaf: bool, is_leaving: bool) -> None:
        self.is_deaf = is_deaf
        self.is_leaving = is_leaving


# Under their own names: looking a member up in its class costs a tenth of a microsecond.
OPEN = State.OPEN
LEAVING = State.LEAVING
DEAF = State.DEAF
DEAF_LEAVING = State.DEAF_LEAVING
LINGERING = State.LINGERING
CLOSED = State.CLOSED
