"""The writer process: owner of a master's or standalone node's log.

Thin: it opens the log, builds the engine and runs it on one uvloop until it is told to stop or the
engine says that it can't go on. `python -m workers.writer`, configured by the environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvloop

from synap.commands.commands import Limits
from synap.errors import DataDirUnusable, ReignEnded
from synap.eviction.access_table import AccessTable
from synap.eviction.evictor import Evictor
from synap.eviction.rules import POLICIES
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.owner.owner_metrics import OwnerSeries, TimedFiles
from synap.owner.role_change import RoleChange
from synap.replication.publishing.known_replicas import KnownReplicas, load_replicas
from synap.replication.publishing.peer_check import find_higher_epoch
from synap.replication.publishing.predecessor_notice import PredecessorNotice
from synap.replication.publishing.publisher import Publisher
from synap.replication.transport.curve import load_keys
from synap.shared.board import Board, BoardView, SnapshotFacts
from synap.shared.series import Series
from synap.writer.quorum_answers import Quorum
from synap.writer.writer import Writer, WriterOptions
from synap.writer.writer_status import WriterStatus
from workers.owner import ExitSignal, OwnerWork, owner_hooks
from workers.process import EXIT_CLEAN, EXIT_ROLE_CHANGED, run, stop_on_signals

if TYPE_CHECKING:
    from synap.config.loading import Config

logger = logging.getLogger(__name__)

# A node that was promoted answers within milliseconds; one that can't be reached delays the start
# by this, and writes with it.
_INQUIRY_SECONDS = 1.0


def serve(config: Config) -> int:
    """Own the log until SIGTERM or SIGINT, or until the role changes.

    Returns:
        The exit code.

    Raises:
        StartError, WalCorrupt, StoreUnusable: the log can't be opened.
        WalFailed: the disk refused it while it was in use.
    """
    paths = NodePaths.of(config)
    paths.create()
    node = Node.load_or_create(config, paths)
    if node.role == "replica":
        raise DataDirUnusable(
            f"{paths.data_dir} belongs to a replica; its log is owned by workers.replica"
        )
    return uvloop.run(_serve(config, paths, node))


async def _serve(config: Config, paths: NodePaths, node: Node) -> int:
    loop = asyncio.get_running_loop()
    exit_signal = ExitSignal()

    async def end_writing() -> None:
        await writer.stop()

    def held_offset() -> int:
        return publisher.held_offset(1) if publisher is not None else 0

    series = Series(paths.run_dir)
    data_dir = DataDir.open(config, paths, node, exit_signal.fail_from_thread, TimedFiles(series))
    await _check_peers(config, paths, data_dir)
    replicas = KnownReplicas(paths.replicas_file)
    board = Board(paths.board_file)
    roles = RoleChange(
        config,
        data_dir,
        owner_hooks(config, board, loop, exit_signal.leave, end_writing, held_offset),
    )
    work = OwnerWork(config, paths, data_dir, roles.handle, OwnerSeries(series, board))
    publisher = Publisher(config, data_dir, work.snapshots) if node.role == "master" else None
    evictor = _evictor(config, paths, data_dir)
    writer = build_writer(
        config, data_dir, board, publisher, exit_signal.fail, evictor, work.snapshots.facts
    )
    work.pause_writes = writer.handle_pause
    notice = _predecessor_notice(config, data_dir)
    stop_on_signals(loop, exit_signal.leave)
    is_clean = False
    try:
        if publisher is not None:
            publisher.watch(writer.look_at_acks, writer.end_reign, replicas.note)
            await publisher.start()
        await work.start()
        await writer.start(paths.writer_socket)
        if notice is not None:
            notice.start()
        await exit_signal.wait()
        is_clean = True
    finally:
        if notice is not None:
            await notice.stop()
        await work.stop()
        await writer.stop()
        if publisher is not None:
            await publisher.stop()
        await replicas.stop()
        board.close()
        data_dir.close(clean=is_clean)
        series.close()
    return EXIT_ROLE_CHANGED if roles.is_changed else EXIT_CLEAN


def build_writer(
    config: Config,
    data_dir: DataDir,
    board: Board,
    publisher: Publisher | None,
    on_failure: Callable[[BaseException], None],
    evictor: Evictor | None = None,
    snapshots: Callable[[], SnapshotFacts] = SnapshotFacts,
) -> Writer:
    """Build the engine that `config` describes."""
    server = config.server
    view = BoardView(role=data_dir.node.role, owner_pid=os.getpid(), master_url=server.own_url)
    options = WriterOptions(
        limits=Limits(config.kv_store.max_value_size_bytes),
        turn_bytes=config.persistence.wal.buffer_size_kb * 1024,
        sweep_interval_ms=config.kv_store.ttl_cleanup_interval_ms,
        quorum=Quorum(
            config.replication.min_replicas_to_write if publisher is not None else 0,
            config.replication.ack_timeout_ms,
        ),
        transaction_timeout_seconds=server.transaction_timeout_secs,
        hold_seconds=server.write_timeout_ms / 1000 / 2,
    )
    return Writer(
        data_dir,
        WriterStatus(board, data_dir, view, publisher, evictor, snapshots),
        options,
        publisher=publisher,
        evictor=evictor,
        on_failure=on_failure,
    )


async def _check_peers(config: Config, paths: NodePaths, data_dir: DataDir) -> None:
    """End the reign, before the first write, where one of the old replicas reigns by now."""
    known = load_replicas(paths.replicas_file)
    if data_dir.node.role != "master" or data_dir.node.identity.ended_by_epoch or not known:
        return
    name, lineage = config.server.node_id, data_dir.lineage
    keys = load_keys(config)
    epoch = await find_higher_epoch(name, lineage, known.values(), _INQUIRY_SECONDS, keys)
    if epoch:
        data_dir.node.end_reign(epoch)
        logger.error(
            "writes are refused: %s", ReignEnded(epoch),
            extra={"action": "stale_epoch", "epoch": epoch},
        )  # fmt: skip


def _predecessor_notice(config: Config, data_dir: DataDir) -> PredecessorNotice | None:
    """Return what tells the master before this one, on a master that was promoted."""
    address = data_dir.node.identity.master_sync_address
    if data_dir.node.role != "master" or not address or data_dir.node.identity.ended_by_epoch:
        return None
    return PredecessorNotice(
        data_dir, config.server.node_id, config.server.own_url, address, load_keys(config)
    )


def _evictor(config: Config, paths: NodePaths, data_dir: DataDir) -> Evictor | None:
    limit_bytes = config.kv_store.max_memory_mb * 1024 * 1024
    if not limit_bytes:
        return None
    policy = POLICIES[config.kv_store.eviction_policy]
    access = AccessTable.of(policy, paths.run_dir, limit_bytes)
    return Evictor(data_dir.store, policy, limit_bytes, access=access)


def main() -> int:
    """Run the process and return its exit code."""
    return run("writer", serve)


if __name__ == "__main__":
    sys.exit(main())
