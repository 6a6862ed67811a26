"""The master's side of replication: publishes frames, serves catch-up, knows its replicas.

The engine lives on the writer's loop and never makes it wait: sending drops where a queue is full,
and the log is read for replicas in a thread of its own. `workers/writer.py` starts and stops it,
the writer calls `publish` after each commit.

Source: docs/protocol.md, "The master".
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from synap.addresses import reachable_address
from synap.config.membership import check_membership
from synap.errors import (
    LogError,
    OffsetNotRetained,
    ProtocolViolation,
    StoreError,
    VerifyFailed,
    WalCorrupt,
)
from synap.frame import Frame
from synap.position import Lineage, Position
from synap.replication.publishing.catch_up import CatchUpService, tell_of_damage
from synap.replication.publishing.known_replicas import UNREADABLE
from synap.replication.publishing.snapshot_service import SnapshotService, SnapshotSource
from synap.replication.publishing.told import facts_of, tell_answer
from synap.replication.publishing.transfers import ReadableLog, Reader, share_bytes
from synap.replication.record_asking import Found, RecordAsking
from synap.replication.rules import messages
from synap.replication.rules.ancestry import Ancestry
from synap.replication.rules.crowd import Seat
from synap.replication.rules.line_limit import LineLimit
from synap.replication.rules.master import Master, MasterHooks, MasterOptions
from synap.replication.rules.mending import Damage
from synap.replication.rules.messages import (
    AboutMaster,
    Answer,
    Hello,
    Published,
    RecordLoan,
    encode,
)
from synap.replication.rules.plan import Diverged
from synap.replication.rules.progress import NS_PER_MS
from synap.replication.rules.record_copies import Records
from synap.replication.rules.relay import RelayMaster
from synap.replication.rules.restart import Restart
from synap.replication.transport.curve import load_keys
from synap.replication.transport.handshakes import FailedHandshake, HandshakeLog
from synap.replication.transport.sockets import ListeningEndpoint, Sockets
from synap.shared.board import AwaitedFacts, ReplicaFacts
from synap.shared.series import FAILED_HANDSHAKES, VIOLATIONS, Count

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

# To everything, as replicas do.
_SUBSCRIBED = b"\x01"
_UNSUBSCRIBED = b"\x00"
# A replica that waits for its turn asks so often, or every replication.reconnect_delay_ms.
_LONGEST_WAIT_MS = 1000
# Replicas that fell silent at once and are named in the log; the status shows all of them.
_SILENT_LINES = 10
# Answers that wait for a peer, beside the chunks that may.
_UNREAD_ANSWERS_BYTES = 256 * 1024
# A port that is open to the world hears a lot of nonsense; the log says so this often.
_COMPLAIN_EVERY_NS = 10_000_000_000


class PublishedLog(Protocol):
    """What a publisher needs of its node's log."""

    @property
    def wal(self) -> ReadableLog:
        """The frames on disk."""

    @property
    def position(self) -> Position:
        """The end of the log."""

    @property
    def lineage(self) -> Lineage:
        """The reigns of the log, at least one."""

    @property
    def is_recovering(self) -> bool:
        """Whether the end of the log may be lost, and no reign has begun since."""

    def append_frames(self, frames: Sequence[Frame]) -> None:
        """Log and apply frames that this log held before; raises where they do not follow."""


@dataclass(frozen=True, slots=True)
class PublisherHooks:
    """Who is told of what replicas say; none of them may block.

    Attributes:
        on_ack: Called when `held_offset` may have changed.
        on_higher_epoch: Called with an epoch that ends the reign of this master.
        on_replica: Called with the name of a replica that joins, the address of the ROUTER
            socket that it would have as a master, empty where it tells none, and who is behind
            each name that was heard.
        addresses: Tells the addresses of those that are known; replicas are told them.
        is_known: Whether a restart of this master would ask the replica of that name: only then its
            acks count.
        on_restart_over: Called when the next reign may begin, where one waits for replicas.
        on_failure: Called with an error of the log after which the process must end.
    """

    on_ack: Callable[[], None]
    on_higher_epoch: Callable[[int], None]
    on_replica: Callable[[str, str, Mapping[str, Seat]], None]
    addresses: Callable[[], Iterable[str]]
    is_known: Callable[[str], bool]
    on_restart_over: Callable[[], None]
    on_failure: Callable[[BaseException], None]


class Publisher:
    """The engine. All methods belong to the loop that `start` was called on.

    Attributes:
        violations: Messages that were none.
        snapshots: The full resyncs under way, once started.
        name: What `find` asks, for people.
    """

    name = "a replica"

    def __init__(
        self,
        config: Config,
        log: PublishedLog,
        snapshots: SnapshotSource | None = None,
        known: Mapping[str, str] | None = None,
        *,
        count: Count,
        clock_ms: Callable[[], int] | None = None,
        records: Records | None = None,
        above: Callable[[], Ancestry | None] | None = None,
        about: Callable[[], AboutMaster] = AboutMaster,
    ) -> None:
        """
        Args:
            about: Tells what heartbeats say of this master to people.
            above: On a relay, tells of the nodes above it; None on a master.
            records: The live store, for replicas; None where they get nothing of it.
            clock_ms: The clock that deadlines go by, which replicas are told; None for the
                machine's.
            known: Replicas of the time before, by name, with where each would be as a master. They
                are shown, and asked for what a recovering log lacks.
            config: Addresses, intervals and bounds; `replication` and `server`.
            log: The master's log, which outlives the publisher.
            snapshots: Its snapshots; without them nobody gets a full resync.
            count: Counts failed handshakes and violations.

        Raises:
            ConfigInvalid: The file of the secret key can't be used, or the node asks clients for
                credentials and would serve any peer without.
        """
        check_membership(config)
        replication, server = config.replication, config.server
        self.violations = 0
        self._count = count
        self._clock_ms = clock_ms or _wall_ms
        self._handshakes = HandshakeLog("with a peer")
        self._keys = load_keys(config)
        self._replication = replication
        self._log = log
        self._source = snapshots
        self.snapshots: SnapshotService | None = None
        self._timeout_ns = replication.replica_timeout_secs * 1_000_000_000
        self._options = MasterOptions(
            name=server.node_id,
            url=server.own_url,
            heartbeat_interval_ms=replication.heartbeat_interval_ms,
            timeout_ns=self._timeout_ns,
            max_lag_ms=replication.max_lag_ms,
            largest_streamed_bytes=replication.buffer_size_kb * 1024,
        )
        hooks = MasterHooks(
            send=self._send,
            look_up=self._look_up,
            complain=self._complain,
            on_ack=self._hear_ack,
            on_higher_epoch=self._hear_higher_epoch,
            on_restart_over=self._end_restart,
            is_known=self._is_known,
            on_loan=self._hear_loan,
            records=records,
            about=about,
        )
        self._relay = None if above is None else RelayMaster(log, self._options, hooks, above)
        self._master = self._relay or Master(log, self._options, hooks, self._restart(known or {}))
        shown = {name: address for name, address in (known or {}).items() if name != UNREADABLE}
        self._master.expect(shown, time.monotonic_ns(), _wall_ms())
        self._asking: RecordAsking | None = None
        self._lines = LineLimit()
        self._complained_ns = -_COMPLAIN_EVERY_NS
        self._warned_ns = -_COMPLAIN_EVERY_NS
        self._is_running = False
        # Whether anybody has subscribed to the stream, as far as was heard.
        self._has_subscribers = False

    async def start(self, hooks: PublisherHooks) -> None:
        """Bind both sockets and begin to send heartbeats.

        Args:
            hooks: Who is told of what the replicas say, from now on.

        Raises:
            StartError: An address can't be bound.
        """
        self._hooks = hooks
        replication = self._replication
        self._loop = asyncio.get_running_loop()
        self._sockets = Sockets(
            self._options.largest_streamed_bytes, self._keys, self._handshake_failed, self._was_cut
        )
        self._reader = Reader()
        timeout_ms = self._timeout_ns // NS_PER_MS
        try:
            self._stream: ListeningEndpoint = self._sockets.bind_stream(
                replication.replica_listen_address, timeout_ms, self._hear_subscription
            )
            self._sync: ListeningEndpoint = self._sockets.bind_sync(
                replication.sync_listen_address, timeout_ms, self._receive
            )
        except BaseException:
            self._sockets.close()
            self._reader.close()
            raise
        self._catch_up = CatchUpService(self._log.wal, self._reader, self._send_bulk, self._sync)
        if self._source is not None:
            self.snapshots = SnapshotService(
                self._log.wal, self._source, self._reader, self._send_bulk,
                wait_ms=min(replication.reconnect_delay_ms, _LONGEST_WAIT_MS),
                queues=self._sync,
            )  # fmt: skip
        self._master.serve(self._catch_up, self.snapshots)
        self._sockets.keep_doors()
        self._is_running = True
        self._beat_timer: asyncio.Handle = self._loop.call_soon(self._beat)
        logger.info(
            "publishing on %s, catch-up on %s", self._stream.address, self._sync.address,
            extra={"action": "publish", "offset": self._log.position.offset},
        )  # fmt: skip

    async def stop(self) -> None:
        """Close both sockets, where `start` had bound them; replicas notice by the silence."""
        if not self._is_running:
            return
        self._is_running = False
        self._beat_timer.cancel()
        self._reader.close()
        self._catch_up.close()
        if self.snapshots is not None:
            await self.snapshots.close()
        self._sockets.close()

    def publish(self, frame: Frame) -> None:
        """Send a committed frame to whoever listens; never waits.

        A frame that is larger than `replication.buffer_size_kb` is announced by a heartbeat
        instead, and fetched: so what is queued for a stalled replica is bounded in bytes.
        """
        message = self._master.streamed(frame, time.monotonic_ns(), self._clock_ms())
        # What subscribers say of themselves can be forged; a replica that said hello is known.
        if not (self._has_subscribers or self._master.replica_count):
            return
        if message is not None:
            bulk = frame.encoded if isinstance(message, Published) else None
            self._stream.send(encode(message, bulk))

    def relay(self, frames: Sequence[Frame]) -> None:
        """On a relay, publish what was appended, and answer those who waited for it."""
        for frame in frames:
            self.publish(frame)
        if self._relay is not None:
            self._relay.look_at_waiting()

    def beat(self) -> None:
        """Send a heartbeat now; the next one comes an interval later."""
        if self._is_running:
            self._beat_timer.cancel()
            self._beat()

    def replicas(self) -> tuple[ReplicaFacts, ...]:
        """Return every replica that was heard since the start, by name."""
        return tuple(map(facts_of, self._master.replicas(time.monotonic_ns())))

    def awaited(self) -> tuple[AwaitedFacts, ...]:
        """Return the replicas that this master waits for before it takes writes."""
        return tuple(AwaitedFacts(each.id, each.note) for each in self._master.awaited())

    def holder_count(self) -> int:
        """Return how many replicas are connected whose acks may count for a quorum."""
        return self._master.holder_count

    def knows_replica(self, name: str) -> bool:
        """Say whether a replica was heard since the start, or is waited for."""
        return self._master.knows_replica(name)

    def forget_replica(self, name: str) -> bool:
        """Forget a replica and wait for it no more; return False where it is connected."""
        return self._master.forget_replica(name)

    async def find(self, wanted: Sequence[Damage]) -> Found:
        """Return what replicas have of records, each asked for what those before it lack.

        Raises:
            VerifyFailed: none of them can be asked.
        """
        found: Found = {}
        why = "no replica is there to be asked"
        for peer in self._master.menders():
            left = [each for each in wanted if (each.space, each.key) not in found]
            if not left:
                break
            self._asking = RecordAsking(self.name, partial(self._recall, peer))
            try:
                found |= await self._asking.find(left)
            except VerifyFailed as error:
                why = error.message
            finally:
                self._asking = None
        if not found:
            raise VerifyFailed(why)
        return found

    def held_offset(self, replicas: int) -> int:
        """Return the last offset that `replicas` replicas, at least one, hold in their WALs."""
        return self._master.held_offset(replicas)

    def _restart(self, known: Collection[str]) -> Restart | None:
        log, replication = self._log, self._replication
        if not log.is_recovering:
            return None
        until_ns = time.monotonic_ns() + replication.restart_wait_secs * 1_000_000_000
        return Restart(log, known, replication.min_replicas_to_write, until_ns)

    def _end_restart(self) -> None:
        self._hooks.on_restart_over()
        # The replicas learn of the new reign, and say hello to it.
        self._send_heartbeat()

    def _is_known(self, name: str) -> bool:
        return self._hooks.is_known(name)

    def _beat(self) -> None:
        self._send_heartbeat()
        for name in self._master.expire(time.monotonic_ns())[:_SILENT_LINES]:
            logger.warning(
                "replica %s is silent", name, extra={"action": "disconnected", "replica": name}
            )
        interval = self._replication.heartbeat_interval_ms / 1000
        self._beat_timer = self._loop.call_later(interval, self._beat)

    def _send_heartbeat(self) -> None:
        message = self._master.heartbeat(self._clock_ms())
        if message is not None:
            self._stream.send(encode(message))

    def _hear_subscription(self, parts: list[bytes], address: str) -> None:
        # A new subscriber needs a heartbeat to begin, and need not wait for the next one.
        if parts[0] == _SUBSCRIBED:
            self._has_subscribers = True
            self._send_heartbeat()
        elif parts[0] == _UNSUBSCRIBED:
            # The last of those that get everything, as replicas do, is gone.
            self._has_subscribers = False
        elif not parts[0].startswith(_UNSUBSCRIBED):
            self._complain(ProtocolViolation("no subscription to the whole stream"), address)
            self._stream.drop_sender()

    def _receive(self, parts: list[bytes], address: str) -> None:
        peer = parts[0]
        try:
            request, _ = messages.requests.decode(parts[1:])
        except ProtocolViolation as error:
            self._complain(error, address)
            self._sync.drop_sender()
            return
        try:
            self._master.receive(peer, address, request, time.monotonic_ns(), _wall_ms())
        except (LogError, StoreError) as error:
            self._hooks.on_failure(error)

    def _look_up(self, peer: bytes, address: str, hello: Hello) -> None:
        """Look up, in the reader's thread, what the answer to a hello needs."""
        wal = self._log.wal

        def position_there() -> Position | None:
            try:
                return wal.position_at(hello.position.offset)
            except OffsetNotRetained:
                return None
            except WalCorrupt as error:
                # The log begins after it from now on, which is what the answer goes by.
                tell_of_damage(error)
                return None

        def deliver(found: asyncio.Future[Position | None]) -> None:
            if found.cancelled() or not self._is_running:
                return
            if found.exception() is not None:
                if self._lines.allows(address, time.monotonic_ns()):
                    logger.error("a hello can't be answered: %s", found.exception())
                self._master.give_up(peer, str(found.exception()))
                return
            answer = self._master.welcome(
                peer, address, hello, wal.first_offset, found.result(),
                time.monotonic_ns(), _wall_ms(),
            )  # fmt: skip
            if answer is None:
                if self._lines.allows(address, time.monotonic_ns()):
                    self._tell_of_no_answer(hello, address)
                return
            if not isinstance(answer, Diverged):
                self._note_replica(hello, address)
            self._warn_of_twins(hello.replica, address)
            if self._lines.allows(address, time.monotonic_ns()):
                tell_answer(hello, address, answer)

        self._reader.read(position_there, deliver)

    def _tell_of_no_answer(self, hello: Hello, address: str) -> None:
        if self._relay is not None and self._relay.is_waiting(hello.replica):
            why, action = "holds what this relay has not got yet, and waits for it", "ahead"
        elif hello.position.offset > self._log.position.offset:
            why = f"holds entries up to offset {hello.position.offset}, which this log lost"
            action = "recall"
        else:
            why = "has to wait: as many replicas are here as may be"
            action = "crowded"
        logger.warning(
            "replica %s at %s %s", hello.replica, address, why,
            extra={"action": action, "replica": hello.replica},
        )  # fmt: skip

    def _warn_of_twins(self, name: str, address: str) -> None:
        now_ns = time.monotonic_ns()
        note = self._master.twin_note(name, now_ns)
        if note and now_ns - self._warned_ns >= _COMPLAIN_EVERY_NS:
            self._warned_ns = now_ns
            logger.warning(
                "replica %s at %s: %s", name, address, note,
                extra={"action": "same_node_id", "replica": name},
            )  # fmt: skip

    def _note_replica(self, hello: Hello, address: str) -> None:
        if not hello.votes:
            # A restart need not ask it, nor a rival know it: it follows relays.
            return
        if not hello.sync_address:
            self._hooks.on_replica(hello.replica, "", self._master.seats())
            return
        try:
            reachable = reachable_address(hello.sync_address, address)
        except ValueError:
            self._complain(ProtocolViolation("a sync address that is not host:port"), address)
            return
        self._hooks.on_replica(hello.replica, reachable, self._master.seats())
        # Have all replicas know where each other would be as a master.
        peers = sorted(set(self._hooks.addresses()))
        self._master.tell_peers(tuple(peers[: messages.MAX_PEERS]))

    def _recall(self, peer: bytes, damage: Damage, at_byte: int) -> int | None:
        if not self._is_running:
            return None
        return self._master.recall_record(peer, damage.space, damage.key, at_byte)

    def _hear_loan(self, loan: RecordLoan) -> None:
        if self._asking is not None:
            self._asking.hear(loan)

    def _hear_ack(self) -> None:
        self._hooks.on_ack()

    def _hear_higher_epoch(self, epoch: int) -> None:
        self._hooks.on_higher_epoch(epoch)

    def _send(self, peer: bytes, message: Answer) -> bool:
        peers = max(len(self._catch_up), self._master.replica_count)
        if self._sync.queued_bytes(peer) >= share_bytes(peers) + _UNREAD_ANSWERS_BYTES:
            # It asks and asks, and reads no answer.
            return False
        return self._sync.send([peer, *encode(message)])

    def _send_bulk(self, peer: bytes, message: Answer, bulk: bytes | None) -> bool:
        return self._sync.send([peer, *encode(message, bulk)])

    def _was_cut(self, why: str) -> None:
        self._complain(ProtocolViolation(f"a peer was cut off: {why}"), "")

    def _handshake_failed(self, failed: FailedHandshake) -> None:
        self._handshakes.note(failed)
        self._count(FAILED_HANDSHAKES)

    def _complain(self, violation: ProtocolViolation, address: str) -> None:
        self.violations += 1
        self._count(VIOLATIONS)
        now_ns = time.monotonic_ns()
        if now_ns - self._complained_ns >= _COMPLAIN_EVERY_NS:
            self._complained_ns = now_ns
            logger.warning(
                "a violation by %s: %s", address or "somebody", violation,
                extra={"action": "violation", "violations": self.violations},
            )  # fmt: skip


def _wall_ms() -> int:
    return time.time_ns() // NS_PER_MS
