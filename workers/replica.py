"""The replica process: owner of a replica's log.

Thin: it opens the log, builds the engine that follows the master and runs it on one uvloop until it
is told to stop or the log fails. `python -m workers.replica`, configured by the environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvloop

from synap.errors import ConfigInvalid, DataDirUnusable
from synap.ipc.admin_messages import MasterAccepted
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.owner.owner_metrics import OwnerSeries, TimedFiles
from synap.owner.role_change import RoleChange, config_with_master
from synap.replication.following.installer import Installer
from synap.replication.following.replica_status import ReplicaBoard
from synap.replication.following.subscriber import Subscriber
from synap.shared.board import Board
from synap.shared.series import Series
from workers.owner import ExitSignal, OwnerWork, owner_hooks
from workers.process import EXIT_CLEAN, EXIT_ROLE_CHANGED, run, stop_on_signals

if TYPE_CHECKING:
    from synap.config.loading import Config


def serve(config: Config) -> int:
    """Own the log and follow the master until SIGTERM or SIGINT, or until the role changes.

    Returns:
        The exit code.

    Raises:
        StartError, WalCorrupt, StoreUnusable: The log can't be opened.
        WalFailed: The disk refused it while it was in use.
    """
    paths = NodePaths.of(config)
    paths.create()
    node = Node.load_or_create(config, paths)
    if node.role != "replica":
        raise DataDirUnusable(
            f"{paths.data_dir} belongs to a {node.role}; its log is owned by workers.writer"
        )
    # They followed an earlier reign of its own, and follow somebody else by now.
    paths.replicas_file.unlink(missing_ok=True)
    addresses = node.master_addresses(config)
    if addresses is None:
        raise ConfigInvalid(["replication.master_address is not set; a replica needs its master"])
    return uvloop.run(_serve(config_with_master(config, *addresses), paths, node))


async def _serve(config: Config, paths: NodePaths, node: Node) -> int:
    loop = asyncio.get_running_loop()
    exit_signal = ExitSignal()
    series = Series(paths.run_dir)
    data_dir = DataDir.open(config, paths, node, exit_signal.fail_from_thread, TimedFiles(series))
    board = Board(paths.board_file)
    engine = _Engine()
    roles = RoleChange(
        config, data_dir, owner_hooks(config, board, loop, exit_signal.leave, engine.stop)
    )
    work = OwnerWork(config, paths, data_dir, roles.handle, OwnerSeries(series, board))
    is_clean = False
    try:
        await work.start()
        master_address = config.replication.master_address
        assert master_address is not None, "it was looked at before the loop began"
        subscriber = Subscriber(
            config,
            data_dir,
            ReplicaBoard(board, data_dir, master_address, work.snapshots.facts),
            applied_time_ms=data_dir.applied.time_ms,
            installer=Installer(data_dir, paths.snapshots_dir, work.snapshots.paused),
        )

        def accept_master() -> MasterAccepted:
            subscriber.accept()
            return MasterAccepted(str(paths.diverged_dir))

        work.accept_master = accept_master
        stop_on_signals(loop, exit_signal.leave)
        engine.start(subscriber, exit_signal.fail)
        await exit_signal.wait()
        is_clean = True
    finally:
        await engine.stop()
        await work.stop()
        board.close()
        data_dir.close(clean=is_clean)
        series.close()
    return EXIT_ROLE_CHANGED if roles.is_changed else EXIT_CLEAN


class _Engine:
    """The subscriber and its task."""

    def __init__(self) -> None:
        self._subscriber: Subscriber | None = None

    def start(self, subscriber: Subscriber, on_failure: Callable[[BaseException], None]) -> None:
        """Begin to follow.

        Args:
            subscriber: Not running yet.
            on_failure: Called where it ends by an error.
        """

        def look(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                on_failure(error)

        self._subscriber = subscriber
        self._task = asyncio.create_task(subscriber.run())
        self._task.add_done_callback(look)

    async def stop(self) -> None:
        """Follow no longer; returns when nothing is appended any more."""
        if self._subscriber is not None:
            self._subscriber.stop()
            await asyncio.wait((self._task,))


def main() -> int:
    """Run the process and return its exit code."""
    return run("replica", serve)


if __name__ == "__main__":
    sys.exit(main())
