"""How far a follower is with its master, and the fetch that it has under way.

Plain values of `follower`, which alone sets them.
"""

from __future__ import annotations

from enum import Enum, auto


class Stage(Enum):
    """How far the follower is with its master.

    DOWN ◄─────────────── from every stage, when the link is given up
      │ a link
      v
    LISTENING ──────────► SYNCING     where a snapshot is just being put in place
      │ a heartbeat         │  ▲
      v                     v  │ refused, and a snapshot mends it
    GREETED ◄───────────── hello, again: snapshot in place, wanted, new history, time
      │ welcome   │ refused
      v           v
    JOINED ─────► REFUSED             where the master has no longer what is missing

    GREETED ──► LENDING ──► JOINED    where the master lacks what this log holds
    """

    # No link: there is nobody to hear and nobody to tell.
    DOWN = auto()
    # A new link that may be deaf yet: nothing is said before a heartbeat shows that it is live.
    LISTENING = auto()
    # The hello is on its way or answered soon; what the stream brings is kept for after a welcome.
    GREETED = auto()
    # The master does not serve this log as it is. The log stays, the stream is not kept, and after
    # a while the hello is said again.
    REFUSED = auto()
    # The master lost the end of its log and has it back from here; it welcomes this replica then.
    LENDING = auto()
    # A snapshot is fetched or put in place; nothing is appended, the stream is not kept.
    SYNCING = auto()
    # The log is the master's, up to its end: it takes what the stream brings, fetches what is
    # missing, and tells how far it is.
    JOINED = auto()


class Transfer:
    """The fetch under way: chunks of one request, numbered from 0 on."""

    def __init__(self, missing_until: int, request: int, now_ns: int) -> None:
        self.until_offset = missing_until
        self.request = request
        # The chunk that comes next, and when the one before it came.
        self.sequence = 0
        self.moved_ns = now_ns
