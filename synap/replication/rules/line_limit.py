"""How many lines of the log one peer may bring about.

Pure: times are nanoseconds of one monotonic clock.
"""

from __future__ import annotations

_LINES = 10
_SPAN_NS = 10_000_000_000
# Peers that are told apart; beyond them the one that began first is forgotten.
_MOST_PEERS = 256


class LineLimit:
    """Lets some lines a peer through in each span of time."""

    def __init__(self) -> None:
        # When the span began, and the lines since then.
        self._spans: dict[str, tuple[int, int]] = {}

    def allows(self, peer: str, now_ns: int) -> bool:
        """Whether one more line about `peer` goes into the log now; it counts then."""
        began_ns, lines = self._spans.pop(peer, (now_ns, 0))
        if now_ns - began_ns > _SPAN_NS:
            began_ns, lines = now_ns, 0
        self._spans[peer] = (began_ns, min(lines + 1, _LINES + 1))
        if len(self._spans) > _MOST_PEERS:
            del self._spans[next(iter(self._spans))]
        return lines < _LINES
