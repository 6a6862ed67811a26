"""The simulated cluster: four nodes, a client, and an operator who keeps to the rules."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from synap.frame import SET, Entry
from synap.position import START, Position
from synap.replication.rules import reigns
from synap.replication.rules.resync import Install
from tests.simulation.disk import Disk
from tests.simulation.network import Network
from tests.simulation.node import MasterProcess, ReplicaProcess, is_answer, named
from tests.simulation.timeline import Timeline

NODES = 4


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class ClientWrite:
    """A write of a key that no other write has.

    Attributes:
        lost_by: The master whose machine lost it, where no other machine has.
        is_excused: Disks that need not keep it lost it: a replica's, or more than one.
    """

    key: bytes
    master: str
    position: Position = START
    is_acknowledged: bool = False
    lost_by: str = ""
    is_excused: bool = False


class SimNode:
    """A disk and the process that owns it, if one runs."""

    def __init__(self, world: World, name: str, *, is_master: bool) -> None:
        self._world = world
        self.name = name
        self.is_master = is_master
        self.disk = Disk(name, world.random, is_master=is_master, is_synced=world.is_synced)
        self.process: MasterProcess | ReplicaProcess | None = None
        self._may_have_lost = False

    @property
    def reign_epoch(self) -> int:
        reign = self.disk.node.reign
        return reign.epoch if reign is not None else 0

    def crash_machine(self) -> int:
        """Lose a part of what was not synced; return how many frames went."""
        self.stop()
        self._may_have_lost = not self.disk.is_always_synced
        return self.disk.crash_machine()

    def start(self) -> None:
        """Start the owner of the node's role."""
        disk = self.disk
        may_have_lost, self._may_have_lost = self._may_have_lost, False
        if disk.node.role == "master":
            is_new = disk.open_as_master(
                may_have_lost=may_have_lost, has_peers=bool(disk.known_replicas)
            )
            self.process = MasterProcess(self._world, self.name, disk)
        else:
            is_new = False
            disk.drop_foreign_segments()
            self.process = ReplicaProcess(self._world, self.name, disk)
        begun = ", a new reign" if is_new else ""
        self._world.timeline.note(
            f"{self.name} starts as {disk.node.role} at {disk.position}, "
            f"{named(disk.lineage)}{begun}"
        )

    def stop(self) -> None:
        """End the process; its memory is gone, its files are not."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()


class World:
    """The cluster, what it promised, and whether it kept it.

    Attributes:
        quorum: Replicas that each write waits for.
        is_configured: Every node's configuration asks for the quorum.
        is_synced: Every disk has fsync_mode `always`.
        reigning: The node that clients take for the master.
        writes: What clients were told was taken.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.timeline = Timeline()
        self.network = Network(self.timeline, random)
        self.quorum = random.choice((1, 1, 2))
        self.is_synced = random.random() < 0.5
        # Else each write asks for the quorum, and a restart waits for a time alone.
        self.is_configured = random.random() < 0.7
        self.settle_ms = random.choice((0.0, 1.0, 40.0))
        self.writes: list[ClientWrite] = []
        self._links: dict[bytes, ReplicaProcess] = {}
        self._link_count = 0
        # The highest epoch that each node was told of by a herald.
        self._told: dict[str, int] = {}
        names = [f"n{number}" for number in range(NODES)]
        self.nodes = {name: SimNode(self, name, is_master=name == names[0]) for name in names}
        self.reigning = self.nodes[names[0]]
        for node in self.nodes.values():
            if node is not self.reigning:
                node.disk.node.follow(names[0], names[0])
            node.start()

    # What processes do with the network.

    def connect(self, process: ReplicaProcess) -> bytes:
        """Open a link to the master of a replica; return its name."""
        self._link_count += 1
        peer = b"%s/%d" % (process.name.encode(), self._link_count)
        self._links = {
            name: owner
            for name, owner in self._links.items()
            if owner.is_alive and owner is not process
        }
        self._links[peer] = process

        def subscribe() -> None:
            master = self.nodes[process.master].process
            if isinstance(master, MasterProcess):
                master.hear_subscription()

        self.network.send(process.name, process.master, subscribe)
        return peer

    def request(self, process: ReplicaProcess, parts: list[bytes]) -> None:
        """Send to the replica's master."""
        self._request(process.name, process.peer, process.master, parts)

    def knock(self, process: MasterProcess, target: str, parts: list[bytes]) -> None:
        """Send a herald's hello."""
        self._request(process.name, b"knock " + process.name.encode(), target, parts)

    def answer(self, master: str, peer: bytes, parts: list[bytes]) -> None:
        """Send from a master to a connection."""
        if peer.startswith(b"knock "):
            name = peer.removeprefix(b"knock ").decode()
            self.network.send(master, name, lambda: self._answer_knock(master, name, parts))
            return
        replica = self._links.get(peer)
        if replica is not None:
            self.network.send(master, replica.name, lambda: self._deliver(peer, replica, parts))

    def stream(self, master: str, parts: list[bytes]) -> None:
        """Send to whoever subscribes to a master."""
        for peer, replica in self._links.items():
            if replica.master == master and replica.peer == peer:
                self._stream_to(master, peer, replica, parts)

    def _stream_to(
        self, master: str, peer: bytes, replica: ReplicaProcess, parts: list[bytes]
    ) -> None:
        def hear() -> None:
            if replica.is_alive and replica.peer == peer:
                replica.hear(parts)

        self.network.send(master, replica.name, hear)

    def _request(self, name: str, peer: bytes, target: str, parts: list[bytes]) -> None:
        def receive() -> None:
            master = self.nodes[target].process
            if isinstance(master, MasterProcess):
                master.receive(peer, parts)

        self.network.send(name, target, receive)

    def _deliver(self, peer: bytes, replica: ReplicaProcess, parts: list[bytes]) -> None:
        if replica.is_alive and replica.peer == peer:
            replica.receive(parts)

    def _answer_knock(self, master: str, name: str, parts: list[bytes]) -> None:
        teller, told = self.nodes[name], self.nodes[master]
        if not isinstance(teller.process, MasterProcess) or not is_answer(parts):
            return
        teller.process.is_told = True
        if not set(teller.disk.lineage).isdisjoint(told.disk.lineage):
            self._told[master] = max(self._told.get(master, 0), teller.reign_epoch)

    # What clients do, and what they are promised.

    def write(self, node: SimNode) -> None:
        """Have a client write keys of its own and a pair that belongs together."""
        master = node.process
        if not isinstance(master, MasterProcess) or not self._client_reaches(node):
            return
        if self.random.random() < 0.1:
            self._confirm(node, master)
            return
        number = len(self.writes)
        key, value = b"write %d" % number, b"%d" % number
        entries = [Entry(SET, key, value)]
        if self.random.random() < 0.5:
            entries += [Entry(SET, b"left", value), Entry(SET, b"right", value)]
        if self.random.random() < 0.03:
            # Too large for the stream: announced, and fetched.
            entries.append(Entry(SET, b"large", value * 1000))
        write = ClientWrite(key, node.name)
        if not master.write(write, entries):
            return
        self.writes.append(write)
        self.timeline.note(f"{node.name} logs write {number} at {write.position}")
        if self._told.get(node.name, 0) > node.reign_epoch:
            raise Violation(f"{node.name} takes writes though it was told of a higher epoch")

    def _confirm(self, node: SimNode, master: MasterProcess) -> None:
        """Have a client write what is there already: the answer waits for a quorum to hold it."""
        doubtful = [w for w in self.writes if not w.is_acknowledged and w.key in node.disk.store]
        if doubtful:
            master.confirm(self.random.choice(doubtful))

    def acknowledged(self, master: MasterProcess, write: ClientWrite) -> None:
        """Take the promise that a write is on a quorum, and check it."""
        write.is_acknowledged = True
        self.timeline.note(f"{master.name} acknowledges {write.key.decode()}")
        holding = [
            node.name
            for node in self.nodes.values()
            if node.name != master.name and write.key in node.disk.ever_held
        ]
        if len(holding) < self.quorum:
            raise Violation(f"{write.key!r} is acknowledged, but only {holding} ever held it")

    def installed(self, replica: ReplicaProcess, job: Install, gone: list, held: int) -> None:
        """Check that a full resync removed nothing but what its master has, nor went behind that.

        Args:
            gone: Frames that are neither in the log any more nor put aside.
            held: Where the log ended.
        """
        master = self.nodes[replica.master]
        kept = held if job.switch.kept_after is None else job.switch.kept_after
        offset = job.offer.position.offset
        if offset < kept:
            raise Violation(f"{replica.name} goes back to {offset}, and held {kept}")
        for frame in gone:
            if frame.last_offset > master.disk.base.offset and not master.disk.holds(
                frame.position
            ):
                raise Violation(f"{replica.name} lost {frame.position}, which {master.name} lacks")
        self.timeline.note(f"{replica.name} installs {job.offer.position}")

    def look_at_readers(self) -> None:
        """Check that nobody shows a half of what was written as one."""
        for node in self.nodes.values():
            store = node.disk.store
            if store.get(b"left") != store.get(b"right"):
                raise Violation(f"{node.name} shows a half frame at {node.disk.position}")

    def excuse_losses(self, node: SimNode, lost: int) -> None:
        """A disk that was not synced lost its tail: writes that were there may be gone.

        But for those that a quorum acknowledged, where it was the master's alone.
        """
        if not lost:
            return
        is_master = node.disk.node.role == "master"
        for write in self.writes:
            if write.key in node.disk.store or write.key not in node.disk.ever_held:
                continue
            if is_master and self.is_configured and write.lost_by in ("", node.name):
                write.lost_by = node.name
            else:
                write.is_excused = True

    # What the operator does.

    def fail_over_recovering(self) -> None:
        """Promote a replica in the place of a master that waits for what nobody can give back."""
        if not self.reigning.disk.node.identity.is_recovering:
            return
        self.fail_over()
        node = self.reigning
        if node.disk.node.identity.is_recovering:
            # Who is ahead never held a whole state: `synap promote --force`.
            for write in self.writes:
                write.is_excused |= write.key not in node.disk.store
            node.stop()
            node.disk.node.promote(node.disk.position.offset, None)
            node.start()

    def fail_over(self) -> None:
        """Promote the best replica that the operator reaches, as operations.md says.

        Where N of them acknowledge each write, all nodes
        but N must be among them: then one has it. They follow the new master from then on.
        """
        seen = [node for node in self.nodes.values() if self._can_serve(node)]
        is_reigning = isinstance(self.reigning.process, MasterProcess)
        has_log = not self.reigning.disk.node.identity.is_recovering
        is_alive = is_reigning and has_log and self._client_reaches(self.reigning)
        if is_alive or len(seen) < NODES - self.quorum:
            return
        best = max(seen, key=lambda node: self.rank(node))
        before = best.disk.node.identity.master_address
        # It may not have heard of the lost reign: two of one number would end each other.
        best.disk.node.end_reign(self.reigning.reign_epoch)
        self._excuse_unseen(seen)
        best.stop()
        best.disk.sync()
        best.disk.node.promote(best.disk.position.offset, (before, before) if before else None)
        best.start()
        self.timeline.note(f"{best.name} is promoted, {named(best.disk.lineage)}")
        self.reigning = best
        for node in seen:
            if node is not best:
                self.follow(node)

    def _excuse_unseen(self, seen: list[SimNode]) -> None:
        """A master's machine lost writes, and who holds them is out of reach too: that is two."""
        for write in self.writes:
            is_seen = any(write.key in node.disk.store for node in seen)
            if write.lost_by and not is_seen:
                write.is_excused = True

    @staticmethod
    def rank(node: SimNode) -> tuple[int, ...]:
        """Return what makes the better candidate."""
        return reigns.rank(node.disk.lineage, node.disk.position.offset)

    def follow(self, node: SimNode) -> None:
        """Have a node follow the reigning master."""
        process = node.process
        if isinstance(process, ReplicaProcess) and process.is_switching:
            return
        master = self.reigning.name
        if node.disk.node.role == "replica" and node.disk.node.identity.master_address == master:
            return
        node.disk.node.follow(master, master)
        node.restart()

    def repoint_strays(self) -> None:
        """Have everybody who is seen follow the reigning master."""
        for node in self.nodes.values():
            if node is not self.reigning and node.process and self._client_reaches(node):
                self.follow(node)

    def accept_diverged(self) -> None:
        """Say of each diverged replica of the reigning master that its data may be replaced."""
        for node in self.nodes.values():
            process = node.process
            is_ours = isinstance(process, ReplicaProcess) and process.master == self.reigning.name
            if is_ours and process.accept():
                self.timeline.note(f"{node.name} is told to accept")

    def wipe(self, node: SimNode) -> None:
        """Give a replica an empty disk, where every promise is kept without it."""
        process = node.process
        if not isinstance(process, ReplicaProcess) or process.is_switching:
            return
        others = [each for each in self.nodes.values() if each is not node]
        for write in self.writes:
            holders = sum(write.key in each.disk.store for each in others)
            if write.is_acknowledged and holders <= self.quorum:
                return
        node.stop()
        master = process.master
        ever_held = node.disk.ever_held
        node.disk = Disk(node.name, self.random, is_master=False, is_synced=self.is_synced)
        node.disk.ever_held |= ever_held
        node.disk.node.follow(master, master)
        self.timeline.note(f"{node.name} is wiped")
        node.start()

    def _can_serve(self, node: SimNode) -> bool:
        """Whether a node is up, in reach, and a replica of the same cluster."""
        process = node.process
        if not isinstance(process, ReplicaProcess) or process.is_switching:
            return False
        shares = not set(node.disk.lineage).isdisjoint(self.reigning.disk.lineage)
        return shares and node.disk.has_synced and self._client_reaches(node)

    def _client_reaches(self, node: SimNode) -> bool:
        return self.network.reaches("client", node.name)
