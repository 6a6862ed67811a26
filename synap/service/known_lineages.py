"""The lineages that this worker's node has gone through, as far as reads and writes come from them.

The owner of the log keeps the lineage in `node.json`, and writes it there before the first entry of
a new reign is in the store. It changes with a reign, so this reads the file when it meets a reign
that it does not know.
"""

from __future__ import annotations

from pathlib import Path

from synap.errors import DataDirUnusable
from synap.node.identity import read_identity
from synap.place import NO_REIGNS, Reigns
from synap.position import NO_HISTORY
from synap.shared.board import BoardView

# A node is in one reign, or, while it changes to another one, in two.
_MAX_KEPT = 16


class KnownLineages:
    """Lineages by the history of their newest reign. Belongs to one event loop."""

    def __init__(self, node_file: Path) -> None:
        self._node_file = node_file
        self._kept: dict[bytes, Reigns] = {}
        # The history that was not found last, and what the board said then.
        self._missed: tuple[bytes, BoardView] | None = None

    def until(self, history: bytes, view: BoardView) -> Reigns:
        """Return the lineage up to the reign of `history`; NO_REIGNS where it can't be known.

        Args:
            view: What the log's owner shows now; nothing is looked for twice while it stays.
        """
        if history == NO_HISTORY:
            return NO_REIGNS
        found = self._kept.get(history)
        if found is None:
            if self._missed is not None and self._missed == (history, view):
                return NO_REIGNS
            found = self._read().until(history)
            if found is None:
                self._missed = (history, view)
                return NO_REIGNS
            while len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[history] = found
        return found

    def _read(self) -> Reigns:
        try:
            return Reigns(read_identity(self._node_file).lineage)
        except (OSError, DataDirUnusable):
            return NO_REIGNS
