"""Looks some times a second whether the node's files are still where they were opened.

A file that was deleted or moved away can be written to as before: what is acknowledged then is
gone, or lies where nobody looks for it. Such a node refuses writes, says so, and ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from synap.errors import DataDirLost, DataDirUnusable
from synap.node.data_dir import DataDir
from synap.node.identity import read_identity
from synap.node.paths import NodePaths

_LOOK_SECONDS = 0.25
# For clients to hear why, and for answers under way.
_LEAVE_SECONDS = 0.25


class HomeWatch:
    """The look. Made while everything is in its place; belongs to the loop of the log's owner."""

    def __init__(
        self,
        paths: NodePaths,
        data_dir: DataDir,
        refuse: Callable[[DataDirLost], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """
        Args:
            refuse: Called at once where something is missing: nothing is to be logged any more.
            fail: Called a moment later: the process must end.
        """
        self._paths = paths
        self._data_dir = data_dir
        self._refuse = refuse
        self._fail = fail
        self._home = _number_of(paths)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, on the running loop."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def loss(self) -> str:
        """Return what is no longer in its place; empty where all is."""
        paths, data_dir = self._paths, self._data_dir
        try:
            if _number_of(paths) != self._home:
                return f"{paths.data_dir} is another folder than the one that was opened"
            if read_identity(paths.node_file).id != data_dir.node.id:
                return f"{paths.node_file} is that of another node"
        except FileNotFoundError as error:
            return f"{error.filename} is gone"
        except (OSError, DataDirUnusable):
            # What the disk can't read just now is no proof, and the next start looks at it.
            return ""
        return data_dir.misplaced()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            lost = self.loss()
            if lost:
                error = DataDirLost(lost)
                self._refuse(error)
                await asyncio.sleep(_LEAVE_SECONDS)
                self._fail(error)
                return


def _number_of(paths: NodePaths) -> tuple[int, int]:
    facts = os.stat(paths.data_dir)
    return facts.st_dev, facts.st_ino
