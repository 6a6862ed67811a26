"""How much the connections of one process hold for their clients, and whether that is too much.

What counts is what a client can make grow: bodies until their requests are answered, requests that
wait for the one before them, bytes that no request was read from yet, answers that are not read.
Each connection tells what it holds where that changes much, and once in each tick.
"""

from __future__ import annotations

from collections.abc import Callable

# What a connection holds below this is not counted: it is bounded by the number of connections.
SMALL_BYTES = 16 * 1024
# Beyond this part of the limit whoever brings more is cut off at once.
_HARD_PART = 1.25


class HeldMemory:
    """The sum over all connections.

    Attributes:
        held_bytes: What they hold.
        is_tight: Over the limit: no request is begun and nothing is read on until it is not.
    """

    def __init__(self, limit_bytes: int, on_change: Callable[[bool], None]) -> None:
        """
        Args:
            limit_bytes: How much they may hold together.
            on_change: Called with `is_tight` where that changes.
        """
        self.held_bytes = 0
        self.is_tight = False
        self._limit_bytes = limit_bytes
        self._on_change = on_change

    @property
    def is_over(self) -> bool:
        """Whether even what is on its way can't be waited for."""
        return self.held_bytes > _HARD_PART * self._limit_bytes

    def change(self, by_bytes: int) -> None:
        """Learn that a connection holds more, or less."""
        self.held_bytes += by_bytes
        is_tight = self.held_bytes > self._limit_bytes
        if is_tight != self.is_tight:
            self.is_tight = is_tight
            self._on_change(is_tight)
