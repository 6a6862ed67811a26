"""One node's processes: the shipped rules, with fake sockets, threads and disks around them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from synap.errors import DiskFull, MemoryLimit, NothingToAccept, ReplicationError
from synap.frame import DEL, MARK, Cause, Entry, Frame
from synap.place import tag_of
from synap.position import Lineage, Position
from synap.replication.publishing.catch_up import CatchUpService
from synap.replication.publishing.snapshot_service import ImageCheck, SnapshotService
from synap.replication.rules import messages
from synap.replication.rules.follower import Follower
from synap.replication.rules.follower_io import FollowerOptions, FollowerStatus, ReplicaLog
from synap.replication.rules.master import Master, MasterHooks, MasterOptions
from synap.replication.rules.messages import (
    Answer,
    FetchSnapshot,
    Hello,
    Published,
    Refusal,
    encode,
)
from synap.replication.rules.plan import Diverged
from synap.replication.rules.progress import retry_delay_ms
from synap.replication.rules.quorum import Waiting
from synap.replication.rules.restart import Restart
from synap.replication.rules.resync import Install, Job, Receive, Write
from synap.snapshot.folder import Manifest
from tests.simulation.clocks import Clocks
from tests.simulation.disk import Cursor, Disk

if TYPE_CHECKING:
    from tests.simulation.world import ClientWrite, World

Read = TypeVar("Read")

HEARTBEAT_MS = 1000
REPLICA_TIMEOUT_NS = 10_000 * 1_000_000
_ACK_TIMEOUT_MS = 3000
_RESTART_WAIT_NS = 500 * 1_000_000
RECONNECT_MS = 1000
_KNOCK_MS = 2000
_TICK_MS = HEARTBEAT_MS / 4
_SWEEP_MS = 500
_GOOD_LINK_MS = 10 * HEARTBEAT_MS
_IMAGE_CHUNK_BYTES = 600


class Process:
    """What of a node dies with its process."""

    def __init__(self, world: World, name: str, disk: Disk, clocks: Clocks) -> None:
        self.world = world
        self.clocks = clocks
        self.timeline = world.timeline
        self.random = world.random
        self.name = name
        self.disk = disk
        self.is_alive = True

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Do `action` later, unless the process has ended; one that sleeps does it then."""
        self.timeline.after(delay_ms, lambda: self._do(action))

    def _do(self, action: Callable[[], None]) -> None:
        left_ms = self.world.sleeps_ms(self.name) if self.is_alive else 0
        if left_ms:
            self.timeline.after(left_ms, lambda: self._do(action))
        elif self.is_alive:
            action()

    def kill(self) -> None:
        self.is_alive = False
        self.disk.pins.clear()

    def serve(self, peer: bytes, parts: list[bytes]) -> None:
        """Take a request of another node's; who serves nobody lets it be."""

    def hear_subscription(self) -> None:
        """Learn that somebody listens."""

    def send_bulk(self, peer: bytes, message: Answer, bulk: bytes | None) -> bool:
        self.world.answer(self.name, peer, encode(message, bulk))
        return True

    def make_up_for_damage(self) -> None:
        """Take a snapshot at once where the log is damaged, as the snapshotter does."""
        if self.disk.is_damaged:
            self.world.snapshot(self.name)


class SlowReader:
    """Reads for the loop, a little later."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def read(self, work: Callable[[], Read], deliver: Callable[[Future[Read]], None]) -> None:
        def work_now() -> None:
            found: Future[Read] = Future()
            try:
                found.set_result(work())
            except Exception as error:
                found.set_exception(error)
            deliver(found)

        self._process.after(self._process.random.random() * 5, work_now)


class SharedImage:
    """A snapshot that transfers read, and the log behind it."""

    def __init__(self, disk: Disk, manifest: Manifest, image: bytes) -> None:
        self.manifest = manifest
        self.sha256 = bytes.fromhex(manifest.sha256)
        self.used_ns = 0
        self.is_sound = True
        self._image = image
        self._check = ImageCheck(Path("image"), manifest)
        self._cursor: Cursor = disk.cursor(manifest.position.offset)

    def read(self, at_byte: int) -> bytes:
        content = self._image[at_byte : at_byte + _IMAGE_CHUNK_BYTES]
        self._check.take(at_byte, content)
        return content

    def close(self) -> None:
        self._cursor.close()


class Snapshots(SnapshotService):
    """The shipped service, with images from the fake disk."""

    def __init__(self, process: Process, reader: SlowReader) -> None:
        super().__init__(
            process.disk, self, reader, process.send_bulk,
            wait_ms=RECONNECT_MS, draw=process.random.random,
        )  # fmt: skip
        self._process = process
        self._is_preparing = False

    def known(self) -> list[tuple[Path, Manifest]]:
        return [(Path("image"), manifest) for manifest, _ in self._process.disk.snapshots]

    def distrust(self, manifest: Manifest) -> None:
        disk = self._process.disk
        disk.snapshots = [each for each in disk.snapshots if each[0] != manifest]

    def _prepare(self, fetch: FetchSnapshot) -> None:
        if not self._is_preparing:
            self._is_preparing = True
            self._process.after(300, lambda: self._make_ready_now(fetch))

    def _make_ready_now(self, fetch: FetchSnapshot) -> None:
        self._is_preparing = False
        disk = self._process.disk
        if self._transfers:
            return
        usable = [
            each
            for each in disk.snapshots
            if _is_continued(disk, each[0]) and each[0].position.offset >= fetch.at_least
        ]
        chosen = [each for each in usable if each[0].sha256 == fetch.sha256.hex()] + usable[:1]
        if not chosen:
            process = self._process
            if not process.world.snapshot(process.name):
                return
            chosen = disk.snapshots[:1]
        self._let_go()
        self._shared = SharedImage(disk, *chosen[0])
        self._shared.used_ns = self._process.timeline.now_ns


class MasterProcess(Process):
    """A writer and its publisher."""

    def __init__(self, world: World, name: str, disk: Disk, clocks: Clocks) -> None:
        super().__init__(world, name, disk, clocks)
        self._clock = clocks.own()
        reader = SlowReader(self)
        self._reader = reader
        self._waiting: Waiting[ClientWrite] = Waiting()
        self.is_told = False
        self._master = Master(
            disk,
            MasterOptions(
                name=name, url="", heartbeat_interval_ms=HEARTBEAT_MS,
                timeout_ns=REPLICA_TIMEOUT_NS, max_lag_ms=5000, largest_streamed_bytes=1000,
            ),
            MasterHooks(
                send=lambda peer, message: self.send_bulk(peer, message, None),
                look_up=self._look_up,
                complain=lambda violation, _: world.timeline.note(f"{name} drops: {violation}"),
                on_ack=self._look_at_acks,
                on_higher_epoch=self._end_reign,
                on_restart_over=self._end_restart,
                is_known=self._counts,
            ),
            self._restart(),
        )  # fmt: skip
        self._master.serve(
            CatchUpService(disk, reader, self.send_bulk),  # type: ignore[arg-type]
            Snapshots(self, reader),
        )
        self.after(0, self._beat)
        self.after(_SWEEP_MS, self._sweep)
        self._look_at_clock()
        if not disk.node.identity.is_recovering:
            self._mark()
        if disk.node.identity.master_address:
            self.after(0, self._knock)

    def write(self, write: ClientWrite, entries: Sequence[Entry]) -> bool:
        """Log a client's write; return whether it was taken."""
        identity = self.disk.node.identity
        if identity.ended_by_epoch or identity.is_recovering:
            return False
        timeline = self.timeline
        try:
            frame = self._log(entries)
        except DiskFull:
            return False
        write.position = frame.position
        deadline = timeline.elapsed_ms + _ACK_TIMEOUT_MS
        self._waiting.add(self.world.quorum, frame.last_offset, deadline, write)
        self._look_at_acks()
        return True

    def confirm(self, write: ClientWrite) -> None:
        """Acknowledge what is there, when a quorum holds all that the answer depends on."""
        disk = self.disk
        if disk.node.identity.ended_by_epoch or disk.node.identity.is_recovering:
            return
        deadline = self.timeline.elapsed_ms + _ACK_TIMEOUT_MS
        self._waiting.add(self.world.quorum, disk.position.offset, deadline, write)
        self._look_at_acks()

    def holds(self, offset: int) -> bool:
        """Say whether a quorum holds what lies up to `offset`, as a read asks that waits for it."""
        identity = self.disk.node.identity
        is_over = identity.ended_by_epoch or identity.is_recovering
        return not is_over and self._master.held_offset(self.world.quorum) >= offset

    def _counts(self, replica: str) -> bool:
        """Say whether a replica's acks count."""
        return replica in self.disk.known_replicas

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def _look_at_clock(self) -> None:
        self._clock.look()
        self.after(_TICK_MS, self._look_at_clock)

    def _sweep(self) -> None:
        """Remove what has expired, as the sweeper does."""
        self.after(_SWEEP_MS, self._sweep)
        identity = self.disk.node.identity
        if identity.ended_by_epoch or identity.is_recovering:
            return
        expired = self.world.expired(self)
        if not expired:
            return
        with suppress(DiskFull):
            self._log([Entry(DEL, key, cause=Cause.EXPIRED) for key in expired])
            self.world.swept(self.name, expired)

    def _log(self, entries: Sequence[Entry]) -> Frame:
        timeline = self.timeline
        frame = self.disk.write(entries, self.now_ms())
        message = self._master.streamed(frame, timeline.now_ns, self.now_ms())
        self._publish(message, frame.encoded if isinstance(message, Published) else None)
        return frame

    def _mark(self) -> None:
        """Log the first entry of a reign that has none; where there is no room, again later."""
        disk, reign = self.disk, self.disk.node.reign
        assert reign is not None
        is_over = disk.node.identity.ended_by_epoch
        if is_over or not 0 < disk.position.offset < reign.first_offset:
            return
        try:
            self._log([Entry(MARK)])
        except DiskFull:
            self.after(_TICK_MS, self._mark)

    def _restart(self) -> Restart | None:
        disk = self.disk
        if not disk.node.identity.is_recovering:
            return None
        quorum = self.world.quorum if self.world.is_configured else 0
        until_ns = self.timeline.now_ns + _RESTART_WAIT_NS
        return Restart(disk, sorted(disk.known_replicas), quorum, until_ns)

    def _end_restart(self) -> None:
        disk = self.disk
        if disk.node.identity.ended_by_epoch:
            return
        disk.sync()
        disk.begin_reign(disk.node.begin_reign(disk.position.offset))
        self.timeline.note(f"{self.name} recovers at {disk.position}, a new reign")
        self._mark()
        self.hear_subscription()

    def serve(self, peer: bytes, parts: list[bytes]) -> None:
        request, _ = messages.requests.decode(parts)
        self._master.receive(peer, "", request, self.timeline.now_ns, self.now_ms())

    def hear_subscription(self) -> None:
        self._publish(self._master.heartbeat(self.now_ms()), None)

    def _publish(self, message: messages.Streamed, bulk: bytes | None) -> None:
        self.world.stream(self.name, encode(message, bulk))

    def _beat(self) -> None:
        timeline = self.timeline
        self.hear_subscription()
        self.make_up_for_damage()
        self._master.expire(timeline.now_ns)
        self._waiting.take_late(timeline.elapsed_ms)
        self.after(HEARTBEAT_MS, self._beat)

    def _knock(self) -> None:
        """Tell the master before this one that its reign is over, as the herald does."""
        if self.is_told:
            return
        disk = self.disk
        hello = Hello(self.name, disk.position, disk.lineage, "", is_master=True)
        self.world.knock(self, disk.node.identity.master_address, encode(hello))
        self.after(_KNOCK_MS, self._knock)

    def _look_up(self, peer: bytes, address: str, hello: Hello) -> None:
        disk = self.disk

        def deliver(found: Future[Position | None]) -> None:
            at_replica = found.result() if found.exception() is None else None
            answer = self._master.welcome(
                peer, address, hello, disk.first_offset, at_replica,
                self.timeline.now_ns, self.now_ms(),
            )  # fmt: skip
            if answer is not None and not isinstance(answer, Diverged):
                # Written a moment later, in a thread.
                self.after(self.random.random() * 50, lambda: self._know(hello.replica))
            said = "Recall" if answer is None else type(answer).__name__
            self.timeline.note(f"{self.name} answers {hello.replica} at {hello.position}: {said}")

        self._reader.read(lambda: disk.position_at(hello.position.offset), deliver)

    def _know(self, replica: str) -> None:
        self.disk.known_replicas.add(replica)
        self._look_at_acks()

    def _look_at_acks(self) -> None:
        for replicas in self._waiting.numbers():
            for write in self._waiting.take_held(replicas, self._master.held_offset(replicas)):
                self.world.acknowledged(self, write)

    def _end_reign(self, epoch: int) -> None:
        self.timeline.note(f"{self.name} hears of epoch {epoch}")
        self.disk.node.end_reign(epoch)


class ReplicaProcess(Process):
    """A subscriber and its installer."""

    def __init__(self, world: World, name: str, disk: Disk, clocks: Clocks) -> None:
        super().__init__(world, name, disk, clocks)
        self.master = disk.node.identity.master_address
        self.peer = b""
        self._attempt = -1
        self._opened_ms = 0
        self._is_settling = False
        self._jobs: list[Job] = []
        self._image: bytearray | None = None
        self._follower = Follower(self._followed(), self._options(), disk.applied_time_ms)
        clocks.follow(0)
        self.after(0, self._open)
        self.after(_TICK_MS, self._tick)

    @property
    def is_switching(self) -> bool:
        """Whether log and store are just being replaced: the process does not stop in between."""
        return bool(self._jobs) and isinstance(self._jobs[0], Install)

    def _followed(self) -> ReplicaLog:
        """Return what the follower appends to."""
        return self.disk

    def _options(self) -> FollowerOptions:
        return FollowerOptions(self.name, "", HEARTBEAT_MS, 5000, RECONNECT_MS, can_resync=True)

    def status(self) -> FollowerStatus:
        return self._follower.status(self.timeline.now_ns)

    def seal(self) -> None:
        """Acknowledge nothing more to a master that the seal has ended."""
        self._follower.seal()

    def accept(self) -> bool:
        """Say the operator's word; return whether it was wanted."""
        try:
            self._follower.accept(self.timeline.now_ns)
        except NothingToAccept:
            return False
        self._flush()
        return True

    def hear(self, parts: list[bytes]) -> None:
        self._guard(
            lambda: self._follower.hear(*messages.stream.decode(parts), self.timeline.now_ns)
        )
        self._show()

    def _show(self) -> None:
        """Tell the node's other processes, as `ReplicaStatus` does."""
        self.clocks.follow(self._follower._clock.offset_ns)

    def receive(self, parts: list[bytes]) -> None:
        self._guard(
            lambda: self._follower.receive(*messages.answers.decode(parts), self.timeline.now_ns)
        )

    def _open(self) -> None:
        self.peer = self.world.connect(self)
        self._opened_ms = self.timeline.elapsed_ms
        self._follower.connect(self.timeline.now_ns)

    def _guard(self, step: Callable[[], None]) -> None:
        if not self.peer:
            return
        try:
            step()
        except (ReplicationError, DiskFull, MemoryLimit) as error:
            self._lose(error)
            return
        if not self._is_settling:
            self._is_settling = True
            self.after(self.random.random() * self.world.settle_ms, self._settle)

    def _settle(self) -> None:
        self._is_settling = False

        def settle_all() -> None:
            while self._follower.settle(self.timeline.now_ns):
                pass

        if not self.peer:
            return
        try:
            settle_all()
        except (ReplicationError, DiskFull, MemoryLimit) as error:
            self._lose(error)
            return
        self._flush()

    def _tick(self) -> None:
        self.after(_TICK_MS, self._tick)
        self._show()
        self.make_up_for_damage()
        if not self.peer:
            self._submit()
            return
        try:
            self._follower.tick(self.timeline.now_ns)
        except ReplicationError as error:
            self._lose(error)
            return
        self._flush()

    def _lose(self, error: Exception) -> None:
        self.timeline.note(f"{self.name} loses its link: {error}")
        self.peer = b""
        self._follower.disconnect(str(error))
        is_good = self.timeline.elapsed_ms - self._opened_ms > _GOOD_LINK_MS
        self._attempt = 0 if is_good else self._attempt + 1
        if self._has_another(error, is_good=is_good):
            self.after(0, self._open)
            return
        delay_ms = retry_delay_ms(self._attempt, RECONNECT_MS, self.random.random())
        self.after(delay_ms, self._open)

    def _has_another(self, error: Exception, *, is_good: bool) -> bool:
        """Turn to another node to follow; return False where it is time to wait."""
        return False

    def _flush(self) -> None:
        for request in self._follower.outbox:
            self.world.request(self, encode(request))
        self._follower.outbox.clear()
        self._submit()

    def _submit(self) -> None:
        jobs = self._follower.jobs
        if jobs:
            is_idle = not self._jobs
            self._jobs += jobs
            jobs.clear()
            if is_idle:
                self._begin_job()

    def _begin_job(self) -> None:
        longest_ms = 2000 if isinstance(self._jobs[0], Install) else 30
        self.after(self.random.random() * longest_ms, self._end_job)

    def _end_job(self) -> None:
        job = self._jobs[0]
        is_good = self._carry_out(job)
        self._jobs.pop(0)
        self._follower.done(job, is_good, self.timeline.now_ns)
        if self._jobs:
            self._begin_job()
        self._flush() if self.peer else self._submit()

    def _carry_out(self, job: Job) -> bool:
        if self.random.random() < self.disk.full_share:
            self._image = None
            return False
        if isinstance(job, Receive):
            self._image = bytearray()
            return True
        if self._image is None:
            return False
        if isinstance(job, Write):
            self._image[job.at_byte :] = job.content
            return True
        image, self._image = bytes(self._image), None
        if hashlib.sha256(image).digest() != job.offer.sha256:
            return False
        held = self.disk.position.offset
        self.world.installed(self, job, self.disk.install(job, image), held)
        return True


def _is_continued(disk: Disk, manifest: Manifest) -> bool:
    position = manifest.position
    is_retained = position.offset >= disk.first_offset - 1
    return is_retained and disk.position_at(position.offset) == position


def named(lineage: Lineage) -> str:
    """Return a lineage, each reign with a part of its random id; `?` where nobody asked for it."""
    return " ".join(
        f"{reign.epoch}{'?' * reign.is_unasked}@{reign.first_offset}-{tag_of(reign.history)}"
        for reign in lineage
    )


def is_answer(parts: list[bytes]) -> bool:
    """Whether a herald may stop to knock."""
    answer, _ = messages.answers.decode(parts)
    waits = (messages.BUSY, messages.WAIT)
    return not (isinstance(answer, Refusal) and answer.reason in waits)
