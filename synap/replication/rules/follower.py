"""The replica's side of a link, as a state machine without sockets, threads or a clock.

`subscriber` hands it what arrives and how late it is, sends what lies in `outbox`, and drops the
link when a method raises `LinkLost` or `ProtocolViolation`. The log comes in by an interface, so
that a simulation can drive many followers over a fake network and fake disks.

Joining without a gap: a first heartbeat shows that the subscription is live; then comes the hello;
frames of the stream are kept meanwhile; the welcome is followed by a fetch up to the first frame
kept; what the offset shows as seen is dropped.

A refusal that a snapshot mends begins a full resync (`resync`), with the disk's work in `jobs`.

Source: docs/protocol.md, "The replica's states"; after the ZeroMQ guide's Clone pattern.
"""

from __future__ import annotations

from synap.errors import (
    FrameCorrupt,
    LinkLost,
    NothingToAccept,
    OffsetGap,
    ProtocolViolation,
    StaleEpoch,
    UpstreamOrphaned,
)
from synap.frame import VERSION, Frame
from synap.position import NO_HISTORY, START, Lineage, Position
from synap.replication.rules import messages, plan
from synap.replication.rules.ancestry import Ancestry, Way
from synap.replication.rules.follower_io import FollowerOptions, FollowerStatus, ReplicaLog
from synap.replication.rules.follower_stage import Stage, Transfer
from synap.replication.rules.lag import Lag, lag_ms
from synap.replication.rules.master_clock import MasterClock
from synap.replication.rules.messages import (
    AboutMaster,
    Ack,
    Answer,
    Chunk,
    Credit,
    Digest,
    Fetch,
    FetchDigest,
    FetchRecord,
    Heartbeat,
    Hello,
    Loan,
    Published,
    Recall,
    RecallRecord,
    RecordPiece,
    Refusal,
    Request,
    SnapshotChunk,
    SnapshotOffer,
    Streamed,
    Welcome,
    read_frames,
)
from synap.replication.rules.progress import NS_PER_MS, LinkState, StreamBuffer, is_silent
from synap.replication.rules.record_copies import Records, loan_of
from synap.replication.rules.reigns import asked_epoch, is_sealed
from synap.replication.rules.resync import CREDIT, Install, Job, Resync

# Frames of the stream that wait for a catch-up. Beyond it they are fetched again.
STREAM_BUFFER_BYTES = 32 * 1024 * 1024
# One append: bounds how long the disk keeps the loop from the sockets.
APPEND_BYTES = 4 * 1024 * 1024
# Frames lent at a time, or one that is larger.
LOAN_BYTES = 1024 * 1024
# An answer may wait for the master's disk, so its deadline does not shrink with the heartbeat.
_LEAST_ANSWER_NS = 2_000_000_000

_REFUSED_STATES = {
    messages.DIVERGED: LinkState.DIVERGED,
    messages.NEEDS_FULL_RESYNC: LinkState.SYNCING,
}


# Stages in which a hello was answered, but in GREETED: that one's answer is still to come.
_GREETS_AGAIN = (Stage.JOINED, Stage.REFUSED, Stage.SYNCING, Stage.LENDING)


class Follower:
    """Follows one master over any number of links, one at a time.

    Attributes:
        outbox: Requests to send, oldest first; the caller takes them out.
        jobs: What the disk must do for a full resync, oldest first; the caller takes them out and
            tells `done` what became of each.
        peers: Where the master's other replicas would be as masters, this one too; as told last.
        pieces: What the master answered to `ask_record` and `ask_digest`; the caller takes it out.
        beats: Heartbeats heard, and welcomes; a relay sends one of its own for each.
        gaps: Times that the stream showed a hole; the caller counts them, and sets it back.
        snapshot_ms: When this node's newest snapshot was taken, for acks; the caller sets it.
    """

    def __init__(
        self,
        log: ReplicaLog,
        options: FollowerOptions,
        applied_time_ms: int,
        fresh_ns: int = 0,
        records: Records | None = None,
    ) -> None:
        """
        Args:
            log: This node's log; the follower alone appends to it.
            options: How to follow.
            applied_time_ms: The master's wall clock at the log's last frame; 0 on an empty log.
            fresh_ns: When this log last had all that its master had, as far as an earlier follower
                knew; 0 where nobody knows.
            records: The live store; None where the master gets nothing of it.
        """
        self.outbox: list[Request] = []
        self.pieces: list[RecordPiece | Digest] = []
        self.gaps = 0
        self.beats = 0
        self.peers: tuple[str, ...] = ()
        self.snapshot_ms = 0
        self._records = records
        self._master_mends = False
        self._log = log
        self._options = options

        # The link. `_stage` is set by the transitions alone; see `Stage`.
        self._stage = Stage.DOWN
        # Why the last link was given up; empty once the master is heard on the next.
        self._loss = ""
        # When this link began; the master was last heard, on whatever link; the last hello was
        # said. Each is 0 for never; `_began_ns <= _greeted_ns` in GREETED, REFUSED and JOINED.
        self._began_ns = self._contact_ns = self._greeted_ns = 0
        # When a master that serves this log was last heard, over restarts too; 0 for unknown.
        self._fresh_ns = fresh_ns
        # Time between two heartbeats: the longer one of the master's and this node's own.
        self._interval_ns = options.heartbeat_interval_ms * NS_PER_MS

        # The master, as it was heard last.
        self._history = NO_HISTORY
        self._epoch = 0
        self._master_url = ""
        # What replicas hold of this log, as it told last; empty while that is not known.
        self._held: tuple[int, ...] | None = ()
        # Its name, and by whom it is heard. Kept over links, for those that follow this node; empty
        # until this node was welcome somewhere.
        self._master = ""
        self._about = AboutMaster()
        self._way = Way(options.replica, options.patience_ms * NS_PER_MS)
        # Whether a relay may be without a master for as long as it likes.
        self._is_patient = not options.patience_ms
        # Why it does not serve this log. Kept over links and in GREETED, until it says otherwise:
        # set in REFUSED, empty in JOINED.
        self._refusal = Refusal("")
        # The newest reign of the master that the operator accepted; empty for none.
        self._accepted: Lineage = ()

        # Joining and following. Frames wait in the buffer in LISTENING, GREETED and JOINED only,
        # and all are of `_history`.
        self._buffer = StreamBuffer(STREAM_BUFFER_BYTES)
        # None but in JOINED; one fetch at a time.
        self._transfer: Transfer | None = None
        # Where the master's log ended when it said welcome, and whether this one ever got there
        # since: false but in JOINED.
        self._target_offset = 0
        self._is_level = False
        # LENDING: when the master asked last, and the frames after the position that it named.
        self._lent_ns = 0
        self._lent: tuple[Position, bytes] = (START, b"")
        # The last offset that was told on this link; -1 for none.
        self._acked_offset = -1
        self._lag = Lag(applied_time_ms)
        self._clock = MasterClock()

        # Numbers of transfers, which count up over links: a late answer is told from a new one.
        self._last_request = 0
        # Idle but in SYNCING; an installation goes on without a link, and leads back there.
        self._resync = Resync(self.outbox, self._next_request, options.rejoin_ms)
        self.jobs: list[Job] = self._resync.jobs

    def connect(self, now_ns: int) -> None:
        """Begin on a new link: whatever was under way on the one before is forgotten."""
        self._become_listening(now_ns)

    def disconnect(self, reason: str) -> None:
        """Give the link up; `reason` says why."""
        self._become_down(reason)

    def hear(self, message: Streamed, bulk: bytes, now_ns: int) -> None:
        """Take a message of the stream.

        Raises:
            ProtocolViolation: Its frame is damaged.
        """
        if isinstance(message, Heartbeat):
            self._hear_heartbeat(message, now_ns)
        else:
            self._hear_frame(message, bulk, now_ns)

    def receive(self, message: Answer, bulk: bytes, now_ns: int) -> None:
        """Take a message of the sync channel.

        Raises:
            ProtocolViolation: Its frames are damaged or do not follow this log.
            DiskFull, MemoryLimit, WalFailed: The log could not take its frames.
        """
        if isinstance(message, Chunk):
            self._receive_chunk(message, bulk, now_ns)
        elif isinstance(message, SnapshotOffer):
            self._note_contact(now_ns)
            self._resync.take_offer(message, now_ns)
        elif isinstance(message, SnapshotChunk):
            self._note_contact(now_ns)
            self._resync.take_chunk(message, bulk, now_ns)
        elif isinstance(message, Welcome):
            self._receive_welcome(message, now_ns)
        elif isinstance(message, Recall):
            self._lend(message, now_ns)
        elif isinstance(message, RecordPiece | Digest):
            self._contact_ns = now_ns
            self.pieces.append(message)
        elif isinstance(message, RecallRecord):
            self._contact_ns = now_ns
            self._lend_record(message)
        else:
            self._receive_refusal(message, now_ns)

    def settle(self, now_ns: int) -> bool:
        """Append what the stream brought, fetch what is missing, acknowledge.

        Call it when everything at hand was handed over.

        Returns:
            Whether more can be appended at once.

        Raises:
            ProtocolViolation: Frames of the stream do not follow this log.
            DiskFull, MemoryLimit, WalFailed: The log could not take them.
        """
        if self._stage is not Stage.JOINED:
            return False
        frames = self._buffer.take(self._log.position.offset, APPEND_BYTES)
        if frames:
            self._append(frames, now_ns)
        offset = self._log.position.offset
        missing = self._buffer.missing(offset, self._lag.master_offset)
        if self._transfer is None and missing is not None:
            self._fetch(missing.until_offset, now_ns)
        if offset != self._acked_offset:
            self._acknowledge(now_ns)
        return bool(frames) and missing is None and offset < self._lag.master_offset

    def done(self, job: Job, is_good: bool, now_ns: int) -> None:
        """Learn what became of a job; where it put a snapshot in place, the log is another one."""
        is_installed = self._resync.done(job, is_good, now_ns)
        if not is_installed:
            return
        assert isinstance(job, Install)
        self._accepted = ()
        self._refusal = Refusal("")
        self._held = ()
        self._lag.apply(job.offer.position.offset, job.offer.time_ms)
        if self._stage is Stage.SYNCING:
            self._say_hello(now_ns)

    def accept(self, now_ns: int) -> None:
        """Take the operator's word that the master's data may replace this replica's.

        Raises:
            NothingToAccept: The replica is not `diverged`, or does not hear its master.
        """
        is_diverged = self._refusal.reason == messages.DIVERGED
        # It asks again every now and then, and is no less diverged until the answer is here.
        is_refused = self._stage in (Stage.REFUSED, Stage.GREETED)
        if not is_refused or not is_diverged or not self._options.can_resync:
            raise NothingToAccept
        self._accepted = self._refusal.lineage[-1:]
        if self._stage is Stage.REFUSED:
            self._say_hello(now_ns)

    def be_patient(self) -> None:
        """Stay with a relay that has no master: no other one has. Ends when one is heard of."""
        self._is_patient = True

    def seal(self) -> None:
        """Acknowledge nothing more to a master that the log's seal, which is new, has ended."""
        if self._stage is Stage.DOWN or not self._is_sealed():
            return
        self._become_sealed()

    def ask_digest(self, space: int, after: bytes, until: bytes, limit: int) -> int | None:
        """Ask the master for the sum over a range; return as `ask_record` does."""
        if self._stage is not Stage.JOINED or not self._master_mends:
            return None
        request = self._next_request()
        self.outbox.append(FetchDigest(request, space, after, until, limit))
        return request

    def ask_record(
        self, space: int, key: bytes, at_byte: int, *, is_doubted: bool = False
    ) -> int | None:
        """Ask the master for a record, from a byte on; return the request's number.

        None where it can't be asked now: this log is not known to be a beginning of its log.
        """
        if self._stage is not Stage.JOINED or not self._master_mends:
            return None
        request = self._next_request()
        self.outbox.append(FetchRecord(request, space, key, at_byte, is_doubted))
        return request

    def renew(self, why: str, now_ns: int) -> bool:
        """Take the master's snapshot although frames would do: what this node has is damaged.

        Returns:
            Whether that is under way.
        """
        if self._stage is Stage.SYNCING:
            return True
        if self._stage is not Stage.JOINED or not self._options.can_resync:
            return False
        self._refusal = Refusal(messages.NEEDS_FULL_RESYNC, why, url=self._master_url)
        self._become_syncing()
        log = self._log
        self._resync.begin(log.lineage, plan.Replace(), log.position.offset, now_ns)
        return True

    def tick(self, now_ns: int) -> None:
        """Look at the clock; call it several times a heartbeat, with nothing left unread.

        Raises:
            LinkLost: The master was silent for too long, or owes an answer.
        """
        if self._is_silent(now_ns):
            heard_ns = max(self._contact_ns, self._began_ns)
            raise LinkLost(f"heard nothing for {(now_ns - heard_ns) // NS_PER_MS} ms")
        answer_ns = max(3 * self._interval_ns, _LEAST_ANSWER_NS)
        if self._stage is Stage.GREETED and now_ns - self._greeted_ns > answer_ns:
            raise LinkLost("the sync address does not answer the hello")
        if self._stage is Stage.LENDING and now_ns - self._lent_ns > answer_ns:
            raise LinkLost("the master no longer asks for what it lost")
        if self._transfer is not None and now_ns - self._transfer.moved_ns > answer_ns:
            raise LinkLost("the catch-up makes no progress")
        if self._stage is Stage.SYNCING:
            self._resync.tick(now_ns, answer_ns)
        self._look_above(now_ns)
        rejoin_ns = self._options.rejoin_ms * NS_PER_MS
        if self._stage is Stage.REFUSED and now_ns - self._greeted_ns > rejoin_ns:
            self._say_hello(now_ns)

    def status(self, now_ns: int) -> FollowerStatus:
        """Return how the link stands."""
        lineage = self._log.lineage
        state = self._state(now_ns)
        detail = self._refusal.detail
        if self._stage is Stage.LENDING:
            detail = "the master has lost the end of its log and gets it back from this replica"
        return FollowerStatus(
            state=state,
            reason=self._refusal.reason,
            note=detail or (self._loss if state is LinkState.DISCONNECTED else ""),
            position=self._log.position,
            master_offset=self._lag.known_offset,
            history=lineage[-1].history if lineage else NO_HISTORY,
            epoch=lineage[-1].epoch if lineage else 0,
            master_url=self._master_url,
            lag_since_ns=self._lag.since_ns(self._log.position.offset),
            last_contact_ns=self._contact_ns,
            fresh_ns=self._fresh_ns,
            synced_ns=self._lag.synced_ns,
            heartbeat_ns=self._interval_ns,
            has_synced=self._log.has_synced,
            clock_offset_ns=self._clock.offset_ns,
            held=self._held,
            hops=self._way.hops,
            path=self._way.path,
            master=self._master,
            about=self._about,
            lease_until_ns=self._lease_until_ns(),
        )

    def ancestry(self, now_ns: int) -> Ancestry | None:
        """Return what those that follow this node are told of the nodes above it.

        None where there is nothing to follow: no master was heard since the start, or a snapshot
        takes the log's place just now.
        """
        if not self._master or not self._clock.offset_ns or self._resync.is_installing:
            return None
        since_ns = self._lag.since_ns(self._log.position.offset)
        return Ancestry(
            path=self._way.path,
            master=self._master,
            url=self._master_url,
            peers=self.peers,
            clock_ms=max(0, now_ns + self._clock.offset_ns) // NS_PER_MS,
            interval_ms=self._interval_ns // NS_PER_MS,
            age_ms=max(0, now_ns - self._fresh_ns) // NS_PER_MS,
            known_offset=max(self._lag.known_offset, self._log.position.offset),
            lag_ms=max(0, now_ns - since_ns) // NS_PER_MS if since_ns else 0,
            held=self._held,
            about=self._about,
        )

    def _lease_until_ns(self) -> int | None:
        lease_ms = self._about.lease_ms
        return None if lease_ms is None else self._way.heard_ns + lease_ms * NS_PER_MS

    # Transitions: each forgets what its stage must not keep, and nothing else sets the stage.

    def _become_down(self, reason: str) -> None:
        self._forget_link()
        self._stage = Stage.DOWN
        self._loss = reason

    def _become_listening(self, now_ns: int) -> None:
        self._forget_link()
        self._stage = Stage.LISTENING
        self._began_ns = now_ns

    def _become_greeted(self, now_ns: int) -> None:
        """Keep what the stream brought, and why the master refused: neither is out of date yet."""
        self._stop_following()
        self._resync.halt()
        self._stage = Stage.GREETED
        self._greeted_ns = now_ns

    def _become_refused(self, refusal: Refusal) -> None:
        self._stop_following()
        self._buffer.clear()
        self._stage = Stage.REFUSED
        self._refusal = refusal
        self._master_url = refusal.url or self._master_url

    def _become_sealed(self) -> None:
        """Tell this master nothing that it could count; its log is not followed any more."""
        self._resync.halt()
        self.outbox[:] = [each for each in self.outbox if not isinstance(each, Ack | Hello)]
        self._become_refused(
            Refusal(
                messages.SEALED,
                f"this node has promised epoch {self._log.sealed_epoch} to {self._log.sealed_for}, "
                "and the master that is heard is below that; promote a node, or promote that "
                "master again by force, in an epoch above",
                url=self._master_url,
            )
        )

    def _become_lending(self, now_ns: int) -> None:
        """Keep what the stream brought: a welcome or another hello follows."""
        self._stage = Stage.LENDING
        self._lent_ns = now_ns

    def _become_syncing(self) -> None:
        """Keep why the master refused, which shows until the snapshot is in place."""
        self._stop_following()
        self._buffer.clear()
        self._stage = Stage.SYNCING

    def _become_joined(self, master_offset: int, now_ns: int) -> None:
        """Keep what the stream brought since the hello: the catch-up ends where it begins."""
        self._stop_following()
        self._stage = Stage.JOINED
        self._refusal = Refusal("")
        self._target_offset = master_offset
        # Those that follow this node learn of the reign without waiting.
        self.beats += 1
        self._note_contact(now_ns)

    def _stop_following(self) -> None:
        """Forget what belongs to JOINED alone; a chunk that still comes is nobody's."""
        self._transfer = None
        self._is_level = False

    def _forget_link(self) -> None:
        """Forget what was said and heard on a link; what is being installed goes on."""
        self._stop_following()
        self._lent = (START, b"")
        self.outbox.clear()
        self._buffer.clear()
        self._resync.halt()
        self._acked_offset = -1

    def _next_request(self) -> int:
        self._last_request += 1
        return self._last_request

    def _state(self, now_ns: int) -> LinkState:
        refused = _REFUSED_STATES.get(self._refusal.reason)
        if self._stage in (Stage.DOWN, Stage.LISTENING) or self._is_silent(now_ns):
            if refused is LinkState.DIVERGED:
                return refused
            return LinkState.DISCONNECTED if self._loss else LinkState.CONNECTING
        if self._stage is Stage.SYNCING:
            return LinkState.SYNCING
        if self._stage is not Stage.JOINED:
            return refused or LinkState.CONNECTING
        if not self._is_level:
            return LinkState.CATCHING_UP
        since_ns = self._lag.since_ns(self._log.position.offset)
        lag = lag_ms(now_ns, since_ns, self._fresh_ns, self._interval_ns)
        return LinkState.LAGGING if lag > self._options.max_lag_ms else LinkState.IN_SYNC

    def _is_sealed(self) -> bool:
        log = self._log
        return is_sealed(log.sealed_epoch, self._history, self._epoch, log.lineage)

    def _is_silent(self, now_ns: int) -> bool:
        return is_silent(now_ns, max(self._contact_ns, self._began_ns), self._interval_ns)

    def _note_contact(self, now_ns: int) -> None:
        self._contact_ns = now_ns
        # What a master says that does not serve this log makes nothing in it younger.
        if self._stage is Stage.JOINED:
            self._fresh_ns = max(self._fresh_ns, self._way.fresh_ns(now_ns))

    def _hear_heartbeat(self, beat: Heartbeat, now_ns: int) -> None:
        self._way.hear(beat, now_ns)
        self._about = beat.about
        self.beats += 1
        self._note_contact(now_ns)
        own_ns = self._options.heartbeat_interval_ms * NS_PER_MS
        self._interval_ns = max(own_ns, beat.interval_ms * NS_PER_MS)
        is_new = self._stage is Stage.LISTENING or beat.history != self._history
        if is_new:
            self._clock.begin_link()
        self._clock.hear(beat.clock_ms, now_ns)
        if is_new:
            if beat.history == self._history:
                self._lag.begin_link()
            else:
                self._lag.begin_reign()
                self._held = ()
            self._history, self._epoch = beat.history, beat.epoch
            self._loss = ""
            self._buffer.clear()
            self._greet(now_ns)
        if self._refusal.reason == messages.SEALED and self._stage is Stage.REFUSED:
            return
        offset = self._log.position.offset
        if beat.last_offset > max(self._lag.master_offset, offset):
            self._lag.hear_unseen(beat.last_offset, beat.clock_ms, now_ns)
            if self._stage is Stage.JOINED:
                self.gaps += 1
        else:
            # A catch-up may have gone ahead of heartbeats that wait in the queue.
            self._lag.reach(beat.last_offset)
        if beat.known_offset > beat.last_offset:
            self._lag.hear_of(beat.known_offset, max(1, now_ns - beat.lag_ms * NS_PER_MS))
        if self._stage is Stage.JOINED:
            self._held = beat.held
            self._look_level(now_ns)
        if self._stage in (Stage.JOINED, Stage.REFUSED, Stage.SYNCING):
            self._acknowledge(now_ns)

    def _hear_frame(self, message: Published, bulk: bytes, now_ns: int) -> None:
        if message.history != self._history:
            return
        if self._stage in (Stage.REFUSED, Stage.SYNCING):
            self._note_contact(now_ns)
            return
        frames = read_frames(bulk)
        self._note_contact(now_ns)
        for frame in frames:
            if frame.last_offset <= self._log.position.offset:
                continue
            expected = max(self._lag.master_offset, self._log.position.offset) + 1
            if frame.first_offset > expected and self._stage is Stage.JOINED:
                self.gaps += 1
            self._lag.hear(frame.last_offset, now_ns)
            self._buffer.keep(frame)

    def _greet(self, now_ns: int) -> None:
        """Say hello, or when the snapshot is in place that is being installed."""
        if self._resync.is_installing:
            self._become_syncing()
        else:
            self._say_hello(now_ns)

    def _say_hello(self, now_ns: int) -> None:
        if self._is_sealed():
            # A hello tells a position, as an ack does.
            self._greeted_ns = now_ns
            self._become_sealed()
            return
        self._become_greeted(now_ns)
        lineage = self._log.lineage[-messages.MAX_REIGNS :]
        position = self._log.position
        own = self._options
        hello = Hello(
            own.replica, position, lineage, own.url,
            sync_address=own.sync_address, format=VERSION, lends=True,
            mends=self._records is not None, votes=own.votes, version=own.version,
        )  # fmt: skip
        self.outbox.append(hello)

    def _receive_welcome(self, welcome: Welcome, now_ns: int) -> None:
        self.peers = welcome.peers or self.peers
        if self._stage not in (Stage.GREETED, Stage.LENDING):
            return
        self._master_url = welcome.url
        self._master_mends = welcome.mends
        asked = asked_epoch(welcome.lineage)
        seal = self._log.sealed_epoch
        if asked < seal or (asked == seal and seal and welcome.master != self._log.sealed_for):
            self._become_sealed()
            return
        own = self._log.position
        lineage = self._log.lineage
        self._look_behind(welcome.lineage, welcome.position)
        objection = plan.objection(own, lineage, welcome.lineage, welcome.position)
        if objection is not None:
            self._become_refused(
                Refusal(
                    messages.DIVERGED,
                    objection.reason,
                    common_offset=objection.common_offset,
                    url=welcome.url,
                )
            )
            return
        if welcome.lineage[-1].history != self._history:
            # It crossed a reign's beginning: the one to the hello of the other reign follows.
            return
        if welcome.lineage != lineage:
            self._adopt(welcome.lineage)
        self._master = welcome.master
        self._become_joined(welcome.position.offset, now_ns)
        self._lag.reach(welcome.position.offset)
        self._look_level(now_ns)

    def _adopt(self, lineage: Lineage) -> None:
        try:
            self._log.adopt(lineage)
        except (OffsetGap, StaleEpoch) as error:
            raise ProtocolViolation(f"the master's lineage does not follow: {error}") from error

    def _lend(self, recall: Recall, now_ns: int) -> None:
        """Send what the master asks for of its own log, as much as it gave credit for."""
        if self._stage not in (Stage.GREETED, Stage.LENDING):
            return
        self._note_contact(now_ns)
        self._become_lending(now_ns)
        position, content = self._lent
        if position != recall.position or not recall.at_byte:
            # Who names a reign of this log knows it; nobody else is given anything of it.
            is_own = any(reign.history == self._history for reign in self._log.lineage)
            content = self._log.frames_behind(recall.position, LOAN_BYTES) if is_own else b""
            self._lent = (recall.position, content)
        ends = recall.at_byte + recall.credit * messages.MAX_PIECE_BYTES
        for at in range(recall.at_byte, min(ends, len(content)), messages.MAX_PIECE_BYTES):
            piece = content[at : at + messages.MAX_PIECE_BYTES]
            self.outbox.append(Loan(recall.request, at, len(content), piece))
        if recall.at_byte >= len(content):
            self.outbox.append(Loan(recall.request, recall.at_byte, 0))

    def _lend_record(self, recall: RecallRecord) -> None:
        """Give the master what this node has of a record, where that is a state of its log."""
        if self._stage is Stage.JOINED and self._records is not None:
            self.outbox.append(loan_of(recall, self._records.look(recall.space, recall.key)))

    def _receive_refusal(self, refusal: Refusal, now_ns: int) -> None:
        if refusal.request:
            if not self._resync.take_refusal(refusal, now_ns):
                self._receive_transfer_refusal(refusal)
        elif refusal.reason in (messages.NEEDS_FULL_RESYNC, messages.DIVERGED):
            if self._stage in (Stage.GREETED, Stage.LENDING):
                self._look_behind(refusal.lineage, refusal.position)
                self._mend(refusal, now_ns)
        elif refusal.reason == messages.HELLO_WANTED:
            # One hello answers any number of these: the ones after it meet the stage GREETED.
            if self._stage in _GREETS_AGAIN:
                self._greet(now_ns)
        elif self._stage in (Stage.GREETED, Stage.LENDING):
            raise LinkLost(f"the master refuses the hello: {refusal.reason} {refusal.detail}")

    def _receive_transfer_refusal(self, refusal: Refusal) -> None:
        if self._transfer is None or refusal.request != self._transfer.request:
            return
        if refusal.reason in (messages.NEEDS_FULL_RESYNC, messages.DIVERGED):
            self._become_refused(refusal)
        else:
            raise LinkLost(f"the master refuses the catch-up: {refusal.reason} {refusal.detail}")

    def _look_above(self, now_ns: int) -> None:
        """Leave a relay that has been without a master for too long, where another may have one."""
        if self._stage in (Stage.DOWN, Stage.LISTENING):
            return
        if not self._way.is_orphaned(now_ns):
            self._is_patient = not self._options.patience_ms
        elif not self._is_patient:
            raise UpstreamOrphaned(f"{self._way.path[-1]} there hears no master itself")

    def _look_behind(self, lineage: Lineage, position: Position) -> None:
        """Leave a relay that lacks what this log holds of the master's.

        It is no less right for that, and gets it from above: nothing here is to be put aside.

        Raises:
            LinkLost: It is one.
        """
        log = self._log
        if self._way.is_relayed and plan.is_behind(log.position, log.lineage, lineage, position):
            raise LinkLost(f"{self._way.path[-1]} there has not yet what this node holds")

    def _mend(self, refusal: Refusal, now_ns: int) -> None:
        """Begin a full resync where the refusal is one that a snapshot mends by the rules."""
        log = self._log
        if asked_epoch(refusal.lineage) < log.sealed_epoch:
            self._become_sealed()
            return
        # The word was about that master, not about one that took its address since.
        is_known = bool(self._accepted) and self._accepted[0] in refusal.lineage
        is_accepted = is_known and refusal.reason == messages.DIVERGED
        self._become_refused(refusal)
        # Where the lineages agree and the logs don't, nobody knows from where on: the operator must
        # look. Elsewhere this side's own comparison decides, not the master's word.
        is_lineage_alike = refusal.reason == messages.DIVERGED and not refusal.common_offset
        if not self._options.can_resync or (is_lineage_alike and not is_accepted):
            return
        remedy = plan.remedy(
            log.position, log.lineage, refusal.lineage, refusal.position, is_accepted=is_accepted
        )
        if isinstance(remedy, plan.Hold):
            return
        self._become_syncing()
        self._resync.begin(refusal.lineage, remedy, log.position.offset, now_ns)

    def _fetch(self, until_offset: int, now_ns: int) -> None:
        request = self._next_request()
        self._transfer = Transfer(until_offset, request, now_ns)
        after = self._log.position.offset
        self.outbox.append(Fetch(request, after, until_offset, CREDIT))

    def _receive_chunk(self, chunk: Chunk, bulk: bytes, now_ns: int) -> None:
        transfer = self._transfer
        if transfer is None or chunk.request != transfer.request:
            return
        if chunk.sequence != transfer.sequence:
            # A chunk went with a connection; settle() fetches again from where the log stands.
            self._transfer = None
            return
        self._note_contact(now_ns)
        offset = self._log.position.offset
        frames = [frame for frame in read_frames(bulk) if frame.last_offset > offset]
        if frames:
            self._lag.hear(frames[-1].last_offset, now_ns)
            self._append(frames, now_ns)
        elif not chunk.is_last and self._log.position.offset < transfer.until_offset:
            raise ProtocolViolation("a chunk without a frame before the transfer's end")
        transfer.sequence += 1
        transfer.moved_ns = now_ns
        if chunk.is_last:
            self._transfer = None
        else:
            self.outbox.append(Credit(transfer.request, 1))

    def _append(self, frames: list[Frame], now_ns: int) -> None:
        try:
            self._log.append_frames(frames)
        except (OffsetGap, StaleEpoch, FrameCorrupt) as error:
            raise ProtocolViolation(f"the master's frames do not follow: {error}") from error
        self._lag.apply(frames[-1].last_offset, frames[-1].time_ms)
        self._look_level(now_ns)

    def _look_level(self, now_ns: int) -> None:
        offset = self._log.position.offset
        if offset >= self._target_offset:
            self._is_level = True
            if not self._log.has_synced:
                self._log.note_synced()
        self._lag.note_synced(offset, now_ns)

    def _acknowledge(self, now_ns: int) -> None:
        position = self._log.position
        self._acked_offset = position.offset
        state = self._state(now_ns)
        self.outbox.append(Ack(position.offset, position.epoch, state, self.snapshot_ms))
