"""The simulated cluster: four nodes, a client, and an operator who keeps to the rules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from synap.errors import SealRefused, WalCorrupt
from synap.frame import SET, Entry
from synap.position import START, Position
from synap.replication.rules import reigns
from synap.replication.rules.resync import Install
from synap.request_errors import RecordCorrupt
from synap.store import layout
from tests.simulation.clocks import SKEW_MS, Clocks
from tests.simulation.disk import Disk
from tests.simulation.network import Network
from tests.simulation.node import MasterProcess, ReplicaProcess, is_answer, named
from tests.simulation.timeline import Timeline

NODES = 4
# Two clocks that are right may differ by so much; what one wrote the other may hide so early.
_EARLY_MS = 2 * SKEW_MS + 2
# A key is hidden so long after its time at the latest, where clocks are right and all is well.
LATE_MS = 3000
_SWEPT_KEYS = 5


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
        self.clocks = Clocks(world.timeline, world.random)
        self.name = name
        self.is_master = is_master
        self.disk = Disk(
            name, world.random, world.histories, is_master=is_master, is_synced=world.is_synced
        )
        self.process: MasterProcess | ReplicaProcess | None = None
        self.is_damaged = False
        # How often an owner has begun: what tells one from the next.
        self.starts = 0
        self._may_have_lost = False

    @property
    def reign_epoch(self) -> int:
        reign = self.disk.node.reign
        return reign.epoch if reign is not None else 0

    def crash_machine(self) -> int:
        """Lose a part of what was not synced; return how many frames went."""
        self.stop()
        self._may_have_lost = not self.disk.is_always_synced
        self.clocks.restart()
        return self.disk.crash_machine()

    def lose_disk(self) -> int:
        """Have the disk go away and come back without what was not synced; return as above."""
        self.stop()
        self._may_have_lost = not self.disk.is_always_synced
        return self.disk.lose_pages()

    def start(self) -> None:
        """Start the owner of the node's role, unless its log is damaged where it needs it."""
        disk = self.disk
        self.is_damaged = False
        self.starts += 1
        try:
            is_rebuilt = disk.open()
        except WalCorrupt as error:
            self.is_damaged = True
            self._world.timeline.note(f"{self.name} does not start: {error}")
            return
        may_have_lost, self._may_have_lost = self._may_have_lost, False
        if disk.node.role == "master":
            is_new = disk.open_as_master(
                may_have_lost=may_have_lost, has_peers=bool(disk.known_replicas)
            )
            self.process = self._world.new_master(self.name, disk, self.clocks)
        else:
            is_new = False
            disk.drop_foreign_segments()
            self.process = self._world.new_replica(self.name, disk, self.clocks)
        begun = ", a new reign" if is_new else ""
        begun += ", its store rebuilt" if is_rebuilt else ""
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
        deadlines: When, by the true time, keys end that do; in ms since the start.
        on_promise: Told when a write is acknowledged, once.
    """

    def __init__(self, random: Random, histories: Random) -> None:
        """
        Args:
            random: Decides what happens.
            histories: Gives the ids of reigns, so that these decide nothing else.
        """
        self.random = random
        self.histories = histories
        self.timeline = Timeline()
        self.network = Network(self.timeline, random)
        self._choose(random)
        self.settle_ms = random.choice((0.0, 1.0, 40.0))
        self.writes: list[ClientWrite] = []
        self.deadlines: dict[bytes, int] = {}
        self.on_promise: Callable[[], None] | None = None
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

    def _choose(self, random: Random) -> None:
        """Decide what the nodes' configuration asks for."""
        self.quorum = random.choice((1, 1, 2))
        self.is_synced = random.random() < 0.5
        # Else each write asks for the quorum, and a restart waits for a time alone.
        self.is_configured = random.random() < 0.7

    def new_master(self, name: str, disk: Disk, clocks: Clocks) -> MasterProcess:
        """Return the owner of a master's log, which begins."""
        return MasterProcess(self, name, disk, clocks)

    def new_replica(self, name: str, disk: Disk, clocks: Clocks) -> ReplicaProcess:
        """Return the owner of a replica's log, which begins."""
        return ReplicaProcess(self, name, disk, clocks)

    def sleeps_ms(self, _: str) -> float:
        """Return for how long a node still does nothing."""
        return 0

    def do_all_agree(self) -> bool:
        """Say whether every node is one with the reigning master."""
        disks = [node.disk for node in self.nodes.values()]
        return all(self._is_level(node) for node in self.nodes.values()) and all(
            disk.position == disks[0].position
            and disk.store.records == disks[0].store.records
            and disk.lineage == disks[0].lineage
            for disk in disks
        )

    def _is_level(self, node: SimNode) -> bool:
        process = node.process
        if node is self.reigning:
            return True
        return isinstance(process, ReplicaProcess) and process.status().state == "in_sync"

    def standing(self) -> str:
        """Return where each node is, a sentence."""
        parts = []
        for node in self.nodes.values():
            process = node.process
            how = "down"
            if process is not None:
                how = "master"
            if isinstance(process, ReplicaProcess):
                status = process.status()
                how = f"{status.state} {status.note}"
            parts.append(f"{node.name} at {node.disk.position} {how}")
        return "; ".join(parts)

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
            if master is not None:
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
            if master is not None:
                master.serve(peer, parts)

        self.network.send(name, target, receive)

    def _deliver(self, peer: bytes, replica: ReplicaProcess, parts: list[bytes]) -> None:
        if replica.is_alive and replica.peer == peer:
            replica.receive(parts)

    def _answer_knock(self, master: str, name: str, parts: list[bytes]) -> None:
        teller, told = self.nodes[name], self.nodes[master]
        if not isinstance(teller.process, MasterProcess) or not is_answer(parts):
            return
        teller.process.is_told = True
        # A lower reign may have the higher number: crashes count up.
        epoch = reigns.epoch_above(teller.disk.lineage, told.disk.lineage, from_master=True)
        self._told[master] = max(self._told.get(master, 0), epoch)

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
        if self.random.random() < 0.3:
            entries.append(self._brief(b"brief %d" % number, value, master))
        write = ClientWrite(key, node.name)
        if not master.write(write, entries):
            return
        self.writes.append(write)
        self.timeline.note(f"{node.name} logs write {number} at {write.position}")
        if self._told.get(node.name, 0) > node.reign_epoch:
            raise Violation(f"{node.name} takes writes though it was told of a higher epoch")

    def _confirm(self, node: SimNode, master: MasterProcess) -> None:
        """Have a client write what is there already: the answer waits for a quorum to hold it."""
        doubtful = [w for w in self.writes if not w.is_acknowledged and w.key in node.disk.held]
        if doubtful:
            master.confirm(self.random.choice(doubtful))

    def _brief(self, key: bytes, value: bytes, master: MasterProcess) -> Entry:
        """Return a write of a key that expires."""
        ttl_ms = self.random.randrange(500, 20_000)
        self.deadlines[key] = self.timeline.elapsed_ms + ttl_ms
        return Entry(SET, key, value, master.now_ms() + 1 + ttl_ms)

    def read_held(self, node: SimNode) -> None:
        """Have a client read what nobody was told of, and only if a quorum holds it."""
        master = node.process
        if not isinstance(master, MasterProcess) or not self._client_reaches(node):
            return
        for write in self.writes:
            raw = None if write.is_acknowledged else node.disk.held.get(write.key)
            if raw is not None and master.holds(layout.decode_record(write.key, raw).version):
                self.acknowledged(master, write)

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
        on_promise, self.on_promise = self.on_promise, None
        if on_promise is not None:
            self.timeline.after(0, on_promise)

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
        """Read at every node: what is whole, what was written, and no key's end before its time."""
        for node in self.nodes.values():
            if node.process is None:
                continue
            keys = [self.random.choice(self.writes).key] if self.writes else []
            if self.deadlines:
                keys.append(self.random.choice(list(self.deadlines)))
            try:
                if self._read(node, b"left") != self._read(node, b"right"):
                    raise Violation(f"{node.name} shows a half frame at {node.disk.position}")
                for key in keys:
                    self._read(node, key)
            except RecordCorrupt as error:
                self.mend(node.name, error)

    def scrub(self) -> None:
        """Read everything everywhere, as the daily look does."""
        for node in self.nodes.values():
            try:
                for key in node.disk.held if node.process is not None else ():
                    self._read(node, key)
            except RecordCorrupt as error:
                self.mend(node.name, error)

    def _read(self, node: SimNode, key: bytes) -> bytes | None:
        """Read a key as a client does.

        Raises:
            RecordCorrupt: the node says that it can't tell.
        """
        disk = node.disk
        is_held = key in disk.held
        if not is_held and key not in disk.store.records:
            return None
        told = disk.store.read(key, node.clocks.now_ms())
        _, _, number = key.partition(b" ")
        if told is not None and number and told != number:
            raise Violation(f"{node.name} tells {told!r} of {key!r}")
        if told is not None and not is_held:
            raise Violation(f"{node.name} tells {key!r}, which is not in its log")
        if told is None and is_held:
            left_ms = self.deadlines.get(key, sys.maxsize) - self.timeline.elapsed_ms
            if left_ms > _EARLY_MS:
                raise Violation(f"{node.name} hides {key!r}, {left_ms} ms before its time")
        return told

    def expired(self, master: MasterProcess) -> list[bytes]:
        """Return some keys that a master finds expired."""
        now_ms = master.clocks.now_ms()
        records = master.disk.store.records
        found = [key for key in self.deadlines if key in records]
        try:
            gone = [k for k in found if layout.decode_record(k, records[k]).expiry_ms <= now_ms]
        except RecordCorrupt as error:
            self.mend(master.name, error)
            return []
        return gone[:_SWEPT_KEYS]

    def swept(self, name: str, keys: list[bytes]) -> None:
        """Check that a master removed nothing before its time."""
        for key in keys:
            left_ms = self.deadlines[key] - self.timeline.elapsed_ms
            if left_ms > _EARLY_MS:
                raise Violation(f"{name} removes {key!r}, {left_ms} ms before its time")

    def snapshot(self, name: str) -> bool:
        """Have a node that runs take a snapshot; return whether there is one."""
        if self.nodes[name].process is None:
            return False
        try:
            self.nodes[name].disk.take_snapshot(self.timeline.wall_ms)
        except RecordCorrupt as error:
            self.mend(name, error)
            return False
        return True

    def mend(self, name: str, error: RecordCorrupt) -> None:
        """Put a damaged store aside; what comes instead is made of a snapshot and the log."""
        node = self.nodes[name]
        if isinstance(node.process, ReplicaProcess) and node.process.is_switching:
            return
        self.timeline.note(f"{name} finds {error}")
        node.disk.put_store_aside()
        node.restart()

    def excuse_losses(self, node: SimNode) -> None:
        """A disk that was not synced lost its tail: writes that were there may be gone.

        But for those that a quorum acknowledged, where it was the master's alone.
        """
        is_master = node.disk.node.role == "master"
        for write in self.writes:
            if write.key not in node.disk.lost:
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
                write.is_excused |= write.key not in node.disk.held
            node.stop()
            node.disk.node.end_reign(self.sealed_epoch)
            node.disk.promote(None)
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
        self._excuse_unseen(seen)
        self._promote_best(seen)
        for write in self.writes:
            is_promised = write.is_acknowledged and not write.is_excused
            if is_promised and write.key not in self.reigning.disk.held:
                raise Violation(f"{self.reigning.name} reigns without {write.key!r}")

    def _promote_best(self, seen: list[SimNode]) -> None:
        best = max(seen, key=lambda node: self.rank(node))
        before = best.disk.node.identity.master_address
        # It may not have heard of the lost reign: two of one number would end each other.
        best.disk.node.end_reign(max(self.reigning.reign_epoch, self.sealed_epoch))
        best.stop()
        best.disk.promote((before, before) if before else None)
        best.start()
        self.timeline.note(f"{best.name} is promoted, {named(best.disk.lineage)}")
        self.reigning = best
        for node in seen:
            if node is not best:
                self.follow(node)

    @property
    def sealed_epoch(self) -> int:
        """The highest epoch that a node has promised."""
        return max(node.disk.sealed_epoch for node in self.nodes.values())

    def voters(self) -> list[SimNode]:
        """Return the replicas that an agent reaches and may seal."""
        return [node for node in self.nodes.values() if self._can_serve(node)]

    def seal(self, node: SimNode, epoch: int, candidate: SimNode) -> reigns.Rank | None:
        """Have a node promise an epoch; return what it holds then, None where it does not."""
        process = node.process
        if not isinstance(process, ReplicaProcess) or not self._client_reaches(node):
            return None
        try:
            node.disk.node.seal(epoch, candidate.name)
        except SealRefused:
            return None
        process.seal()
        held = reigns.rank(node.disk.lineage, node.disk.position.offset)
        self.timeline.note(f"{node.name} is sealed for epoch {epoch} at {held.offset}")
        return held

    def promote_sealed(self, node: SimNode, epoch: int) -> None:
        """Promote a candidate that has its seals, whether or not the old master goes on."""
        before = node.disk.node.identity.master_address
        node.stop()
        node.disk.promote((before, before) if before else None, epoch)
        node.start()
        self.timeline.note(f"{node.name} is promoted by seals, {named(node.disk.lineage)}")
        self.reigning = node

    def end_seals(self) -> None:
        """Promote the best replica where a candidate left seals and began no reign."""
        if self.sealed_epoch <= reigns.asked_epoch(self.reigning.disk.lineage):
            return
        seen = self.voters()
        if len(seen) >= NODES - self.quorum:
            self._excuse_unseen(seen)
            self._promote_best(seen)

    def _excuse_unseen(self, seen: list[SimNode]) -> None:
        """A master's machine lost writes, and who holds them is out of reach too: that is two."""
        for write in self.writes:
            is_seen = any(write.key in node.disk.held for node in seen)
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
        if self._is_kept_by([each for each in self.nodes.values() if each is not node]):
            node.stop()
            self._begin_anew(node, process.master)

    def _is_kept_by(self, nodes: list[SimNode]) -> bool:
        """Whether these nodes hold what was promised, as many of each write as were promised."""
        return all(
            sum(write.key in each.disk.held for each in nodes) > self.quorum
            for write in self.writes
            if write.is_acknowledged
        )

    def _begin_anew(self, node: SimNode, master: str) -> None:
        ever_held = node.disk.ever_held
        node.disk = Disk(
            node.name, self.random, self.histories, is_master=False, is_synced=self.is_synced
        )
        node.disk.ever_held |= ever_held
        node.disk.node.follow(master, master)
        self.timeline.note(f"{node.name} is wiped")
        node.start()

    def replace_damaged(self, *, is_last: bool = False) -> None:
        """Wipe who does not start for damage, where every promise is kept without it.

        Args:
            is_last: Do it in any case: what nobody else holds was lost with more than one disk.
        """
        for node in self.nodes.values():
            if not node.is_damaged or node.process is not None:
                continue
            if node is self.reigning:
                self.fail_over()
            others = [each for each in self.nodes.values() if each is not node]
            if is_last:
                self._give_up(node, others)
            if node is not self.reigning and (is_last or self._is_kept_by(others)):
                self._begin_anew(node, self.reigning.name)

    def _give_up(self, node: SimNode, others: list[SimNode]) -> None:
        """Go on without a damaged disk; where it was the master's, by `synap promote --force`."""
        for write in self.writes:
            is_held = any(write.key in each.disk.held for each in others)
            write.is_excused |= write.key in node.disk.held and not is_held
        running = [each for each in others if each.process is not None]
        if node is self.reigning and running:
            best = max(running, key=lambda each: self.rank(each))
            for write in self.writes:
                write.is_excused |= write.key not in best.disk.held
            self._promote_best(running)

    def _can_serve(self, node: SimNode) -> bool:
        """Whether a node is up, in reach, and a replica of the same cluster."""
        process = node.process
        if not isinstance(process, ReplicaProcess) or process.is_switching:
            return False
        shares = not set(node.disk.lineage).isdisjoint(self.reigning.disk.lineage)
        return shares and node.disk.has_synced and self._client_reaches(node)

    def _client_reaches(self, node: SimNode) -> bool:
        return self.network.reaches("client", node.name)
