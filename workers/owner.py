"""What the owner of a log does beside its role, on a master as on a replica.

Its snapshots, and what must be done now and then.
"""

from __future__ import annotations

import os

from synap.admin import AdminServer
from synap.config import Config
from synap.log import Log
from synap.paths import NodePaths
from synap.snapshotter import Snapshotter
from synap.upkeep import Upkeep
from workers.process import child_environment, python_command


class OwnerWork:
    """The snapshots, and the socket on which they are asked for.

    Attributes:
        snapshots: Takes them.
    """

    def __init__(self, config: Config, paths: NodePaths, log: Log) -> None:
        environment = child_environment(os.environ, None, {})
        command = python_command("workers.snapshot")
        self.snapshots = Snapshotter(config, paths, log, command, environment)
        self._upkeep = Upkeep(log)
        self._admin = AdminServer(self.snapshots.handle)
        self._socket = paths.admin_socket

    async def start(self) -> None:
        """Begin, on the running loop."""
        self._upkeep.start()
        await self.snapshots.start()
        await self._admin.start(self._socket)

    async def stop(self) -> None:
        """End; what is under way is given up."""
        self._upkeep.stop()
        await self._admin.stop()
        await self.snapshots.stop()
