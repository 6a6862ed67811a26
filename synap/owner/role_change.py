"""Changing a node's role: what it would lose, and the change itself.

The owner of the log asks `promotion_losses` or `following_losses`, and does what it was asked to
where there are none or it is forced. A change is written into `node.json`; the owner then ends, and
the supervisor starts the one of the new role. Plain values but for `RoleChange`, which has the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from synap.config.membership import check_membership
from synap.errors import ForceWanted, RoleError, SynapError
from synap.ipc.admin_messages import AdminCommand, Follow, Promote, RoleTaken, Seal, SealKept
from synap.node.data_dir import DataDir
from synap.owner.own_address import own_address
from synap.replication.rules.lag import lag_entries
from synap.replication.rules.progress import LinkState, is_silent
from synap.replication.rules.reigns import rank
from synap.shared.board import BoardView

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)


def config_with_master(config: Config, pub_address: str, sync_address: str) -> Config:
    """Return `config` with another master to follow."""
    replication = msgspec.structs.replace(
        config.replication, master_address=pub_address, master_sync_address=sync_address
    )
    return msgspec.structs.replace(config, replication=replication)


def promotion_losses(view: BoardView, now_ns: int) -> list[str]:
    """Return what the promotion of a replica would lose, as far as it can know.

    Args:
        view: What the replica shows.
        now_ns: Monotonic clock.
    """
    losses = []
    missing = lag_entries(view.master_offset, view.applied_offset)
    if not view.first_sync_done:
        losses.append("this replica never held a whole state of its master")
    if missing:
        losses.append(
            f"{missing} entries of the master's, up to offset {view.master_offset}, are not here"
        )
    if view.status == LinkState.DIVERGED:
        losses.append("the data here is not a beginning of the master's (diverged)")
    is_heard = view.last_contact_ns and not is_silent(
        now_ns, view.last_contact_ns, view.heartbeat_ns
    )
    if is_heard:
        losses.append("the master is still heard, and what it takes from now on goes nowhere")
    return losses


def following_losses(view: BoardView, held_offset: int) -> list[str]:
    """Return what a node that takes writes would lose by following another one.

    Args:
        view: What it shows.
        held_offset: Last offset that one of its replicas is known to hold; 0 for none.
    """
    if view.read_only == "stale_epoch":
        return []
    own = lag_entries(view.applied_offset, held_offset)
    if not own:
        return []
    return [f"{own} entries, up to offset {view.applied_offset}, are on no replica of this node"]


@dataclass(frozen=True, slots=True)
class OwnerHooks:
    """What a change of role needs of the owner of the log.

    Attributes:
        view: Tells what it shows on the board.
        held_offset: Tells the last offset that a replica of it holds.
        end_writing: Stops whatever appends to the log; the log stays open.
        leave: Ends the owner, soon.
        check: Raises a SynapError where this machine can't be a master, because a port is taken.
        now_ns: Monotonic clock.
        why_unheard: Says why no master is heard at a PUB socket; empty where one is.
        seal: Ends what a promise to follow nobody below an epoch has ended.
    """

    view: Callable[[], BoardView]
    held_offset: Callable[[], int]
    end_writing: Callable[[], Awaitable[None]]
    leave: Callable[[], None]
    check: Callable[[], None]
    now_ns: Callable[[], int]
    why_unheard: Callable[[str], Awaitable[str]]
    seal: Callable[[int], None]


class RoleChange:
    """The changes, on one log.

    Attributes:
        is_changed: Whether this owner is to be replaced.
    """

    def __init__(self, config: Config, data_dir: DataDir, owner_hooks: OwnerHooks) -> None:
        self._config = config
        self._data_dir = data_dir
        self._hooks = owner_hooks
        self.is_changed = False

    async def handle(self, command: AdminCommand) -> RoleTaken | SealKept:
        """Carry out a change of role, or promise one to a candidate.

        Raises:
            ForceWanted: it would lose something, or the master to follow is not heard; nothing was
                changed.
            RoleError: it is being changed already, or can't be.
            SealRefused: a reign of that number is known, or promised to somebody else.
        """
        if self.is_changed:
            raise RoleError("the role is being changed already")
        if isinstance(command, Seal):
            return self._seal(command)
        if isinstance(command, Promote):
            return await self._promote(command)
        if isinstance(command, Follow):
            return await self._follow(command)
        raise RoleError("this is no change of role")

    def _seal(self, command: Seal) -> SealKept:
        data_dir = self._data_dir
        if data_dir.node.role == "standalone":
            raise RoleError("this node is of no cluster, and has nobody to promise an epoch to")
        if data_dir.is_recovering:
            raise RoleError(
                "this master may have lost entries that it told of, and so stands for nothing; it "
                "waits for its replicas"
            )
        if not data_dir.has_synced:
            raise RoleError(
                "this node never held a whole state, or lost what it had, and so stands for nothing"
            )
        data_dir.node.seal(command.epoch, command.candidate)
        # From here on nothing is acknowledged, so what is held now is the most that ever was.
        self._hooks.seal(command.epoch)
        held = rank(data_dir.lineage, data_dir.position.offset)
        logger.warning(
            "sealed for epoch %d of %s at offset %d",
            command.epoch, command.candidate, held.offset,
            extra={"action": "sealed", "epoch": command.epoch, "offset": held.offset},
        )  # fmt: skip
        return SealKept(command.epoch, held)

    async def _promote(self, command: Promote) -> RoleTaken:
        node = self._data_dir.node
        if command.epoch:
            node.check_promised(command.epoch, self._config.server.node_id)
        losses: list[str] = []
        if node.role == "replica":
            losses = promotion_losses(self._hooks.view(), self._hooks.now_ns())
        elif node.identity.ended_by_epoch:
            losses = [f"epoch {node.identity.ended_by_epoch} reigns, which this node has met"]
        elif node.identity.is_recovering:
            losses = ["entries that only replicas hold, which this master waits for, are given up"]
        elif node.role == "master" and not command.force and not command.epoch:
            return self._taken(is_changed=False)
        self._refuse_unless(command.force, losses)
        if node.role != "master":
            self._check(self._hooks.check)
        addresses = node.master_addresses(self._config) if node.role == "replica" else None
        await self._change(lambda: self._data_dir.promote(addresses, command.epoch))
        logger.warning(
            "this node is the master from now on, in epoch %d after offset %d",
            self._epoch(), self._data_dir.position.offset,
            extra={"action": "promoted", "epoch": self._epoch(), "lost": losses},
        )  # fmt: skip
        return self._taken(is_changed=True, lost=losses)

    async def _follow(self, command: Follow) -> RoleTaken:
        node = self._data_dir.node
        addresses = (command.master_address, command.master_sync_address)
        if node.role == "replica" and node.master_addresses(self._config) == addresses:
            return self._taken(is_changed=False)
        own = await asyncio.to_thread(own_address, addresses, self._config)
        if own:
            raise RoleError(
                f"{own} is this node's own address, and a node that follows itself leaves no "
                "master; name that of another node"
            )
        if node.role == "standalone":
            self._check()
        if not command.force:
            await self._refuse_unless_heard(command.master_address)
        losses: list[str] = []
        if node.role != "replica":
            losses = following_losses(self._hooks.view(), self._hooks.held_offset())
        self._refuse_unless(command.force, losses)
        await self._change(lambda: node.follow(*addresses))
        logger.warning(
            "this node follows %s from now on", command.master_address,
            extra={"action": "follows", "offset": self._data_dir.position.offset, "lost": losses},
        )  # fmt: skip
        return self._taken(is_changed=True, lost=losses)

    async def _change(self, change: Callable[[], object]) -> None:
        """End the writing, then `change`; the owner leaves also where that failed."""
        self.is_changed = True
        try:
            await self._hooks.end_writing()
            change()
        finally:
            self._hooks.leave()

    async def _refuse_unless_heard(self, address: str) -> None:
        reason = await self._hooks.why_unheard(address)
        if self.is_changed:
            raise RoleError("the role is being changed already")
        if reason:
            raise ForceWanted(
                f"no master is heard at {address}: {reason}. It must be a master's PUB socket "
                "(replication.replica_listen_address). Nothing was changed; use --force (over HTTP "
                "`force`) to follow it all the same"
            )

    def _refuse_unless(self, is_forced: bool, losses: list[str]) -> None:
        if losses and not is_forced:
            raise ForceWanted(
                f"{'; '.join(losses)}. Nothing was changed; use --force (over HTTP `force`) to do "
                "it anyway"
            )

    def _check(self, *checks: Callable[[], None]) -> None:
        """See to it that this machine may have the new role, by `checks` too."""
        try:
            check_membership(self._config)
            for check in checks:
                check()
        except SynapError as error:
            raise RoleError(error.message) from error

    def _epoch(self) -> int:
        reign = self._data_dir.node.reign
        return reign.epoch if reign is not None else 0

    def _taken(self, *, is_changed: bool, lost: list[str] | None = None) -> RoleTaken:
        node = self._data_dir.node
        offset = self._data_dir.position.offset
        return RoleTaken(node.role, self._epoch(), offset, is_changed, tuple(lost or ()))
