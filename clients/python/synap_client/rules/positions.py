"""What a read has to see: the newest write of one's own, in each reign."""

from __future__ import annotations

import re

_POSITION = re.compile(r"([0-9]{1,19})-([0-9a-f]{8})", re.ASCII)
# A reign ends with a fail-over or a power cut; older ones have long been part of every log.
_MOST_REIGNS = 8


class Positions:
    """The positions of what was written, of each reign the newest.

    Answers come in any order, so within a reign the larger offset counts. Two reigns may use the
    same offsets, where the end of the older one is lost: both are kept until a node says so.
    """

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}

    @property
    def newest(self) -> str:
        """What a read has to see; empty where nothing was written."""
        if not self._offsets:
            return ""
        reign, offset = max(self._offsets.items(), key=lambda item: item[1])
        return f"{offset}-{reign}"

    def wrote(self, position: str) -> None:
        """Note where a write stands. What is no position is passed over."""
        found = _POSITION.fullmatch(position)
        if found is None:
            return
        offset, reign = int(found[1]), found[2]
        self._offsets[reign] = max(offset, self._offsets.pop(reign, 0))
        if len(self._offsets) > _MOST_REIGNS:
            del self._offsets[next(iter(self._offsets))]

    def see(self, position: str) -> None:
        """Hold reads to a position that somebody else wrote.

        Raises:
            ValueError: it is none.
        """
        if _POSITION.fullmatch(position) is None:
            raise ValueError(f"{position!r} is no position, such as 1042-9f2c11aa")
        self.wrote(position)

    def lost(self, position: str) -> None:
        """Forget a position that the cluster has lost, once its caller is told."""
        self._offsets.pop(position.rpartition("-")[2], None)
