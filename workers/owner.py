"""What the owner of a log does beside its role, on a master as on a replica.

Its snapshots, what must be done now and then, what a change of role asks of it, and its end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from synap.errors import NothingToAccept, RoleError
from synap.ipc.admin_messages import (
    AcceptMaster,
    AdminCommand,
    AdminResult,
    MasterAccepted,
    PauseCommand,
    PauseState,
    TakeSnapshot,
)
from synap.ipc.admin_socket import AdminServer, Handler
from synap.node.data_dir import DataDir
from synap.node.paths import NodePaths
from synap.owner.owner_metrics import OwnerSeries
from synap.owner.role_change import OwnerHooks
from synap.owner.snapshotter import Snapshotter
from synap.owner.stale_readers import StaleReaders
from synap.shared.board import Board
from workers.ports import check_ports
from workers.process import child_environment, python_command

if TYPE_CHECKING:
    from synap.config.loading import Config

# What was answered is on its way before the owner ends.
_LEAVE_SECONDS = 0.05


def owner_hooks(
    config: Config,
    board: Board,
    loop: asyncio.AbstractEventLoop,
    leave: Callable[[], None],
    end_writing: Callable[[], Awaitable[None]],
    held_offset: Callable[[], int] = int,
) -> OwnerHooks:
    """Return what a change of role needs of this owner.

    Args:
        leave: Ends the owner.
        end_writing: Stops whatever appends to the log.
        held_offset: Last offset that a replica of this node holds.
    """
    replication = config.replication
    listening = {
        "replication, PUB": replication.replica_listen_address,
        "replication, ROUTER": replication.sync_listen_address,
    }

    def leave_soon() -> None:
        loop.call_later(_LEAVE_SECONDS, leave)

    return OwnerHooks(
        view=board.view,
        held_offset=held_offset,
        end_writing=end_writing,
        leave=leave_soon,
        check=lambda: check_ports(listening, "choose another in the configuration"),
        now_ns=time.monotonic_ns,
    )


class ExitSignal:
    """How an owner's work ends: told to leave, or by a failure; the first of these counts.

    Made on the loop whose thread it belongs to.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    def leave(self) -> None:
        """End it well."""
        if not self._ended.done():
            self._ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End it by `error`."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def fail_from_thread(self, error: BaseException) -> None:
        """End it by `error`, from any thread."""
        self._loop.call_soon_threadsafe(self.fail, error)

    async def wait(self) -> None:
        """Wait for the end; raise what it failed by."""
        await self._ended


class OwnerWork:
    """The snapshots, and the socket on which these and changes of role are asked for.

    Attributes:
        snapshots: Takes them.
        accept_master: Takes the operator's word on a diverged replica; set by a replica.
        pause_writes: Pauses the writes, or ends that; set by a writer.
    """

    def __init__(
        self,
        config: Config,
        paths: NodePaths,
        data_dir: DataDir,
        handle_role: Handler,
        series: OwnerSeries,
    ) -> None:
        environment = child_environment(os.environ, None, {})
        command = python_command("workers.snapshot")
        self.snapshots = Snapshotter(config, paths, data_dir, command, environment)
        self._stale_readers = StaleReaders(data_dir)
        self._series = series
        data_dir.on_logged = series.note_frames
        self._admin = AdminServer(self._handle)
        self._handle_role = handle_role
        self.accept_master: Callable[[], MasterAccepted] = _nothing_to_accept
        self.pause_writes: Callable[[PauseCommand], PauseState] = _nothing_to_pause
        self._socket = paths.admin_socket

    async def start(self) -> None:
        """Begin, on the running loop."""
        self._stale_readers.start()
        self._series.start()
        await self.snapshots.start()
        await self._admin.start(self._socket)

    async def stop(self) -> None:
        """End; what is under way is given up."""
        self._stale_readers.stop()
        self._series.stop()
        await self._admin.stop()
        await self.snapshots.stop()

    async def _handle(self, command: AdminCommand) -> AdminResult:
        if isinstance(command, TakeSnapshot):
            return await self.snapshots.take()
        if isinstance(command, AcceptMaster):
            return self.accept_master()
        if isinstance(command, PauseCommand):
            return self.pause_writes(command)
        return await self._handle_role(command)


def _nothing_to_accept() -> MasterAccepted:
    raise NothingToAccept


def _nothing_to_pause(command: PauseCommand) -> PauseState:
    raise RoleError("this node is a replica and takes no writes; ask its master")
