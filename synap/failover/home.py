"""The agent's own node: what it holds, and the orders that its log's owner takes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from synap.addresses import host_of_url, reachable_address
from synap.errors import DataDirUnusable
from synap.failover.rules import Leader, Member
from synap.ipc.admin_messages import (
    AdminCommand,
    AdminResult,
    Follow,
    GrantLease,
    LeaseHeld,
    PauseState,
    PauseWrites,
    Promote,
    ResumeWrites,
    RoleTaken,
    Seal,
    SealKept,
    StepDown,
)
from synap.ipc.admin_socket import ask
from synap.node.identity import NodeIdentity, read_identity
from synap.node.paths import NodePaths
from synap.replication.rules.progress import LinkState, is_silent
from synap.replication.rules.reigns import Rank, rank
from synap.shared.board import Board, BoardView, owner_silence_ms

if TYPE_CHECKING:
    from synap.config.keys import Config

_SHORT_SECONDS = 5.0
_ROLE_SECONDS = 60.0
_OFFICE_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_KEPT_HISTORIES = 16
_MS = 1_000_000


class Home:
    """The node. Its calls block, as the agent's loop may."""

    def __init__(self, config: Config) -> None:
        """
        Args:
            config: The node's.
        """
        self._config = config
        self._paths = NodePaths.of(config)
        self._board = Board(self._paths.board_file)
        self.id = config.server.node_id
        self.quorum = config.replication.min_replicas_to_write
        tags = config.failover.tags
        self._votes = "nofailover" not in tags
        self._kept_out = "" if self._votes else "its tags say nofailover"
        given = (each.removeprefix("priority=") for each in tags if each != "nofailover")
        self._priority = max(map(int, given), default=0)

    @property
    def view(self) -> BoardView:
        """What the log's owner shows."""
        return self._board.view()

    def identity(self) -> NodeIdentity | None:
        """Return what `node.json` says; None while it can't be read."""
        try:
            return read_identity(self._paths.node_file)
        except (OSError, DataDirUnusable):
            return None

    def followed(self, known: NodeIdentity) -> tuple[str, str]:
        """Return PUB and ROUTER socket of the master that a replica follows."""
        if known.master_address:
            return known.master_address, known.master_sync_address
        replication = self._config.replication
        return replication.master_address or "", replication.master_sync_address or ""

    def histories(self, known: NodeIdentity) -> tuple[str, ...]:
        """Return the ids of the newest reigns, in hex."""
        return tuple(reign.history.hex() for reign in known.lineage[-_KEPT_HISTORIES:])

    def member(self, known: NodeIdentity, leader: Leader | None) -> Member:
        """Return the node's facts as they are now."""
        view = self.view
        follows = leader is not None and self.followed(known) == (leader.pub, leader.sync)
        return Member(
            id=self.id,
            url=self._config.server.own_url,
            rank=rank(known.lineage, view.applied_offset),
            is_reigning=is_reigning(known, view),
            unfit=why_unfit(known, view, is_silent=bool(owner_silence_ms(view))) or self._kept_out,
            known_epoch=known_epoch(known),
            is_joined=follows and is_joined(view),
            votes=self._votes,
            priority=self._priority,
        )

    def hears_master(self) -> bool:
        """Say whether this node's replica hears a master."""
        view = self.view
        return (
            view.role == "replica"
            and bool(view.last_contact_ns)
            and not is_silent(time.monotonic_ns(), view.last_contact_ns, view.heartbeat_ns)
        )

    def as_leader(self, known: NodeIdentity, epoch: int, *, is_reigning: bool) -> Leader:
        """Return what the leader's key is to say of this node."""
        replication, url = self._config.replication, self._config.server.own_url
        host = host_of_url(url)
        return Leader(
            self.id, known.id, epoch, is_reigning,
            reachable_address(replication.replica_listen_address, host),
            reachable_address(replication.sync_listen_address, host),
            url, self.view.applied_offset,
        )  # fmt: skip

    def seal(self, epoch: int) -> Rank:
        """Promise the epoch to itself; return what the node's data is worth.

        Raises:
            SynapError: it is refused, or the owner is not there.
        """
        kept = self._ask(Seal(epoch, self.id))
        assert isinstance(kept, SealKept)
        return Rank(*kept.rank)

    def promote(self, epoch: int) -> bool:
        """Become the master by a sealed epoch; say whether its owner is in office.

        Raises:
            SynapError: it is refused, or the owner is not there.
        """
        before = self.view.owner_pid
        taken = self._ask(Promote(force=True, epoch=epoch), _ROLE_SECONDS)
        assert isinstance(taken, RoleTaken)
        deadline = time.monotonic() + _OFFICE_SECONDS
        while time.monotonic() < deadline:
            view = self.view
            if view.role == "master" and view.owner_pid not in (0, before):
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def follow(self, leader: Leader) -> None:
        """Follow the leader.

        Raises:
            SynapError: it is refused, or the owner is not there.
        """
        self._ask(Follow(leader.pub, leader.sync, force=True), _ROLE_SECONDS)

    def grant(self, until_ns: int, alone_until_ns: int, voters: tuple[str, ...]) -> LeaseHeld:
        """Have the master take writes until one time, and strong reads until another.

        Raises:
            SynapError: it is no master, or its reign has ended.
        """
        held = self._ask(GrantLease(until_ns, voters, alone_until_ns))
        assert isinstance(held, LeaseHeld)
        return held

    def pause(self, seconds: float) -> int:
        """Have writes wait; return where the log ends.

        Raises:
            SynapError: it takes none.
        """
        state = self._ask(PauseWrites(seconds))
        assert isinstance(state, PauseState)
        return state.offset

    def resume(self) -> None:
        """End the pause.

        Raises:
            SynapError: the owner is not there.
        """
        self._ask(ResumeWrites())

    def step_down(self, offset: int, heir_url: str) -> None:
        """End the reign for good, at that offset.

        Raises:
            SynapError: it is not paused there.
        """
        self._ask(StepDown(offset, heir_url))

    def _ask(self, command: AdminCommand, seconds: float = _SHORT_SECONDS) -> AdminResult:
        return asyncio.run(ask(self._paths.admin_socket, command, seconds))


def is_reigning(known: NodeIdentity, view: BoardView) -> bool:
    """Say whether a node is a master that no other one has ended."""
    return known.role == "master" and not known.ended_by_epoch and view.role == "master"


def is_joined(view: BoardView) -> bool:
    """Say whether a replica has all that its master had."""
    return view.role == "replica" and view.status in (LinkState.IN_SYNC, LinkState.LAGGING)


def known_epoch(known: NodeIdentity) -> int:
    """Return the highest epoch that a node knows, promised ones too."""
    reigned = [reign.epoch for reign in known.lineage]
    return max([known.ended_by_epoch, known.sealed_epoch, *reigned])


def why_unfit(known: NodeIdentity, view: BoardView, *, is_silent: bool) -> str:
    """Return why a node can't be the master; empty where it can.

    Args:
        known: Its `node.json`.
        view: What its log's owner shows.
        is_silent: The owner shows no life.
    """
    if known.role == "standalone":
        return "it is no member of a cluster"
    if not view.role or view.role != known.role or is_silent:
        return "its log's owner is being started, or hangs"
    if known.role == "replica" and not known.has_synced:
        return "it never held a whole state of its master"
    if known.is_recovering:
        return "it waits for replicas to give back what it may have lost"
    if view.status in (LinkState.DIVERGED, LinkState.SYNCING):
        return f"it is {view.status}"
    return "" if known.lineage else "it has no data"
