"""A simulated cluster whose agents replace its master: no operator, and clients with histories.

The owners' leases, the agents, their rules and the replication are the shipped ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from synap.commands.records import Record
from synap.errors import DiskFull, SealRefused
from synap.failover.engine import Put
from synap.failover.records import Keys, Wanted, encoded
from synap.frame import SET, Entry
from synap.ipc.admin_messages import LeaseHeld
from synap.replication.rules import reigns
from synap.store import layout
from synap.writer.lease import Lease
from tests.simulation.agents import AgentProcess
from tests.simulation.clocks import Clocks
from tests.simulation.disk import Disk
from tests.simulation.engine import LeaseService
from tests.simulation.machine import Machine
from tests.simulation.node import MasterProcess, ReplicaProcess
from tests.simulation.world import ClientWrite, SimNode, Violation, World

FOREVER = float("inf")
_ACK_TIMEOUT_MS = 3000
_READ_MS = 1000
_LOOK_MS = 5
# Clients go on to another register after so long, so that each one's history stays short.
_SCENE_MS = 3000
_REGISTERS = 2


class RegisterWrite(ClientWrite):
    """A write of a register too, and when its client sent it."""

    def __init__(self, key: bytes, master: str, register: bytes, value: int, called: int) -> None:
        super().__init__(key, master)
        self.register = register
        self.value = value
        self.called = called
        self.returned: float = FOREVER


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of a register, in ms: a read, or a write that was acknowledged."""

    register: bytes
    called: int
    returned: float
    version: int
    is_write: bool = False


class LeasedMaster(MasterProcess):
    """A master's owner that answers by a lease, as `Writer` does.

    Attributes:
        lease: Until when it may answer writes.
        alone_until_ns: Until when no other node can be the master.
    """

    world: GuardedWorld

    def __init__(self, world: GuardedWorld, name: str, disk: Disk, clocks: Clocks) -> None:
        machine = world.machine(name)
        self.lease = Lease(0, machine.boottime_ns)
        self.alone = Lease(0, machine.boottime_ns)
        self._voters: tuple[str, ...] = ()
        self._paused_until_ns = 0
        super().__init__(world, name, disk, clocks)

    @property
    def is_paused(self) -> bool:
        return self.timeline.now_ns < self._paused_until_ns

    @property
    def is_over(self) -> bool:
        identity = self.disk.node.identity
        return bool(identity.ended_by_epoch) or identity.is_recovering

    def pause(self, ms: float) -> None:
        """Have writes wait."""
        self._paused_until_ns = self.timeline.now_ns + int(ms * 1_000_000)

    def step_down(self) -> None:
        """End the reign for good."""
        reign = self.disk.node.reign
        assert reign is not None
        self.disk.node.end_reign(reign.epoch + 1)

    def grant(self, until_ns: int, alone_until_ns: int, voters: tuple[str, ...]) -> LeaseHeld:
        """Answer writes until then, and count those acks."""
        self._voters = voters
        self.lease.until_ns = until_ns
        self.alone.until_ns = alone_until_ns
        reign, end = self.disk.node.reign, self.disk.position.offset
        assert reign is not None
        quorum = self.world.quorum
        held = self._master.held_offset(quorum) if quorum else end
        self._look_at_acks()
        return LeaseHeld(reign.epoch, held)

    def write(self, write: ClientWrite, entries: Sequence[Entry]) -> bool:
        """Log a client's write and answer it; return whether it was taken."""
        if self.lease.is_over() or self.is_paused or self.is_over:
            return False
        try:
            frame = self._log(entries)
        except DiskFull:
            return False
        write.position = frame.position
        # The disk takes its time; what comes meanwhile waits.
        self.world.stall(self.name)
        self.after(0, lambda: self._answer(write))
        return True

    def _answer(self, write: ClientWrite) -> None:
        if self.is_late():
            self.timeline.note(f"{self.name} has lost its lease, and ends")
            self.world.restart_owner(self.name)
            return
        quorum = self.world.quorum
        if not quorum:
            self.world.acknowledged(self, write)
            return
        deadline = self.timeline.elapsed_ms + _ACK_TIMEOUT_MS
        self._waiting.add(quorum, write.position.offset, deadline, write)
        self._look_at_acks()

    def is_late(self) -> bool:
        """Compare again, when the write is on the disk."""
        return self.lease.is_over()

    def read(self, register: bytes, called: int) -> None:
        """Answer a strong read: what a quorum holds, while nobody else can be the master."""
        if self.is_over:
            return
        raw = self.disk.held.get(register)
        record = layout.decode_record(register, raw) if raw is not None else None
        self._await_held(register, record, called, self.timeline.elapsed_ms + _READ_MS)

    def _await_held(
        self, register: bytes, record: Record | None, called: int, until_ms: int
    ) -> None:
        quorum = self.world.quorum
        version = record.version if record is not None else 0
        if quorum and self._master.held_offset(quorum) < version:
            if self.timeline.elapsed_ms < until_ms:
                self.after(_LOOK_MS, lambda: self._await_held(register, record, called, until_ms))
            return
        if not self.is_over and self.is_alone():
            self.world.was_read(self, register, record, called)

    def is_alone(self) -> bool:
        """Say whether nobody else can be the master."""
        return not self.alone.is_over()

    def _counts(self, replica: str) -> bool:
        return replica in self._voters and super()._counts(replica)

    def _look_at_acks(self) -> None:
        if not self.lease.is_over():
            super()._look_at_acks()

    def _sweep(self) -> None:
        """No key of these clients expires."""


class GuardedWorld(World):
    """The cluster, its machines and agents, the lease service, and what clients saw.

    Attributes:
        reads: The strong ones that were answered.
        told: Keys of the writes that these told of, where a quorum must hold those.
        is_honest: The service ends no lease early, so that a lease is worth what it says.
    """

    def __init__(self, random: Random, histories: Random) -> None:
        self.reads: list[Seen] = []
        self.told: set[bytes] = set()
        self.machines: dict[str, Machine] = {}
        self._agents: dict[str, AgentProcess] = {}
        # Who answered in each reign, by its random id; the newest epoch that anybody answered in.
        self._answered: dict[bytes, str] = {}
        self._newest = 0
        super().__init__(random, histories)
        self.network.sleeps_ms = self.sleeps_ms
        for node in self.nodes.values():
            self._start_agent(node)

    def _choose(self, random: Random) -> None:
        self.quorum = random.choice((0, 0, 1, 1, 2))
        self.is_synced = self.is_configured = True
        # Without a quorum the lease alone protects.
        self.is_honest = self.quorum == 0 or random.random() < 0.6
        self.service = LeaseService(self.timeline, random, is_honest=self.is_honest)
        self.keys = Keys("sim")

    def machine(self, name: str) -> Machine:
        """Return a node's machine."""
        if name not in self.machines:
            self.machines[name] = Machine(self.timeline, self.random, name)
        return self.machines[name]

    def new_master(self, name: str, disk: Disk, clocks: Clocks) -> MasterProcess:
        return LeasedMaster(self, name, disk, clocks)

    def sleeps_ms(self, name: str) -> float:
        return self.machine(name).owner_sleeps_ms() if name in self.nodes else 0

    # Faults.

    def stall(self, name: str) -> None:
        """Have a sync take its time, now and then longer than a lease."""
        draw = self.random.random
        self.machine(name).stall(9000 * draw() if draw() < self.slow_share else 4 * draw())

    slow_share = 0.03

    def restart_owner(self, name: str) -> None:
        """Have the owner end, and the supervisor start another one."""
        node = self.nodes[name]
        node.stop()

        def start() -> None:
            if node.process is None and name in self._agents:
                node.start()

        self.timeline.after(50 + 200 * self.random.random(), start)

    def crash(self, node: SimNode) -> None:
        """Kill all processes of a node."""
        node.stop()
        agent = self._agents.pop(node.name, None)
        if agent is not None:
            agent.kill()

    def crash_agent(self, node: SimNode) -> None:
        """Kill a node's agent; the supervisor starts another one."""
        agent = self._agents.pop(node.name, None)
        if agent is not None:
            agent.kill()
            self._start_agent(node)

    def terminate(self, node: SimNode, ms: float) -> None:
        """Have a node hand over and end, as SIGTERM does."""
        agent = self._agents.get(node.name)
        if agent is None:
            return
        agent.stop()

        def end() -> None:
            if self._agents.get(node.name) is agent:
                self.crash(node)

        self.timeline.after(ms, end)

    def start(self, node: SimNode) -> None:
        """Start what of a node is down."""
        if node.process is None:
            node.start()
        if node.name not in self._agents:
            self._start_agent(node)

    def want(self, name: str) -> None:
        """Wish for another master, as `synap failover switchover` does."""
        self.service.change([], [Put(self.keys.wanted, encoded(Wanted(name)))])

    def leads(self, node: SimNode) -> bool:
        """Say whether a node answers writes."""
        process = node.process
        return (
            isinstance(process, LeasedMaster) and not process.is_over
            and not process.lease.is_over()
        )  # fmt: skip

    def end(self) -> None:
        """End all strands."""
        for agent in self._agents.values():
            agent.kill()

    def _start_agent(self, node: SimNode) -> None:
        self._agents[node.name] = AgentProcess(self, node, self.machine(node.name))

    # What nodes do.

    def take_seal(self, node: SimNode, epoch: int, candidate: str) -> reigns.Rank | None:
        """Have a node promise an epoch; return what it holds then, None where it does not."""
        process, disk = node.process, node.disk
        if process is None or not disk.has_synced or disk.node.identity.is_recovering:
            return None
        with suppress(SealRefused):
            disk.node.seal(epoch, candidate)
            if isinstance(process, ReplicaProcess):
                process.seal()
            else:
                disk.node.end_reign(epoch)
            held = reigns.rank(disk.lineage, disk.position.offset)
            self.timeline.note(f"{node.name} is sealed for {epoch} of {candidate} at {held.offset}")
            if self.random.random() < 0.15:
                # What was promised holds for the owner that comes next.
                self.timeline.after(
                    300 * self.random.random(), lambda: self.restart_owner(node.name)
                )
            return held
        return None

    # What clients do, and what they are promised.

    def client_writes(self, node: SimNode) -> None:
        """Have a client send a write to a node."""
        master = node.process
        if not isinstance(master, LeasedMaster) or not self._client_reaches(node):
            return
        number = len(self.writes)
        key, value = b"write %d" % number, b"%d" % number
        register = self._register()
        write = RegisterWrite(key, node.name, register, number, self.timeline.elapsed_ms)
        if master.write(write, [Entry(SET, key, value), Entry(SET, register, value)]):
            self.writes.append(write)
            self.timeline.note(f"{node.name} logs write {number} at {write.position}")

    def client_reads(self, node: SimNode) -> None:
        """Have a client send a strong read to a node."""
        master = node.process
        if isinstance(master, LeasedMaster) and self._client_reaches(node):
            master.read(self._register(), self.timeline.elapsed_ms)

    def acknowledged(self, master: MasterProcess, write: ClientWrite) -> None:
        super().acknowledged(master, write)
        assert isinstance(write, RegisterWrite)
        write.returned = self.timeline.elapsed_ms
        reign = master.disk.node.reign
        assert reign is not None
        if self._answered.setdefault(reign.history, master.name) != master.name:
            raise Violation(f"{master.name} answers in a reign of another node's")
        if not self.quorum and reign.epoch < self._newest:
            raise Violation(f"{master.name} answers in epoch {reign.epoch} after {self._newest}")
        self._newest = max(self._newest, reign.epoch)

    def was_read(
        self, master: LeasedMaster, register: bytes, record: Record | None, called: int
    ) -> None:
        """Take a strong read's answer."""
        if not self.is_honest:
            return
        reign = master.disk.node.reign
        assert reign is not None
        if reign.epoch < self._newest:
            raise Violation(f"{master.name} tells of epoch {reign.epoch} after {self._newest}")
        version = record.version if record is not None else 0
        if record is not None:
            write = self.writes[int(record.value)]
            if write.position.offset != version:
                raise Violation(f"{master.name} tells {record} of {register!r}")
            if self.quorum:
                self.told.add(write.key)
        self.reads.append(Seen(register, called, self.timeline.elapsed_ms, version))

    def look_for_order(self) -> None:
        """Check that one order explains what clients saw of each register.

        Values are written once and versions tell the order; so what returned before something else
        was called must not have the higher one.
        """
        seen = list(self.reads)
        for write in self.writes:
            assert isinstance(write, RegisterWrite)
            if write.returned < FOREVER:
                version = write.position.offset
                seen.append(Seen(write.register, write.called, write.returned, version, True))
        for register in sorted({each.register for each in seen}):
            self._look_at_order([each for each in seen if each.register == register])

    def _look_at_order(self, seen: list[Seen]) -> None:
        returned = sorted(seen, key=lambda each: each.returned)
        newest, at = -1, 0
        for each in sorted(seen, key=lambda each: each.called):
            while returned[at].returned < each.called:
                newest = max(newest, returned[at].version)
                at += 1
            if newest >= each.version + (not each.is_write):
                raise Violation(f"{each} comes after version {newest} was seen")

    def _register(self) -> bytes:
        scene = self.timeline.elapsed_ms // _SCENE_MS
        return b"register %d.%d" % (scene, self.random.randrange(_REGISTERS))
