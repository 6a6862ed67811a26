"""Heads that repeat: a client that keeps its connection sends the same headers again and again.

A head without its method and target (here: its tail) that the parser once found to be a plain one
is kept with what it said. Where a later read is a plain target with a tail that is known, byte for
byte, and as much body as that announces, parsing it again could find nothing new. All connections
of a process share what is known: the same bytes mean the same on each.
"""

from __future__ import annotations

import msgspec

from synap.http.server.framing import BLANK_LINE, Headers
from synap.http.server.head_lines import VERSION

# Together at most 512 KiB. Clients whose every head differs fill this again and again, which costs
# each of their requests about a microsecond.
MAX_HEADS = 256
MAX_TAIL_BYTES = 2048

_METHODS = (b"GET /", b"POST /")


class KnownHead(msgspec.Struct, frozen=True, gc=False):
    """What a tail says: HTTP/1.1, kept alive, one Host, no coding, nothing to expect.

    Attributes:
        headers: As ASGI has them.
        content_length: Bytes of the body after it.
    """

    headers: Headers
    content_length: int


class HeadCache:
    """The heads that one process knows.

    Attributes:
        by_tail: Look here, with the bytes from VERSION to the end of the blank line.
    """

    def __init__(self) -> None:
        self.by_tail: dict[bytes, KnownHead] = {}

    def learn(self, data: bytes, headers: Headers, content_length: int) -> None:
        """Know the head again that a read began with.

        Args:
            data: The read, which began between two requests and ended so.
            headers: Those of its last request, which was a plain one.
            content_length: The body's length that they tell.
        """
        start, end = data.find(VERSION), data.find(BLANK_LINE) + len(BLANK_LINE)
        # With the announced body and nothing else after the first blank line, it was one request.
        is_alone = len(data) - end == content_length and data.startswith(_METHODS)
        if not is_alone or not 0 <= start < end or end - start > MAX_TAIL_BYTES:
            return
        if len(self.by_tail) >= MAX_HEADS:
            self.by_tail.clear()
        self.by_tail[data[start:end]] = KnownHead(headers, content_length)
