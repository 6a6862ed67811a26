"""What must be done on a node now and then, whatever its role: slots of dead readers are freed.

LMDB keeps the pages that a reader may still see. A reader that was killed inside a transaction left
its slot behind, and the file grows with every write until somebody clears it.

The log's owner runs it (`workers/owner.py`), on its loop.
"""

from __future__ import annotations

import asyncio
import logging

from synap.errors import StoreError
from synap.node.data_dir import DataDir

logger = logging.getLogger(__name__)

# Bounds what a dead reader costs to the pages of so many seconds' writes: 5,000 keys a second, each
# on a page of its own, are 20 MB a second. A look asks the kernel once for each process that reads.
_INTERVAL_SECONDS = 0.25


class StaleReaders:
    """Frees the slots of dead readers, at the start and four times a second.

    Args:
        data_dir: Open, and this process's own.
        interval_seconds: Time between two looks.
    """

    def __init__(self, data_dir: DataDir, interval_seconds: float = _INTERVAL_SECONDS) -> None:
        self._data_dir = data_dir
        self._interval_seconds = interval_seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._clear_readers()

    def stop(self) -> None:
        """End; twice does no harm."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _clear_readers(self) -> None:
        # First of all, so that one that fails is not the last.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval_seconds, self._clear_readers)
        try:
            cleared = self._data_dir.store.reader_check()
        except StoreError as error:
            logger.error("readers can't be checked: %s", error, extra={"action": "reader_check"})
            return
        if cleared:
            logger.warning(
                "%d readers died while they read", cleared,
                extra={"action": "reader_check", "cleared": cleared},
            )  # fmt: skip
