"""The replica process: owner of a replica's log.

Thin: it opens the log, builds the engine that follows the master and runs it on one uvloop until it
is told to stop or the log fails. `python -m workers.replica`, configured by the environment.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from synap.board import Board
from synap.config import Config
from synap.errors import ConfigInvalid, DataDirUnusable
from synap.log import Log
from synap.node import Node
from synap.paths import NodePaths
from synap.replication.replica_board import ReplicaBoard
from synap.replication.subscriber import Subscriber
from workers.owner import OwnerWork
from workers.process import run, stop_on_signals


def serve(config: Config) -> None:
    """Own the log and follow the master until SIGTERM or SIGINT.

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
    if config.replication.master_address is None:
        raise ConfigInvalid(["replication.master_address is not set; a replica needs its master"])
    uvloop.run(_serve(config, paths, node, config.replication.master_address))


async def _serve(config: Config, paths: NodePaths, node: Node, master_address: str) -> None:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()

    def fail(error: BaseException) -> None:
        if not failed.done():
            failed.set_exception(error)

    def fail_from_thread(error: BaseException) -> None:
        loop.call_soon_threadsafe(fail, error)

    log = Log.open(config, paths, node, fail_from_thread)
    board = Board(paths.board_file)
    work = OwnerWork(config, paths, log)
    is_clean = False
    try:
        await work.start()
        subscriber = Subscriber(
            config,
            log,
            ReplicaBoard(board, log, master_address, work.snapshots.facts),
            applied_time_ms=log.applied.time_ms,
        )
        stop_on_signals(loop, subscriber.stop)
        following = asyncio.create_task(subscriber.run())
        ended, _ = await asyncio.wait((following, failed), return_when=asyncio.FIRST_COMPLETED)
        for each in ended:
            each.result()
        is_clean = True
    finally:
        await work.stop()
        board.close()
        log.close(clean=is_clean)


def main() -> int:
    """Run the process and return its exit code."""
    return run("replica", serve)


if __name__ == "__main__":
    sys.exit(main())
