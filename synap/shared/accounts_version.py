"""A number that goes up with every change of the node's accounts, in shared memory.

The log's owner raises it when a change is to be seen in the store, and before the change is
answered. An HTTP worker that has looked at the number first, and at the accounts then, may go by
what it found for as long as the number stays.
"""

from __future__ import annotations

from pathlib import Path

from synap.shared.node_file import map_needed_file

_BYTES = 8


class AccountsVersion:
    """The number, mapped by this process. One process of a node raises it.

    Attributes:
        cells: The number is its first. On the path of many requests, hence no method.
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: In the run directory; made where it is missing.

        Raises:
            DataDirUnusable: there is no room for it.
        """
        self._memory = map_needed_file(path, _BYTES)
        self.cells = memoryview(self._memory).cast("Q")

    def change(self) -> None:
        """Have everybody look at the accounts again."""
        self.cells[0] += 1

    def close(self) -> None:
        """Unmap it."""
        self.cells.release()
        self._memory.close()
