"""The master's side of the links, as a state machine without sockets, threads or a clock.

`publisher` hands it what arrives and the time, and brings the sockets, the log's reader and the
transfers, all by interfaces, so that a simulation can run the same rules over a fake network and
fake disks. `follower` is the other side.

Source: docs/protocol.md, "The master", "Hello, and what it leads to", "Acks", "Quorum", "Reigns".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from synap.errors import ProtocolViolation
from synap.frame import VERSION, Frame
from synap.position import Lineage, Position
from synap.replication.rules import messages
from synap.replication.rules.crowd import Seat
from synap.replication.rules.lag import OffsetClock
from synap.replication.rules.messages import (
    DIVERGED,
    HELLO_WANTED,
    MAX_REIGNS,
    NEEDS_FULL_RESYNC,
    AboutMaster,
    Ack,
    Answer,
    Credit,
    Digest,
    Fetch,
    FetchDigest,
    FetchRecord,
    FetchSnapshot,
    Heartbeat,
    Hello,
    Inquiry,
    Loan,
    Published,
    RecallRecord,
    RecordLoan,
    Refusal,
    Request,
    Welcome,
)
from synap.replication.rules.plan import Diverged, FullResync, MasterFacts, Plan, decide
from synap.replication.rules.progress import LinkState
from synap.replication.rules.record_copies import Records, piece_of
from synap.replication.rules.reigns import epoch_above
from synap.replication.rules.restart import Awaited, Guest, Restart
from synap.replication.rules.roster import ReplicaProgress, Roster

# States of a replica whose offset is one of another log.
_ELSEWHERE = (LinkState.DIVERGED, LinkState.SYNCING)


def _let_pass(loan: RecordLoan) -> None:
    """Nobody asked for it."""


def _nothing_told() -> AboutMaster:
    return AboutMaster()


class MasterLog(Protocol):
    """What a master's rules need of its log."""

    @property
    def position(self) -> Position:
        """The end of the log."""

    @property
    def lineage(self) -> Lineage:
        """The reigns of the log, at least one."""


class MasterOptions(msgspec.Struct, frozen=True):
    """How a master serves.

    Attributes:
        name: Its `server.node_id`.
        url: Where clients reach it; may be empty.
        heartbeat_interval_ms: Time between two heartbeats.
        timeout_ns: Silence after which a replica is forgotten.
        max_lag_ms: Lag from which it counts as lagging.
        largest_streamed_bytes: A larger frame is announced instead, and fetched.
    """

    name: str
    url: str
    heartbeat_interval_ms: int
    timeout_ns: int
    max_lag_ms: int
    largest_streamed_bytes: int


class CatchUps(Protocol):
    """The transfers of frames. `synap.replication.publishing.catch_up.CatchUpService` is one."""

    def fetch(self, peer: bytes, fetch: Fetch, now_ns: int) -> None:
        """Begin a transfer."""

    def credit(self, peer: bytes, credit: Credit) -> None:
        """Let one send more."""

    def drop(self, peer: bytes) -> None:
        """End that of a connection."""

    def expire(self, now_ns: int, timeout_ns: int) -> None:
        """End those without credit."""


class SnapshotTransfers(Protocol):
    """The same for snapshots.

    `synap.replication.publishing.snapshot_service.SnapshotService` is one.
    """

    def fetch(self, peer: bytes, address: str, fetch: FetchSnapshot, now_ns: int) -> None:
        """Begin a transfer, or tell the replica when to ask again.

        Args:
            peer: The connection.
            address: Where it comes from.
            fetch: What it wants.
            now_ns: Monotonic clock.
        """

    def credit(self, peer: bytes, credit: Credit) -> None:
        """Let one send more."""

    def drop(self, peer: bytes) -> None:
        """End that of a connection."""

    def expire(self, now_ns: int, timeout_ns: int) -> None:
        """End those without credit."""


@dataclass(frozen=True, slots=True)
class MasterHooks:
    """What a master's rules have done for them. Nothing here may block.

    Attributes:
        send: Sends to a connection; False where that failed.
        look_up: Finds the log's position at a replica's offset, then calls `welcome` or `give_up`;
            gets the connection, its address and the hello.
        complain: Counts a message that was none; gets the address that it came from.
        on_ack: Looks at `held_offset`, which may have changed.
        on_higher_epoch: Sees to it that no write is taken: the epoch ends this master's reign.
        on_restart_over: Begins the next reign: those that must be heard were, and lent what they
            hold.
        is_known: Whether a replica's name is durably among those that a restart asks.
        on_loan: Takes what a replica has of a record.
        records: The live store; None where replicas get nothing of it.
        about: Tells what heartbeats say of this master to people.
    """

    send: Callable[[bytes, Answer], bool]
    look_up: Callable[[bytes, str, Hello], None]
    complain: Callable[[ProtocolViolation, str], None]
    on_ack: Callable[[], None]
    on_higher_epoch: Callable[[int], None]
    on_restart_over: Callable[[], None]
    is_known: Callable[[str], bool]
    on_loan: Callable[[RecordLoan], None] = _let_pass
    records: Records | None = None
    about: Callable[[], AboutMaster] = _nothing_told


class Master:
    """Serves any number of replicas, each by the connection that it spoke on last."""

    _catch_up: CatchUps
    _snapshots: SnapshotTransfers | None

    def __init__(
        self,
        log: MasterLog,
        options: MasterOptions,
        hooks: MasterHooks,
        restart: Restart | None = None,
    ) -> None:
        """
        Args:
            log: The master's log.
            options: How to serve.
            hooks: Carries out what the rules want.
            restart: Asks the replicas first; None where the log has lost nothing.
        """
        self._log = log
        self._options = options
        self._hooks = hooks
        self._roster = Roster(timeout_ns=options.timeout_ns, max_lag_ms=options.max_lag_ms)
        self._clock = OffsetClock()
        # Whose hello is being looked up.
        self._greeting: set[bytes] = set()
        self._restart = restart
        self._last_recall = 0
        self._peers: tuple[str, ...] = ()

    def tell_peers(self, peers: tuple[str, ...]) -> None:
        """Tell every replica where it would find the others if they were masters too."""
        if peers == self._peers:
            return
        self._peers = peers
        for peer in self._roster.welcome_peers():
            self._hooks.send(peer, self._welcome_message())

    def serve(self, catch_up: CatchUps, snapshots: SnapshotTransfers | None) -> None:
        """Take who sends frames and snapshots, before the first request; None for no snapshots."""
        self._catch_up = catch_up
        self._snapshots = snapshots

    def streamed(self, frame: Frame, now_ns: int, wall_ms: int) -> Published | Heartbeat | None:
        """Return what goes into the stream for a committed frame, with the frame or without."""
        self._clock.note(frame.last_offset, now_ns)
        if len(frame.encoded) > self._options.largest_streamed_bytes:
            return self.heartbeat(wall_ms)
        return Published(self._log.lineage[-1].history)

    def heartbeat(self, wall_ms: int) -> Heartbeat | None:
        """Return what the master tells of itself; None on a relay that has nothing to tell."""
        reign = self._log.lineage[-1]
        return Heartbeat(
            reign.history, reign.epoch, self._log.position.offset, wall_ms,
            self._options.heartbeat_interval_ms,
            self._roster.held_offsets(messages.MAX_PEERS, self._log.lineage, self._hooks.is_known),
            about=self._hooks.about(),
        )  # fmt: skip

    def awaited(self) -> tuple[Awaited, ...]:
        """Return whom this master waits for before it takes writes."""
        return self._restart.awaited() if self._restart is not None else ()

    def knows_replica(self, name: str) -> bool:
        """Say whether a replica is shown, or is waited for."""
        return name in self._roster or any(each.id == name for each in self.awaited())

    def forget_replica(self, name: str) -> bool:
        """Forget a replica and wait for it no more; return False where it is connected."""
        if self._restart is not None and not self._restart.forget(name):
            return False
        return self._roster.forget(name)

    def expire(self, now_ns: int) -> list[str]:
        """Forget who is silent, and end transfers without credit; return the replicas' names."""
        self._look_at_restart(now_ns)
        timeout_ns = self._options.timeout_ns
        silent = self._roster.expire(now_ns)
        for peer, _ in silent:
            self._drop(peer)
        self._catch_up.expire(now_ns, timeout_ns)
        if self._snapshots is not None:
            self._snapshots.expire(now_ns, timeout_ns)
        return [name for _, name in silent]

    def expect(self, addresses: Mapping[str, str], now_ns: int, wall_ms: int) -> None:
        """Show the replicas of the time before the start; see `Roster.expect`."""
        self._roster.expect(addresses, now_ns, wall_ms)

    def replicas(self, now_ns: int) -> tuple[ReplicaProgress, ...]:
        """Return every replica that was heard since the start, or is expected, by name."""
        return self._roster.progress(self._log.position.offset, self._clock, now_ns)

    def seats(self) -> dict[str, Seat]:
        """Return who is behind each name of a replica."""
        return self._roster.seats()

    @property
    def replica_count(self) -> int:
        """Replicas that are connected, as far as is known."""
        return len(self._roster)

    @property
    def holder_count(self) -> int:
        """Replicas that are connected and whose acks may count for a quorum."""
        return self._roster.holders()

    def twin_note(self, name: str, now_ns: int) -> str:
        """Return what is wrong where two replicas seem to have one name; empty for nothing."""
        return self._roster.twin_note(name, now_ns)

    def held_offset(self, replicas: int) -> int:
        """Return the last offset that `replicas` replicas, at least one, hold in their WALs."""
        return self._roster.held_offset(replicas, self._log.lineage, self._hooks.is_known)

    def receive(
        self, peer: bytes, address: str, request: Request, now_ns: int, wall_ms: int
    ) -> None:
        """Take a request of a connection.

        Args:
            peer: The connection.
            address: Where it comes from.
            request: What it wants.
            now_ns: Monotonic clock.
            wall_ms: Wall clock.
        """
        if isinstance(request, Hello):
            self._take_hello(peer, address, request)
        elif isinstance(request, Inquiry):
            self._hooks.send(peer, self._welcome_message())
        elif isinstance(request, Loan):
            self._take_loan(peer, address, request, now_ns)
        elif not self._roster.knows(peer):
            if not self._is_guest(peer):
                self._hooks.send(peer, Refusal(HELLO_WANTED, "say hello first"))
        elif isinstance(request, FetchRecord):
            self._give_record(peer, request)
        elif isinstance(request, FetchDigest):
            self._give_digest(peer, request)
        elif isinstance(request, RecordLoan):
            self._hooks.on_loan(request)
        elif isinstance(request, Fetch):
            # It has what it was sent, and reads on from there.
            self._drop(peer)
            self._catch_up.fetch(peer, request, now_ns)
        elif isinstance(request, FetchSnapshot):
            self._fetch_snapshot(peer, address, request, now_ns)
        elif isinstance(request, Credit):
            self._catch_up.credit(peer, request)
            if self._snapshots is not None:
                self._snapshots.credit(peer, request)
        else:
            self._take_ack(peer, request, address, now_ns, wall_ms)

    def menders(self) -> list[bytes]:
        """Return the connections that can be asked by `recall_record`, the best one first."""
        return self._roster.menders()

    def recall_record(self, peer: bytes, space: int, key: bytes, at_byte: int) -> int | None:
        """Ask a replica for a record, from a byte on; return the number of the request.

        None where it can't be asked any more.
        """
        if not self._roster.knows(peer):
            return None
        self._last_recall += 1
        is_sent = self._hooks.send(peer, RecallRecord(self._last_recall, space, key, at_byte))
        return self._last_recall if is_sent else None

    def welcome(
        self,
        peer: bytes,
        address: str,
        hello: Hello,
        first_offset: int,
        at_replica: Position | None,
        now_ns: int,
        wall_ms: int,
    ) -> Plan | None:
        """Answer a hello; return what the replica gets.

        None stands for nothing: it is asked to lend first, or there is no room for its name.

        Args:
            first_offset: The oldest offset that the log still holds.
            at_replica: The log's position at the replica's offset, None where there is none.
            now_ns: Monotonic clock.
            wall_ms: Wall clock.
        """
        self._greeting.discard(peer)
        log = self._log
        if self._restart is not None and self._restart.is_ahead(hello):
            self._borrow(self._restart, Guest(peer, address, hello), now_ns)
            return None
        if not self._roster.admits(hello.replica, address, now_ns):
            self._hooks.send(peer, Refusal(messages.BUSY, "as many replicas are here as may be"))
            return None
        facts = MasterFacts(log.lineage, log.position, first_offset, at_replica)
        answer = decide(hello.position, hello.lineage, facts)
        replaced = self._roster.greet(peer, address, hello, answer, now_ns, wall_ms)
        if replaced is not None:
            self._drop(replaced)
        self._hooks.send(peer, self._message_of(answer))
        if self._restart is not None:
            self._restart.hear(hello.replica)
            self._look_at_restart(now_ns)
        return answer

    def give_up(self, peer: bytes, why: str) -> None:
        """Have the replica come back later: its hello can't be looked up."""
        self._greeting.discard(peer)
        self._hooks.send(peer, Refusal(messages.BUSY, why))

    def _borrow(self, restart: Restart, guest: Guest, now_ns: int) -> None:
        recall = restart.borrow(guest, now_ns)
        if recall is not None:
            self._hooks.send(guest.peer, recall)
        elif not guest.hello.lends:
            refusal = Refusal(messages.BUSY, "this master lacks what the replica holds, and waits")
            self._hooks.send(guest.peer, refusal)

    def _take_loan(self, peer: bytes, address: str, loan: Loan, now_ns: int) -> None:
        restart = self._restart
        if restart is None:
            return
        try:
            recall = restart.take(peer, loan, now_ns)
        except ProtocolViolation as violation:
            self._hooks.complain(violation, address)
            recall = None
        if recall is not None:
            self._hooks.send(peer, recall)
        elif (lender := restart.finish_loan()) is not None:
            self._greet_anew(lender)
        elif restart.lender() is None:
            refusal = Refusal(messages.BUSY, "this master can't use what the replica gives back")
            self._hooks.send(peer, refusal)
        self._look_at_restart(now_ns)

    def _greet_anew(self, guest: Guest) -> None:
        self._greeting.add(guest.peer)
        self._hooks.look_up(guest.peer, guest.address, guest.hello)

    def _is_guest(self, peer: bytes) -> bool:
        """Say whether a connection's hello is being answered, however long that takes."""
        lender = self._restart.lender() if self._restart is not None else None
        return peer in self._greeting or (lender is not None and lender.peer == peer)

    def _look_at_restart(self, now_ns: int) -> None:
        restart = self._restart
        if restart is None:
            return
        guest = restart.next_guest()
        if guest is not None:
            self._greet_anew(guest)
            return
        restart.tick(now_ns)
        # A hello that is being looked up may be that of somebody who is ahead.
        if restart.is_over and not self._greeting:
            self._restart = None
            self._hooks.on_restart_over()

    def _take_hello(self, peer: bytes, address: str, hello: Hello) -> None:
        if peer in self._greeting:
            return
        self._hear_epoch(hello)
        if hello.is_master:
            url = self._options.url
            self._hooks.send(peer, Refusal(DIVERGED, "this node has heard of the reign", url=url))
            return
        if hello.format < VERSION:
            self._hooks.send(peer, Refusal(messages.NEEDS_UPGRADE, _needs_upgrade(hello.format)))
            return
        self._greeting.add(peer)
        self._hooks.look_up(peer, address, hello)

    def _hear_epoch(self, hello: Hello) -> None:
        epoch = epoch_above(hello.lineage, self._log.lineage, from_master=hello.is_master)
        if epoch:
            self._hooks.on_higher_epoch(epoch)

    def _give_record(self, peer: bytes, wanted: FetchRecord) -> None:
        records = self._hooks.records
        if records is None:
            return
        if wanted.is_doubted:
            records.doubt(wanted.space, wanted.key)
        self._hooks.send(peer, piece_of(wanted, records.look(wanted.space, wanted.key)))

    def _give_digest(self, peer: bytes, wanted: FetchDigest) -> None:
        records = self._hooks.records
        if records is not None:
            summed = records.summed(wanted.space, wanted.after, wanted.until, wanted.limit)
            answer = Digest(wanted.request, summed.offset, summed.records, summed.sum, summed.last)
            self._hooks.send(peer, answer)

    def _fetch_snapshot(self, peer: bytes, address: str, fetch: FetchSnapshot, now_ns: int) -> None:
        self._catch_up.drop(peer)
        if self._snapshots is None:
            refusal = Refusal(messages.BUSY, "there are no snapshots here", fetch.request)
            self._hooks.send(peer, refusal)
        else:
            self._snapshots.fetch(peer, address, fetch, now_ns)

    def _drop(self, peer: bytes) -> None:
        self._catch_up.drop(peer)
        if self._snapshots is not None:
            self._snapshots.drop(peer)

    def _take_ack(self, peer: bytes, ack: Ack, address: str, now_ns: int, wall_ms: int) -> None:
        if ack.offset > self._log.position.offset and ack.state not in _ELSEWHERE:
            self._hooks.complain(ProtocolViolation(f"an ack of offset {ack.offset}"), address)
            self._hooks.send(peer, Refusal(HELLO_WANTED, "the ack is ahead of this log"))
            return
        if self._roster.acknowledge(peer, ack, now_ns, wall_ms):
            self._hooks.on_ack()

    def _message_of(self, answer: Plan) -> Answer:
        if isinstance(answer, FullResync):
            return self._refusal(NEEDS_FULL_RESYNC, answer.reason, 0)
        if isinstance(answer, Diverged):
            return self._refusal(DIVERGED, answer.reason, answer.common_offset)
        return self._welcome_message()

    def _welcome_message(self) -> Welcome:
        lineage = self._log.lineage[-MAX_REIGNS:]
        mends = self._hooks.records is not None
        return Welcome(
            self._options.name, self._log.position, lineage, self._options.url, self._peers, mends
        )

    def _refusal(self, reason: str, detail: str, common_offset: int) -> Refusal:
        """Return a refusal that tells the replica all that it decides by."""
        log = self._log
        return Refusal(
            reason, detail, common_offset=common_offset, url=self._options.url,
            lineage=log.lineage[-MAX_REIGNS:], position=log.position,
        )  # fmt: skip


def _needs_upgrade(known: int) -> str:
    return (
        f"this node writes version {VERSION} of the log's format and the replica reads {known}: "
        "install the version of this node there; what the replica holds stays"
    )
