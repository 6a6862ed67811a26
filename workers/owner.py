"""The owner of a log: what it does on a master as on a replica, around the engine of its role.

It opens the log and runs the engine on one loop, and beside it the snapshots, what must be done now
and then, and the socket on which work of the owner's own is asked for.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from synap.errors import DataDirLost, StoreDamaged
from synap.ipc.admin_messages import (
    AdminCommand,
    AdminResult,
    DamageReported,
    EngineCommand,
    EngineResult,
    ForgetReplica,
    ReplicaForgotten,
    ReportDamage,
    TakeSnapshot,
    VerifyStore,
)
from synap.ipc.admin_socket import AdminServer
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.node.suspicion import suspect
from synap.owner.home_watch import HomeWatch
from synap.owner.mender import CopySource, Mender
from synap.owner.owner_metrics import FrameCounter, TimedFiles
from synap.owner.role_change import OwnerHooks, RoleChange
from synap.owner.snapshotter import Snapshotter
from synap.owner.stale_readers import StaleReaders
from synap.owner.store_care import StoreCare
from synap.replication.following.listening import why_unheard
from synap.replication.publishing.known_replicas import load_replicas
from synap.replication.rules.record_copies import Records
from synap.shared.board import Board, StoreHealth
from synap.shared.series import Count, Series
from synap.store.scrubbing import Suspect
from workers.ports import check_ports
from workers.process import (
    EXIT_CLEAN,
    EXIT_ROLE_CHANGED,
    child_environment,
    python_command,
    stop_on_signals,
)

if TYPE_CHECKING:
    from synap.config.keys import Config

# What was answered is on its way before the owner ends.
_LEAVE_SECONDS = 0.05


class Engine(Protocol):
    """What the owner of a log does with it in its role."""

    async def start(self) -> None:
        """Begin, on the running loop."""

    async def stop(self) -> None:
        """End, whether it had begun or not; nothing is appended to the log any more."""

    async def end_writing(self) -> None:
        """Stop whatever appends to the log, before a change of role; the log stays open."""

    def refuse(self, error: DataDirLost) -> None:
        """Log nothing any more: the files are not where they were."""

    def seal(self, epoch: int) -> None:
        """Acknowledge nothing more of a reign below `epoch`, which is promised durably."""

    def held_offset(self) -> int:
        """Return the last offset that a replica of this node holds; 0 where none does."""

    def copy_sources(self, own: CopySource) -> Sequence[CopySource]:
        """Return where sound copies of records are sought, given the own snapshot and log."""

    can_renew: bool
    # Whether it has the replication ports already.
    is_listening: bool

    def renew_store(self, why: str) -> bool:
        """Have the whole store replaced from elsewhere; False where nobody can be asked now."""

    async def compare(self, share: float) -> list[Suspect]:
        """Return where the store differs from another node's at one offset."""

    def doubt(self, space: int, key: bytes) -> None:
        """Tell that node that the own log speaks for the own record."""

    def handle(self, command: EngineCommand) -> EngineResult:
        """Carry out what is asked of this role.

        Raises:
            SynapError: it can't be done, or not in this role.
        """

    def show_details(self) -> None:
        """Show now what the status endpoints tell."""

    async def forget_replica(self, name: str) -> None:
        """Forget a replica that is gone for good.

        Raises:
            ReplicaUnknown: it is not known.
            ReplicaHeard: it is connected.
        """


@dataclass(frozen=True, slots=True)
class OwnerParts:
    """What an engine is built of.

    Attributes:
        config: The node's, with the master that it follows.
        paths: The node's.
        data_dir: Open, and this process's own.
        board: The node's; this process alone writes to it.
        snapshots: Takes the node's snapshots.
        fail: Ends the owner by an error.
        count: Counts what happens, in the owner's series.
        mender: Mends what is damaged in the live store.
        store_health: Tells what is known of its records.
        records: They, as other nodes ask for them.
    """

    config: Config
    paths: NodePaths
    data_dir: DataDir
    board: Board
    snapshots: Snapshotter
    fail: Callable[[BaseException], None]
    count: Count
    mender: Mender
    store_health: Callable[[], StoreHealth]
    records: Records


Build = Callable[[OwnerParts], Awaitable[Engine]]


async def own_log(config: Config, paths: NodePaths, node: Node, build: Build) -> int:
    """Own the log until told to stop, or until the role changes.

    Args:
        build: Makes the engine of the node's role.

    Returns:
        The exit code.

    Raises:
        StartError, WalCorrupt, StoreUnusable: the log can't be opened.
        WalFailed: the disk refused it while it was in use.
    """
    exit_signal = ExitSignal()
    series = Series(paths.run_dir)
    data_dir = DataDir.open(
        config, paths, node, exit_signal.fail_from_thread, TimedFiles(series),
        FrameCounter(series).note, has_peers=_has_peers(node, paths),
    )  # fmt: skip
    board = Board(paths.board_file)
    snapshots = _snapshotter(config, paths, data_dir)
    care = StoreCare(
        paths, data_dir, config.verify.every_hours, python_command("workers.verify"),
        child_environment(os.environ, None, {}), fail=exit_signal.fail, count=series.count,
    )  # fmt: skip
    snapshots.on_unsound = care.verifier.look_soon
    parts = OwnerParts(
        config, paths, data_dir, board, snapshots, exit_signal.fail, series.count, care.mender,
        care.facts, care,
    )  # fmt: skip
    engine = await build(parts)
    roles = RoleChange(config, data_dir, _owner_hooks(config, board, exit_signal, engine))
    work = OwnerWork(paths, data_dir, snapshots, roles, engine, care)
    stop_on_signals(asyncio.get_running_loop(), exit_signal.leave)
    watch = HomeWatch(paths, data_dir, engine.refuse, exit_signal.fail)
    is_clean = False
    try:
        await work.start()
        await engine.start()
        watch.start()
        care.start(engine)
        await exit_signal.wait()
        is_clean = True
    except StoreDamaged as error:
        suspect(paths, error.message)
        raise
    finally:
        await watch.stop()
        await care.stop()
        await work.stop()
        await engine.stop()
        board.close()
        data_dir.close(clean=is_clean)
        series.close()
    return EXIT_ROLE_CHANGED if roles.is_changed else EXIT_CLEAN


def _has_peers(node: Node, paths: NodePaths) -> bool:
    """Say whether replicas may hold what this node's log has lost."""
    return node.role == "master" and bool(load_replicas(paths.replicas_file))


def _snapshotter(config: Config, paths: NodePaths, data_dir: DataDir) -> Snapshotter:
    environment = child_environment(os.environ, None, {})
    return Snapshotter(config, paths, data_dir, python_command("workers.snapshot"), environment)


def _owner_hooks(
    config: Config, board: Board, exit_signal: ExitSignal, engine: Engine
) -> OwnerHooks:
    replication = config.replication
    listening = {
        "replication, PUB": replication.replica_listen_address,
        "replication, ROUTER": replication.sync_listen_address,
    }
    loop = asyncio.get_running_loop()

    def leave_soon() -> None:
        loop.call_later(_LEAVE_SECONDS, exit_signal.leave)

    def check_listening() -> None:
        if not engine.is_listening:
            check_ports(listening, "choose another in the configuration")

    return OwnerHooks(
        view=board.view,
        held_offset=engine.held_offset,
        end_writing=engine.end_writing,
        leave=leave_soon,
        check=check_listening,
        now_ns=time.monotonic_ns,
        why_unheard=partial(why_unheard, config),
        seal=engine.seal,
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
    """What goes on beside the engine, and the socket on which work of the owner's is asked for."""

    def __init__(
        self,
        paths: NodePaths,
        data_dir: DataDir,
        snapshots: Snapshotter,
        roles: RoleChange,
        engine: Engine,
        care: StoreCare,
    ) -> None:
        self._care = care
        self._snapshots = snapshots
        self._roles = roles
        self._engine = engine
        self._stale_readers = StaleReaders(data_dir)
        self._admin = AdminServer(self._handle)
        self._socket = paths.admin_socket

    async def start(self) -> None:
        """Begin, on the running loop."""
        self._stale_readers.start()
        await self._snapshots.start()
        await self._admin.start(self._socket)

    async def stop(self) -> None:
        """End; what is under way is given up."""
        self._stale_readers.stop()
        await self._admin.stop()
        await self._snapshots.stop()

    async def _handle(self, command: AdminCommand) -> AdminResult:
        if isinstance(command, ReportDamage):
            for key in command.keys:
                self._care.mender.report_key(key)
            return DamageReported()
        if isinstance(command, TakeSnapshot | VerifyStore | EngineCommand | ForgetReplica):
            result = await self._carry_out(command)
            # Whoever asked may look at once whether it is so.
            self._engine.show_details()
            return result
        return await self._roles.handle(command)

    async def _carry_out(
        self, command: TakeSnapshot | VerifyStore | EngineCommand | ForgetReplica
    ) -> AdminResult:
        if isinstance(command, TakeSnapshot):
            return await self._snapshots.take()
        if isinstance(command, VerifyStore):
            return await self._care.verifier.verify()
        if isinstance(command, ForgetReplica):
            await self._engine.forget_replica(command.name)
            return ReplicaForgotten(command.name)
        return self._engine.handle(command)
