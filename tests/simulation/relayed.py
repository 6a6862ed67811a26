"""A simulated cluster with relays: replicas that follow replicas, a chain of them at most.

    n0  the master
    n1  a voter and a relay
    n2  a relay that follows n1, else the master
    n3  a leaf that follows n2, else n1, else the master

Processes end and come back, disks are wiped, links are cut and slow; the relays' rules, the list of
upstreams and what a relay sends on are the shipped ones. No disk loses what was written, and nobody
else is promoted: `world` has that.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from random import Random

from synap.errors import UpstreamOrphaned
from synap.frame import Frame
from synap.position import Position
from synap.replication.following.upstreams import Upstream, Upstreams
from synap.replication.publishing.catch_up import CatchUpService
from synap.replication.publishing.relaying import _Relayed
from synap.replication.rules import messages
from synap.replication.rules.follower_io import FollowerOptions, ReplicaLog
from synap.replication.rules.master import MasterHooks, MasterOptions
from synap.replication.rules.messages import Heartbeat, Hello, Published, Streamed, encode
from synap.replication.rules.plan import Diverged
from synap.replication.rules.relay import RelayMaster
from tests.simulation.clocks import Clocks
from tests.simulation.disk import Disk
from tests.simulation.network import Weather, drawn_weather
from tests.simulation.node import (
    HEARTBEAT_MS,
    RECONNECT_MS,
    REPLICA_TIMEOUT_NS,
    MasterProcess,
    ReplicaProcess,
    SlowReader,
    Snapshots,
)
from tests.simulation.run import told_with_its_trace
from tests.simulation.timeline import NS_PER_MS
from tests.simulation.world import ClientWrite, SimNode, Violation, World

_VOTER = "n1"
_UPSTREAMS = {"n1": (), "n2": ("n1",), "n3": ("n2", "n1")}
_PATIENCE_MS = 5000
_FAULTS_MS = 14_000
_HEALING_MS = 60_000
_LOOK_MS = 500


def _upstream(name: str) -> Upstream:
    return Upstream(f"{name}:1", f"{name}:2")


class RelayProcess(ReplicaProcess):
    """A subscriber with a publisher of its own."""

    world: RelayedWorld

    def __init__(self, world: RelayedWorld, name: str, disk: Disk, clocks: Clocks) -> None:
        relays = [_upstream(each).stream for each in _UPSTREAMS[name]]
        self._upstreams = Upstreams(relays, _upstream("n0"))
        self._orphan: Upstream | None = None
        super().__init__(world, name, disk, clocks)
        self.master = self._upstreams.current.stream.partition(":")[0]
        self._begin_to_serve()
        self.after(HEARTBEAT_MS, self._beat)

    def serve(self, peer: bytes, parts: list[bytes]) -> None:
        if not self.is_switching:
            request, _ = messages.requests.decode(parts)
            self._relay.receive(peer, "", request, self.timeline.now_ns, self.clocks.now_ms())

    def hear_subscription(self) -> None:
        beat = None if self.is_switching else self._relay.heartbeat(self.clocks.now_ms())
        if beat is not None:
            self._publish(beat, None)

    def hear(self, parts: list[bytes]) -> None:
        super().hear(parts)
        if isinstance(messages.stream.decode(parts)[0], Heartbeat) and self.peer:
            self.hear_subscription()

    def _begin_to_serve(self) -> None:
        """Serve the log as it is now; who followed the one before has to come back."""
        reader = SlowReader(self)
        self._reader = reader
        self._relay = RelayMaster(
            self.disk,
            MasterOptions(
                name=self.name, url="", heartbeat_interval_ms=HEARTBEAT_MS,
                timeout_ns=REPLICA_TIMEOUT_NS, max_lag_ms=5000, largest_streamed_bytes=1000,
            ),
            MasterHooks(
                send=lambda peer, message: self.send_bulk(peer, message, None),
                look_up=self._look_up,
                complain=lambda violation, _: self.timeline.note(f"{self.name}: {violation}"),
                on_ack=lambda: None, on_higher_epoch=lambda _: None,
                on_restart_over=lambda: None, is_known=lambda _: False,
            ),
            lambda: self._follower.ancestry(self.timeline.now_ns),
        )  # fmt: skip
        self._relay.serve(
            CatchUpService(self.disk, reader, self.send_bulk),  # type: ignore[arg-type]
            Snapshots(self, reader),
        )

    def _followed(self) -> ReplicaLog:
        return _Relayed(self.disk, self._send_on)

    def _options(self) -> FollowerOptions:
        return FollowerOptions(
            self.name, "", HEARTBEAT_MS, 5000, RECONNECT_MS, can_resync=True,
            votes=not _UPSTREAMS[self.name], patience_ms=_PATIENCE_MS,
        )  # fmt: skip

    def _send_on(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            message = self._relay.streamed(frame, self.timeline.now_ns, self.clocks.now_ms())
            self._publish(message, frame.encoded if isinstance(message, Published) else None)
        self._relay.look_at_waiting()

    def _publish(self, message: Streamed, bulk: bytes | None) -> None:
        self.world.stream(self.name, encode(message, bulk))

    def _beat(self) -> None:
        self.hear_subscription()
        self._relay.expire(self.timeline.now_ns)
        self.after(HEARTBEAT_MS, self._beat)

    def _look_up(self, peer: bytes, address: str, hello: Hello) -> None:
        relay, disk = self._relay, self.disk

        def deliver(found: Future[Position | None]) -> None:
            at_replica = found.result() if found.exception() is None else None
            answer = relay.welcome(
                peer, address, hello, disk.first_offset, at_replica,
                self.timeline.now_ns, self.clocks.now_ms(),
            )  # fmt: skip
            if isinstance(answer, Diverged):
                # There is one reign: who has more than this node is ahead of it.
                raise Violation(f"{self.name} tells {hello.replica} that it has diverged")
            said = "Wait" if answer is None else type(answer).__name__
            self.timeline.note(f"relay {self.name} answers {hello.replica}: {said}")

        self._reader.read(lambda: disk.position_at(hello.position.offset), deliver)

    def _end_job(self) -> None:
        was_switching = self.is_switching
        super()._end_job()
        if was_switching:
            self._begin_to_serve()

    def _has_another(self, error: Exception, *, is_good: bool) -> bool:
        """Do as the subscriber does."""
        upstreams = self._upstreams
        if is_good:
            upstreams.begin_round()
            self._orphan = None
        if isinstance(error, UpstreamOrphaned):
            self._orphan = upstreams.current
        has_another = upstreams.turn()
        if not has_another:
            upstreams.begin_round()
            if self._orphan is not None:
                upstreams.go_to(self._orphan)
                self._orphan = None
                self._follower.be_patient()
                has_another = True
            else:
                upstreams.turn()
                upstreams.begin_round()
        self.master = upstreams.current.stream.partition(":")[0]
        return has_another


def _slowest_ms(weather: Weather) -> float:
    """Return how long a message is on its way at most."""
    return weather.latency_ms * 1.5 + (weather.late_ms if weather.late else 0)


class RelayedWorld(World):
    """The cluster.

    Attributes:
        master_heard_ns: When anybody last heard the master itself.
    """

    def __init__(self, random: Random, histories: Random) -> None:
        self.master_heard_ns = 0
        self._slowest_ms = 0.0
        super().__init__(random, histories)

    def _choose(self, random: Random) -> None:
        self.quorum, self.is_synced, self.is_configured = 1, True, True

    def new_replica(self, name: str, disk: Disk, clocks: Clocks) -> ReplicaProcess:
        return RelayProcess(self, name, disk, clocks)

    def acknowledged(self, master: MasterProcess, write: ClientWrite) -> None:
        super().acknowledged(master, write)
        if write.key not in self.nodes[_VOTER].disk.ever_held:
            raise Violation(f"{write.key!r} is acknowledged, and no voter ever held it")

    def look_at_age(self) -> None:
        """Check that no replica tells that its data is newer than anybody can know.

        A relay knows when it heard the master, and not how long its word is on its way.
        """
        self._slowest_ms = max(self._slowest_ms, _slowest_ms(self.network.weather))
        for node in self.nodes.values():
            process = node.process
            if not isinstance(process, ReplicaProcess):
                continue
            ahead_ms = (process.status().fresh_ns - self.master_heard_ns) / NS_PER_MS
            # Each hop tells whole ms.
            on_its_way_ms = len(_UPSTREAMS[node.name]) * (self._slowest_ms + 2)
            if self.master_heard_ns and ahead_ms > on_its_way_ms:
                raise Violation(f"{node.name} has the master heard {ahead_ms} ms too late")

    def answer(self, master: str, peer: bytes, parts: list[bytes]) -> None:
        replica = self._links.get(peer)
        if replica is None:
            return

        def arrive() -> None:
            self._note_source(master)
            self._deliver(peer, replica, parts)

        self.network.send(master, replica.name, arrive)

    def _stream_to(
        self, master: str, peer: bytes, replica: ReplicaProcess, parts: list[bytes]
    ) -> None:
        def hear() -> None:
            if replica.is_alive and replica.peer == peer:
                self._note_source(master)
                replica.hear(parts)

        self.network.send(master, replica.name, hear)

    def _note_source(self, name: str) -> None:
        if name == self.reigning.name:
            self.master_heard_ns = self.timeline.now_ns


class RelayRun:
    """One life of it."""

    def __init__(self, seed: int) -> None:
        self._random = random = Random(f"relays {seed}")
        self.world = RelayedWorld(random, Random(f"histories of {seed}"))
        self._hardship = random.choice((0.0, 0.3, 1.0))
        self._is_healing = False
        self._faults = (
            (6, self._crash), (3, self._split), (3, self._snapshot), (2, self._change_weather),
            (1, lambda: self.world.wipe(self._any())),
        )  # fmt: skip

    def go(self) -> list[str]:
        """Live through the faults, heal, and compare; return the trace.

        Raises:
            Violation: a promise was broken.
        """
        world, timeline = self.world, self.world.timeline
        timeline.after(500, self._write)
        timeline.after(1000, self._do_harm)
        timeline.after(0, self._look)
        timeline.run_until(_FAULTS_MS)
        self._heal()
        while not world.do_all_agree():
            if timeline.elapsed_ms >= _FAULTS_MS + _HEALING_MS:
                raise Violation(f"the nodes do not agree: {world.standing()}")
            timeline.run_until(timeline.elapsed_ms + _LOOK_MS)
        gone = [write for write in world.writes if not self._is_everywhere(write)]
        if gone:
            raise Violation(f"{gone[0].key!r} is gone")
        return timeline.trace

    def _is_everywhere(self, write: ClientWrite) -> bool:
        return all(write.key in node.disk.held for node in self.world.nodes.values())

    def _look(self) -> None:
        self.world.look_at_age()
        self.world.look_at_readers()
        self.world.timeline.after(_LOOK_MS, self._look)

    def _write(self) -> None:
        if not self._is_healing:
            self.world.write(self.world.reigning)
            self.world.timeline.after(300 * self._random.random(), self._write)

    def _do_harm(self) -> None:
        if self._is_healing:
            return
        weights, actions = zip(*self._faults, strict=True)
        self._random.choices(actions, weights)[0]()
        self.world.timeline.after(100 + 1400 * self._random.random(), self._do_harm)

    def _any(self) -> SimNode:
        return self._random.choice(list(self.world.nodes.values()))

    def _crash(self) -> None:
        node = self._any()
        self.world.timeline.note(f"{node.name} crashes")
        node.stop()
        delay_ms = 100 + 6000 * self._random.random() ** 2
        self.world.timeline.after(delay_ms, lambda: node.process or node.start())

    def _split(self) -> None:
        apart = self._random.sample(list(self.world.nodes), self._random.choice((1, 1, 2)))
        self.world.timeline.note(f"{' '.join(apart)} cut off")
        self.world.network.split(apart)
        self.world.timeline.after(500 + 6000 * self._random.random(), self.world.network.heal)

    def _snapshot(self) -> None:
        node = self._any()
        if self.world.snapshot(node.name):
            node.disk.retire()

    def _change_weather(self) -> None:
        self.world.network.weather = drawn_weather(self._random, self._hardship, 0.3)

    def _heal(self) -> None:
        self._is_healing = True
        self.world.timeline.note("all is well again")
        self.world.network.heal()
        self.world.network.weather = Weather()
        for node in self.world.nodes.values():
            if node.process is None:
                node.start()


def simulate_relays(seed: int) -> list[str]:
    """Run a seed; return its trace.

    Raises:
        Failure: a promise was broken.
    """
    run = RelayRun(seed)
    with told_with_its_trace(seed, run.world.timeline):
        return run.go()
