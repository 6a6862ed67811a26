"""Whom a replica follows: the nodes of `replication.upstream` in their order, then the master.

Plain values. The first one is called first; where a link to one ends, the next one is called at
once, and after the last one of all the first again. A round of all comes before a wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from synap.addresses import following_port


class Upstream(NamedTuple):
    """The two sockets of a node that can be followed, as host:port."""

    stream: str
    sync: str


class Upstreams:
    """The list, and whose turn it is.

    Attributes:
        current: Whom to follow now.
    """

    def __init__(self, relays: Sequence[str], master: Upstream) -> None:
        """
        Args:
            relays: PUB sockets of nodes that are to be followed in place of the master; each has
                its ROUTER socket at the next port.
            master: The master, which comes last.
        """
        named = [Upstream(address, following_port(address)) for address in relays]
        self._all = list(dict.fromkeys([*named, master]))
        self._at = 0
        self._left = 0
        self.begin_round()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def current(self) -> Upstream:
        return self._all[self._at]

    def before_current(self) -> list[Upstream]:
        """Return those that stand before the one that is followed, in their order."""
        return self._all[: self._at]

    def begin_round(self) -> None:
        """Let each of the others have its turn again."""
        self._left = len(self._all) - 1

    def go_to(self, upstream: Upstream) -> None:
        """Take one of the list, out of turn."""
        self._at = self._all.index(upstream)

    def turn(self) -> bool:
        """Go on to the next one; return False, and stay, where all had their turn."""
        if not self._left:
            return False
        self._left -= 1
        self._at = (self._at + 1) % len(self._all)
        return True
