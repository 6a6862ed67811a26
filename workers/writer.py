"""The writer process: owner of a master's or standalone node's log.

Thin: it builds the engine. `workers.owner` runs it on one uvloop until it is told to stop or the
engine says that it can't go on. `python -m workers.writer`, configured by the environment.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from synap import __version__
from synap.commands.keyspace import Limits
from synap.errors import (
    DataDirLost,
    DataDirUnusable,
    NothingToAccept,
    ReignEnded,
    ReplicaHeard,
    ReplicaUnknown,
)
from synap.eviction.access_table import AccessTable
from synap.eviction.evictor import Evictor
from synap.eviction.rules import POLICIES
from synap.ipc.admin_messages import (
    AcceptMaster,
    ClockConfirmed,
    ConfirmClock,
    EngineCommand,
    GrantLease,
    LeaseHeld,
    PauseState,
)
from synap.node.aside import Quarantine
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.owner.mender import CopySource
from synap.owner.own_clock import OwnClock
from synap.replication.publishing.known_replicas import KnownReplicas, load_replicas
from synap.replication.publishing.peer_check import find_rival
from synap.replication.publishing.predecessor_notice import PredecessorNotice
from synap.replication.publishing.publisher import Publisher, PublisherHooks
from synap.replication.publishing.rival_watch import RivalWatch, load_peers
from synap.replication.rules.messages import AboutMaster
from synap.replication.transport.curve import load_keys
from synap.replication.transport.reach import leads_to
from synap.shared.board import BoardView, lease_left_ms, unacknowledged
from synap.shared.node_clock import ClockWord
from synap.store.scrubbing import Suspect
from synap.writer.lease import FOR_EVER_NS, Lease
from synap.writer.quorum_answers import Quorum
from synap.writer.request_table import RequestLimits
from synap.writer.writer import Writer, WriterOptions
from synap.writer.writer_status import QuorumWatch, WriterStatus
from workers.owner import OwnerParts, own_log
from workers.process import run

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

# A node that was promoted answers within milliseconds; one that can't be reached delays the start
# by this, and writes with it.
_INQUIRY_SECONDS = 1.0
# Where an engine says who is the master, nothing is answered without its lease.
_GUARDED_INQUIRY_SECONDS = 0.2


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
    return uvloop.run(own_log(config, paths, node, build_engine))


class WriterEngine:
    """The writer, and on a master its publisher and what it tells the master before it."""

    can_renew = False
    is_listening = True

    def __init__(
        self,
        paths: NodePaths,
        writer: Writer,
        publisher: Publisher | None,
        notice: PredecessorNotice | None,
        watch: Callable[[KnownReplicas, Callable[[int, str], None]], RivalWatch] | None,
        clock: OwnClock,
        fail: Callable[[BaseException], None],
        *,
        data_dir: DataDir,
        quorum: int,
    ) -> None:
        """
        Args:
            paths: The node's.
            fail: Ends the process by an error.
            data_dir: The writer's.
            quorum: How many replicas each write waits for.
            writer: Not started yet.
            publisher: Not started yet; None on a standalone node.
            watch: Makes what looks for other masters; None on a standalone node.
            clock: The node's, not started yet.
            notice: For the master before this one; None where there is none to be told.
        """
        self._writer = writer
        self._publisher = publisher
        self._notice = notice
        self._clock = clock
        self._fail = fail
        self._data_dir = data_dir
        self._is_recovering = data_dir.is_recovering
        self._quorum = quorum
        # Where there is no agent, whoever a restart asks is one.
        self._voters: frozenset[str] | None = None
        self._replicas = KnownReplicas(paths.replicas_file, Quarantine(paths.foreign_dir))
        self._watch = watch(self._replicas, writer.end_reign) if watch is not None else None
        self._socket = paths.writer_socket

    async def start(self) -> None:
        writer = self._writer
        self._clock.start()
        if self._publisher is not None:
            self._replicas.on_written = writer.look_at_acks
            await self._publisher.start(
                PublisherHooks(
                    on_ack=writer.look_at_acks,
                    on_higher_epoch=writer.end_reign,
                    on_replica=self._replicas.note,
                    addresses=self._replicas.addresses,
                    is_known=self._counts,
                    on_restart_over=self._restart_over,
                    on_failure=self._fail,
                )
            )
            self._replicas.settle(is_recovering=self._is_recovering)
        await writer.start(self._socket)
        if self._notice is not None:
            self._notice.start()
        if self._watch is not None:
            self._watch.start()

    async def stop(self) -> None:
        if self._notice is not None:
            await self._notice.stop()
        if self._watch is not None:
            await self._watch.stop()
        await self._writer.stop()
        if self._publisher is not None:
            await self._publisher.stop()
        await self._replicas.stop()
        self._clock.stop()

    def _restart_over(self) -> None:
        self._replicas.settle(is_recovering=False)
        self._writer.end_recovery()

    async def end_writing(self) -> None:
        await self._writer.stop()

    def refuse(self, error: DataDirLost) -> None:
        self._writer.refuse(error)

    def seal(self, epoch: int) -> None:
        self._writer.end_reign(epoch)

    def held_offset(self) -> int:
        return self._publisher.held_offset(1) if self._publisher is not None else 0

    def copy_sources(self, own: CopySource) -> Sequence[CopySource]:
        return (own,) if self._publisher is None else (own, self._publisher)

    def renew_store(self, why: str) -> bool:
        return False

    async def compare(self, share: float) -> list[Suspect]:
        return []

    def doubt(self, space: int, key: bytes) -> None:
        """Nobody's is more right than a master's."""

    def _counts(self, name: str) -> bool:
        """Say whether a replica's acks count: a restart asks it, and it is a voter."""
        is_voter = self._voters is None or name in self._voters
        return is_voter and self._replicas.is_written(name)

    def handle(self, command: EngineCommand) -> PauseState | ClockConfirmed | LeaseHeld:
        """Pause the writes, end that, or step down; follow the machine's clock; take a lease.

        Raises:
            NothingToAccept: it is what a replica is asked.
            NotPaused, ReignEnded: it can't be done now.
        """
        if isinstance(command, GrantLease):
            return self._take_lease(command)
        if isinstance(command, AcceptMaster):
            raise NothingToAccept
        if isinstance(command, ConfirmClock):
            return ClockConfirmed(self._clock.confirm())
        return self._writer.handle_pause(command)

    def _take_lease(self, command: GrantLease) -> LeaseHeld:
        self._voters = None if command.voters is None else frozenset(command.voters)
        self._writer.grant(command.until_ns, command.alone_until_ns)
        reign, end = self._data_dir.node.reign, self._data_dir.position.offset
        assert reign is not None, "a node without a reign has no writer"
        held = end
        if self._quorum and self._publisher is not None:
            held = self._publisher.held_offset(self._quorum)
        return LeaseHeld(reign.epoch, held)

    def show_details(self) -> None:
        self._writer.show_details()

    async def forget_replica(self, name: str) -> None:
        """Forget a replica that is gone for good: its row, its name for restarts, the wait for it.

        Raises:
            ReplicaUnknown: it is not known.
            ReplicaHeard: it is connected.
        """
        publisher, known = self._publisher, self._replicas
        if publisher is None or not (publisher.knows_replica(name) or name in known):
            raise ReplicaUnknown(f"this node knows no replica {name}")
        if not publisher.forget_replica(name):
            raise ReplicaHeard
        await known.forget(name)
        logger.warning(
            "the replica %s is forgotten", name,
            extra={"action": "replica_forgotten", "replica": name},
        )  # fmt: skip


async def build_engine(parts: OwnerParts) -> WriterEngine:
    """Build the engine of a master or a standalone node."""
    config, data_dir = parts.config, parts.data_dir
    await _check_peers(config, parts.paths, data_dir)
    clock = OwnClock(ClockWord(parts.board.clock), parts.count)
    publisher = None
    if data_dir.node.role == "master":
        known = load_replicas(parts.paths.replicas_file)
        publisher = Publisher(
            config,
            data_dir,
            parts.snapshots,
            known,
            count=parts.count,
            clock_ms=clock.now_ms,
            records=parts.records,
            about=partial(_about, parts),
        )
    writer = _build_writer(parts, publisher, _evictor(config, parts.paths, data_dir), clock)
    notice = _predecessor_notice(config, data_dir)
    watch = partial(_rival_watch, parts) if publisher is not None else None
    return WriterEngine(
        parts.paths, writer, publisher, notice, watch, clock, parts.fail,
        data_dir=data_dir, quorum=config.replication.min_replicas_to_write,
    )  # fmt: skip


def _about(parts: OwnerParts) -> AboutMaster:
    """Return what heartbeats tell people: what this process shows on its own board."""
    view = parts.board.view()
    return AboutMaster(
        __version__,
        parts.snapshots.facts().last_ms,
        view.read_only or unacknowledged(view),
        lease_left_ms(view),
    )


def _build_writer(
    parts: OwnerParts, publisher: Publisher | None, evictor: Evictor | None, clock: OwnClock
) -> Writer:
    config, data_dir = parts.config, parts.data_dir
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
        requests=RequestLimits(
            config.idempotency.ttl_secs * 1000,
            config.idempotency.max_entries,
            config.idempotency.max_bytes,
        ),
        hold_seconds=server.write_timeout_ms / 1000 / 2,
        has_slots=bool(config.sharding.slots),
    )
    status = WriterStatus(
        parts.board, data_dir, view, publisher, evictor, parts.snapshots.facts,
        lambda: clock.held_seconds, _quorum_watch(config) if publisher is not None else None,
        parts.store_health,
    )  # fmt: skip
    return Writer(
        data_dir, status, options, publisher=publisher, evictor=evictor, on_failure=parts.fail,
        count=parts.count, clock=clock.now, on_damage=parts.mender.report_key,
        lease=Lease(FOR_EVER_NS if config.failover.engine == "none" else 0),
    )  # fmt: skip


def _quorum_watch(config: Config) -> QuorumWatch | None:
    replication = config.replication
    if not replication.min_replicas_to_write:
        return None
    patience_ns = replication.replica_timeout_secs * 1_000_000_000
    return QuorumWatch(replication.min_replicas_to_write, patience_ns, time.monotonic_ns())


async def _check_peers(config: Config, paths: NodePaths, data_dir: DataDir) -> None:
    """End the reign, before the first write, where one of the old replicas reigns by now."""
    known = load_replicas(paths.replicas_file)
    addresses = _without_own(config, (*filter(None, known.values()), *load_peers(paths.peers_file)))
    if data_dir.node.role != "master" or data_dir.node.identity.ended_by_epoch or not addresses:
        return
    name, lineage = config.server.node_id, data_dir.lineage
    keys = load_keys(config)
    is_guarded = config.failover.engine != "none"
    seconds = _GUARDED_INQUIRY_SECONDS if is_guarded else _INQUIRY_SECONDS
    epoch, _ = await find_rival(name, lineage, addresses, seconds, keys)
    if epoch:
        data_dir.node.end_reign(epoch)
        logger.error(
            "writes are refused: %s", ReignEnded(epoch),
            extra={"action": "stale_epoch", "epoch": epoch},
        )  # fmt: skip


def _rival_watch(
    parts: OwnerParts, replicas: KnownReplicas, end_reign: Callable[[int, str], None]
) -> RivalWatch:
    config = parts.config
    kept = load_peers(parts.paths.peers_file)
    return RivalWatch(
        parts.data_dir, config.server.node_id,
        lambda: _without_own(config, (*replicas.addresses(), *kept)), load_keys(config), end_reign,
    )  # fmt: skip


def _without_own(config: Config, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses but this node's: its master told it of all replicas, itself too."""
    own = config.replication.sync_listen_address
    return tuple(each for each in addresses if not leads_to(each, own))


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
