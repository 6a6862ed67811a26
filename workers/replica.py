"""The replica process: owner of a replica's log.

Thin: it builds the engine that follows the master. `workers.owner` runs it on one uvloop until it
is told to stop or the log fails. `python -m workers.replica`, configured by the environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from synap.errors import ConfigInvalid, DataDirLost, DataDirUnusable, RoleError
from synap.ipc.admin_messages import AcceptMaster, ConfirmClock, EngineCommand, MasterAccepted
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.owner.comparison import Comparison
from synap.owner.mender import CopySource
from synap.owner.role_change import config_with_master
from synap.owner.snapshotter import Snapshotter
from synap.replication.following.freshness import Freshness
from synap.replication.following.installer import Installer
from synap.replication.following.replica_status import ReplicaBoard
from synap.replication.following.subscriber import Subscriber
from synap.replication.publishing.relaying import Relay
from synap.replication.publishing.rival_watch import load_peers, save_peers
from synap.store.scrubbing import Suspect
from workers.owner import OwnerParts, own_log
from workers.process import run

if TYPE_CHECKING:
    from synap.config.keys import Config


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
    return uvloop.run(own_log(config_with_master(config, *addresses), paths, node, build_engine))


class _Peers:
    """Where the master's replicas would be as masters; kept over restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.addresses = load_peers(path)

    def keep(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        save_peers(self._path, addresses)


class ReplicaEngine:
    """The subscriber and its task."""

    can_renew = True

    def __init__(
        self,
        subscriber: Subscriber,
        diverged_dir: Path,
        on_failure: Callable[[BaseException], None],
        freshness: Freshness,
        data_dir: DataDir,
        relay: Relay | None,
    ) -> None:
        """
        Args:
            data_dir: The replica's.
            relay: Serves replicas of this node's own, not started yet; None where it has none.
            subscriber: Not running yet.
            diverged_dir: Where own data goes that the master does not have.
            on_failure: Called where the subscriber ends by an error.
            freshness: Keeps how old the data is.
        """
        self._subscriber = subscriber
        self._diverged_dir = diverged_dir
        self._on_failure = on_failure
        self._freshness = freshness
        self._data_dir = data_dir
        self._relay = relay
        self.is_listening = relay is not None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._relay is not None:
            await self._relay.start()
        self._task = asyncio.create_task(self._subscriber.run())
        self._task.add_done_callback(self._look)

    async def stop(self) -> None:
        if self._task is not None:
            self._subscriber.stop()
            await asyncio.wait((self._task,))
            self._freshness.save()
        if self._relay is not None:
            await self._relay.stop()

    async def end_writing(self) -> None:
        await self.stop()

    def refuse(self, error: DataDirLost) -> None:
        self._subscriber.stop()

    def seal(self, epoch: int) -> None:
        self._subscriber.seal()

    def held_offset(self) -> int:
        return 0

    def copy_sources(self, own: CopySource) -> Sequence[CopySource]:
        return (self._subscriber, own)

    def renew_store(self, why: str) -> bool:
        return self._subscriber.renew(why)

    async def compare(self, share: float) -> list[Suspect]:
        return await Comparison(self._data_dir, self._subscriber, share).run()

    def doubt(self, space: int, key: bytes) -> None:
        self._subscriber.doubt(space, key)

    def handle(self, command: EngineCommand) -> MasterAccepted:
        """Take the operator's word that the master's data is to replace this node's.

        Raises:
            NothingToAccept: nothing waits for it.
            RoleError: it is what a master is asked.
        """
        if isinstance(command, ConfirmClock):
            raise RoleError(
                "this node is a replica: keys expire by the clock of its master; ask that"
            )
        if not isinstance(command, AcceptMaster):
            raise RoleError("this node is a replica and takes no writes; ask its master")
        self._subscriber.accept()
        return MasterAccepted(str(self._diverged_dir))

    def show_details(self) -> None:
        self._subscriber.show_details()

    async def forget_replica(self, name: str) -> None:
        """Refuse: a replica has none.

        Raises:
            RoleError: always.
        """
        raise RoleError("this node is a replica and knows no others; ask its master")

    def _look(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error)


async def build_engine(parts: OwnerParts) -> ReplicaEngine:
    """Build the engine that follows the master."""
    master_address = parts.config.replication.master_address
    assert master_address is not None, "it was looked at before the loop began"
    data_dir, snapshots = parts.data_dir, parts.snapshots
    freshness = Freshness(parts.paths.fresh_file)
    peers = _Peers(parts.paths.peers_file)
    relay = _relay(parts)
    subscriber = Subscriber(
        parts.config,
        data_dir if relay is None else relay.log,
        ReplicaBoard(
            parts.board,
            data_dir,
            master_address,
            snapshots.facts,
            freshness,
            parts.store_health,
            lambda: peers.addresses,
            tuple if relay is None else relay.replicas,
            lambda: subscriber.upstream,
        ),
        applied_time_ms=data_dir.applied.time_ms,
        fresh_ns=freshness.began_ns(data_dir.applied.time_ms, has_synced=data_dir.has_synced),
        count=parts.count,
        on_peers=peers.keep,
        on_beat=None if relay is None else relay.beat,
        installer=Installer(
            data_dir, parts.paths.snapshots_dir, partial(_paused, snapshots, relay)
        ),
        records=parts.records,
        snapshot_ms=lambda: snapshots.facts().last_ms,
    )
    if relay is not None:
        relay.above = subscriber.ancestry
    return ReplicaEngine(
        subscriber, parts.paths.diverged_dir, parts.fail, freshness, data_dir, relay
    )


def _relay(parts: OwnerParts) -> Relay | None:
    if not parts.config.replication.relay:
        return None
    return Relay(
        parts.config, parts.data_dir, parts.snapshots,
        count=parts.count, records=parts.records, on_failure=parts.fail,
    )  # fmt: skip


@asynccontextmanager
async def _paused(snapshots: Snapshotter, relay: Relay | None) -> AsyncIterator[None]:
    """Keep others from the log and the snapshots."""
    async with AsyncExitStack() as stack:
        if relay is not None:
            await stack.enter_async_context(relay.away())
        await stack.enter_async_context(snapshots.paused())
        yield


def main() -> int:
    """Run the process and return its exit code."""
    return run("replica", serve)


if __name__ == "__main__":
    sys.exit(main())
