"""Keeps a node's run directory, and notices where somebody empties it all the same.

What cleans up /tmp, or behind a user who logs out, takes sockets and shared memory away from under
a node: what runs goes on, what is started beside it finds nothing. A lock on a folder, which
systemd-tmpfiles looks at (tmpfiles.d(5)), keeps it; where others don't ask, the node's processes
are started again.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)


class RunDirWatch:
    """Made when the board is in its place."""

    def __init__(self, run_dir: Path, board_file: Path) -> None:
        self._run_dir = run_dir
        self._board_file = board_file
        self._board = _number_of(board_file)
        # The folder above: the node's processes lock its own among themselves.
        self._lock = os.open(run_dir.parent, os.O_RDONLY | os.O_DIRECTORY)
        # A file system without locks has no cleaner that asks for them.
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def is_emptied(self) -> bool:
        """Look; say so, and say it to the log, where the board is not there any more."""
        if _number_of(self._board_file) == self._board:
            return False
        logger.error(
            "%s was emptied: the node's processes are started again. Something cleans up there; "
            "have it leave the folder, or set SYNAP_RUN_DIR to another one", self._run_dir,
            extra={"action": "run_dir_emptied"},
        )  # fmt: skip
        return True

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._lock)


def _number_of(path: Path) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
