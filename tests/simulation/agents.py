"""The shipped agents on simulated nodes: what they see of their own node, and of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from synap.config.failover import lease_margin
from synap.errors import RoleError, WriterUnavailable
from synap.failover.agent import Agent
from synap.failover.hold import AgentOptions
from synap.failover.home import Home, is_joined, is_reigning, known_epoch, why_unfit
from synap.failover.pace import Pace
from synap.failover.rules import Leader, Member, Standing
from synap.ipc.admin_messages import LeaseHeld
from synap.node.identity import NodeIdentity
from synap.replication.rules.reigns import Rank, rank
from synap.shared.board import BoardView
from tests.simulation.engine import SimEngine
from tests.simulation.machine import Machine
from tests.simulation.node import ReplicaProcess
from tests.simulation.strand import Strand

if TYPE_CHECKING:
    from tests.simulation.guarded import GuardedWorld, LeasedMaster
    from tests.simulation.world import SimNode

TTL_SECONDS = 5
STEP_SECONDS = 0.9
_MAX_LAG_ENTRIES = 20
_PATIENCE_MS = 5000
_LOOK_MS = 20


class SimPace(Pace):
    """The clocks of a machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self.strand: Strand

    def rest(self, seconds: float) -> bool:
        if not self.is_stopping:
            self.strand.rest(max(seconds, 0.001) * 1000)
        return self.is_stopping

    def sleep(self, seconds: float) -> None:
        self.strand.rest(seconds * 1000)

    def monotonic(self) -> float:
        return self._machine.monotonic_ns() / 1e9

    def boottime_ns(self) -> int:
        return self._machine.boottime_ns()

    def wall_ms(self) -> int:
        return 0


class SimHome:
    """A node as its agent sees it: `Home`, with a simulated owner."""

    def __init__(self, world: GuardedWorld, node: SimNode, machine: Machine) -> None:
        self._world = world
        self._node = node
        self._machine = machine
        self.id = node.name
        self.quorum = world.quorum
        self.strand: Strand

    @property
    def view(self) -> BoardView:
        process, disk = self._node.process, self._node.disk
        if process is None:
            return BoardView()
        is_replica = isinstance(process, ReplicaProcess)
        stalled_ns = int(self._machine.owner_sleeps_ms() * 1e6)
        return BoardView(
            role="replica" if is_replica else "master",
            status=process.status().state if isinstance(process, ReplicaProcess) else "",
            owner_pid=self._node.starts,
            applied_offset=disk.position.offset,
            tick_ns=self._machine.monotonic_ns() - (1_000_000_000 if stalled_ns else 0),
        )

    def identity(self) -> NodeIdentity:
        return self._node.disk.node.identity

    def followed(self, known: NodeIdentity) -> tuple[str, str]:
        return known.master_address, known.master_sync_address

    def histories(self, known: NodeIdentity) -> tuple[str, ...]:
        return tuple(reign.history.hex() for reign in known.lineage[-16:])

    def member(self, known: NodeIdentity, leader: Leader | None) -> Member:
        view = self.view
        follows = leader is not None and self.followed(known) == (leader.pub, leader.sync)
        return Member(
            id=self.id,
            url=self.id,
            rank=rank(known.lineage, view.applied_offset),
            is_reigning=is_reigning(known, view),
            unfit=why_unfit(known, view, is_silent=False),
            known_epoch=known_epoch(known),
            is_joined=follows and is_joined(view),
        )

    def hears_master(self) -> bool:
        process = self._node.process
        return isinstance(process, ReplicaProcess) and process.status().state in (
            "in_sync", "lagging",
        )  # fmt: skip

    def as_leader(self, known: NodeIdentity, epoch: int, *, is_reigning: bool) -> Leader:
        offset = self._node.disk.position.offset
        return Leader(self.id, known.id, epoch, is_reigning, self.id, self.id, self.id, offset)

    def seal(self, epoch: int) -> Rank:
        self._await_owner()
        held = self._world.take_seal(self._node, epoch, self.id)
        if held is None:
            raise RoleError("it is not sealed")
        return held

    def promote(self, epoch: int) -> bool:
        self._await_owner()
        node = self._node
        node.disk.node.check_promised(epoch, self.id)
        before = node.disk.node.identity.master_address
        addresses = (before, before) if before and node.disk.node.role == "replica" else None
        node.stop()
        node.disk.promote(addresses, epoch)
        self.strand.rest(self._world.random.random() * 300)
        if node.process is None:
            node.start()
        self._world.timeline.note(f"{self.id} is promoted for epoch {epoch}")
        return True

    def follow(self, leader: Leader) -> None:
        self._await_owner()
        process = self._node.process
        if isinstance(process, ReplicaProcess) and process.is_switching:
            raise RoleError("it is being changed already")
        self._node.disk.node.follow(leader.pub, leader.sync)
        self._node.restart()

    def grant(self, until_ns: int, alone_until_ns: int, voters: tuple[str, ...]) -> LeaseHeld:
        master = self._master()
        if master.disk.node.identity.ended_by_epoch and until_ns:
            raise RoleError("its reign has ended")
        return master.grant(until_ns, alone_until_ns, voters)

    def pause(self, seconds: float) -> int:
        master = self._master()
        if master.disk.node.identity.ended_by_epoch:
            raise RoleError("its reign has ended")
        master.pause(seconds * 1000)
        return self._node.disk.position.offset

    def resume(self) -> None:
        self._master().pause(0)

    def step_down(self, offset: int, _: str) -> None:
        master = self._master()
        if not master.is_paused or self._node.disk.position.offset != offset:
            raise RoleError("it is not paused there")
        self._world.timeline.note(f"{self.id} steps down at {offset}")
        master.step_down()

    def _master(self) -> LeasedMaster:
        self._await_owner()
        process = self._node.process
        if process is None or isinstance(process, ReplicaProcess):
            raise RoleError("it is no master")
        return cast("LeasedMaster", process)

    def _await_owner(self) -> None:
        """Have the owner take a message, which it does when it is there and does not hang."""
        self.strand.rest(1)
        waited = 0
        while self._node.process is None or self._machine.owner_sleeps_ms():
            if waited > _PATIENCE_MS:
                raise WriterUnavailable
            self.strand.rest(_LOOK_MS)
            waited += _LOOK_MS


class SimMembers:
    """Calls from one node to the others, by the network."""

    def __init__(self, world: GuardedWorld, name: str, timeout_ms: float) -> None:
        self._world = world
        self._name = name
        self._timeout_ms = timeout_ms
        self.strand: Strand

    def seals(self, voters: Sequence[Member], epoch: int, candidate: str) -> list[Standing]:
        kept: list[Standing] = []
        for each in voters:
            self._ask(each.id, lambda name=each.id: self._seal(name, epoch, candidate, kept))
        waited = 0
        while len(kept) < len(voters) and waited < self._timeout_ms:
            self.strand.rest(_LOOK_MS)
            waited += _LOOK_MS
        return list(kept)

    def offset(self, url: str) -> int:
        offsets: list[int] = []
        disk = self._world.nodes[url].disk
        self._ask(url, lambda: self._tell(url, lambda: offsets.append(disk.position.offset)))
        waited = 0
        while not offsets:
            if waited >= self._timeout_ms:
                raise OSError(f"{url} does not answer")
            self.strand.rest(_LOOK_MS)
            waited += _LOOK_MS
        return offsets[0]

    def _seal(self, name: str, epoch: int, candidate: str, kept: list[Standing]) -> None:
        held = self._world.take_seal(self._world.nodes[name], epoch, candidate)
        if held is not None:
            self._tell(name, lambda: kept.append(Standing(name, held)))

    def _ask(self, name: str, arrive) -> None:  # type: ignore[no-untyped-def]
        self._world.network.send(self._name, name, arrive)

    def _tell(self, name: str, arrive) -> None:  # type: ignore[no-untyped-def]
        self._world.network.send(name, self._name, arrive)


class AgentProcess:
    """An agent that runs, from its start to its end."""

    def __init__(self, world: GuardedWorld, node: SimNode, machine: Machine) -> None:
        timeout_ms = STEP_SECONDS * 1000
        self._pace = SimPace(machine)
        home = SimHome(world, node, machine)
        engine = SimEngine(world.service, world.network, world.random, node.name, timeout_ms)
        members = SimMembers(world, node.name, timeout_ms)
        options = AgentOptions("sim", TTL_SECONDS, lease_margin, STEP_SECONDS, _MAX_LAG_ENTRIES)
        agent = Agent(engine, cast(Home, home), members, options, lambda _: None, self._pace)
        self.strand = Strand(world.timeline, machine.sleeps_ms, agent.run)
        for each in (self._pace, home, engine, members):
            each.strand = self.strand
        self.strand.start()

    def stop(self) -> None:
        """Ask it to hand over and to end, as SIGTERM does."""
        self._pace.stop()

    def kill(self) -> None:
        """End it where it is."""
        self.strand.cut()
