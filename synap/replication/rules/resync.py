"""A replica's full resync, as a state machine without sockets, disks or a clock.

    asked ──offer──► receiving ──last byte──► installing ──► over; the follower says hello
      ▲  └──wait──► waiting ─┐
      └──────────────────────┘

`follower` begins it at each refusal that a snapshot mends, and hands it the messages that belong to
it. What the disk must do lies in `jobs`, in order; whoever carries a job out tells `done`. Bytes
that are on the disk outlive a link: the next one asks for what follows them.

Source: docs/protocol.md, "Full resync".
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import msgspec

from synap.errors import LinkLost, ProtocolViolation
from synap.position import Lineage
from synap.replication.rules.messages import (
    MAX_REIGNS,
    WAIT,
    Credit,
    FetchSnapshot,
    Refusal,
    Request,
    SnapshotChunk,
    SnapshotOffer,
    check_image_bytes,
)
from synap.replication.rules.plan import Replace
from synap.replication.rules.progress import NS_PER_MS

# Chunks in flight: the master reads the next ones while this side writes to its disk.
CREDIT = 4


class Receive(msgspec.Struct, frozen=True):
    """Begin the file of a snapshot; what was received of another one goes."""

    offer: SnapshotOffer


class Write(msgspec.Struct, frozen=True):
    """Put bytes into the file."""

    at_byte: int
    content: bytes


class Install(msgspec.Struct, frozen=True):
    """Verify the file, and put what it holds in the place of the log and the live store.

    Attributes:
        offer: What the file is.
        lineage: The reigns of the master's log; those of the snapshot are among them.
        switch: What is put aside.
    """

    offer: SnapshotOffer
    lineage: Lineage
    switch: Replace


Job = Receive | Write | Install


class _Step(Enum):
    IDLE = auto()
    WAITING = auto()
    ASKED = auto()
    RECEIVING = auto()
    INSTALLING = auto()


class Resync:
    """One replica's; it begins anew as often as it takes.

    Attributes:
        jobs: What the disk must do, oldest first; the caller takes them out.
    """

    def __init__(
        self, outbox: list[Request], next_request: Callable[[], int], retry_ms: int
    ) -> None:
        """
        Args:
            outbox: Where requests to the master go.
            next_request: Returns a number that no transfer of this replica had.
            retry_ms: Time to the next try after the disk refused one.
        """
        self.jobs: list[Job] = []
        self._outbox = outbox
        self._next_request = next_request
        self._retry_ns = retry_ms * NS_PER_MS
        self._step = _Step.IDLE
        self._pending = 0
        self._request = 0
        self._moved_ns = self._ask_ns = 0
        self._offer: SnapshotOffer | None = None
        self._held_bytes = 0
        self._at_byte = 0
        self._lineage: Lineage = ()
        self._switch = Replace()
        self._at_least = 0

    @property
    def is_installing(self) -> bool:
        """Whether log and store are being replaced: nobody may append or trust their end."""
        return self._step is _Step.INSTALLING

    def begin(self, lineage: Lineage, switch: Replace, own_offset: int, now_ns: int) -> None:
        """Ask for a snapshot, or for the rest of one, as soon as the disk has what came before.

        Args:
            lineage: The reigns of the master's log.
            switch: What is put aside when it is installed.
            own_offset: The end of this replica's log.
        """
        assert not self.is_installing
        self._lineage = lineage
        self._switch = switch
        self._at_least = own_offset if switch.kept_after is None else switch.kept_after
        self._wait(now_ns)
        self._go_on(now_ns)

    def halt(self) -> None:
        """The link is gone, or the master wants something else; what is held stays."""
        if not self.is_installing:
            self._step = _Step.IDLE

    def take_offer(self, offer: SnapshotOffer, now_ns: int) -> None:
        """Take what the master is about to send.

        Raises:
            ProtocolViolation: It is not what was asked for.
        """
        if self._step is not _Step.ASKED or offer.request != self._request:
            return
        # A message holds the newest reigns of a long lineage, and the snapshot's may reach further
        # back than the master's. One that wrote nothing up to there may have been given up since.
        oldest = self._lineage[0].epoch if len(self._lineage) == MAX_REIGNS else 0
        end = offer.position.offset
        wrote = {r for r in offer.lineage if r.epoch >= oldest and r.first_offset <= end}
        if not wrote <= set(self._lineage):
            raise ProtocolViolation("a snapshot of another lineage than the master's")
        held = self._offer
        is_same = held is not None and held.sha256 == offer.sha256
        if offer.at_byte and not (is_same and offer.at_byte == self._held_bytes):
            raise ProtocolViolation(f"a snapshot from byte {offer.at_byte} on, which nobody wants")
        if not offer.at_byte:
            self._held_bytes = 0
            self._add(Receive(offer))
        self._offer = offer
        self._at_byte = offer.at_byte
        self._step = _Step.RECEIVING
        self._moved_ns = now_ns
        self._install_if_whole()

    def take_chunk(self, chunk: SnapshotChunk, bulk: bytes, now_ns: int) -> None:
        """Take bytes of the image.

        Raises:
            ProtocolViolation: They are damaged, or more than the offer says.
        """
        if self._step is not _Step.RECEIVING or chunk.request != self._request:
            return
        assert self._offer is not None
        if chunk.at_byte != self._at_byte:
            # One went with a connection: ask again, from what is on the disk.
            self._wait(now_ns)
            self._go_on(now_ns)
            return
        check_image_bytes(chunk, bulk)
        if chunk.at_byte + len(bulk) > self._offer.size:
            raise ProtocolViolation("more bytes of a snapshot than were offered")
        self._add(Write(chunk.at_byte, bulk))
        self._at_byte += len(bulk)
        self._moved_ns = now_ns
        self._install_if_whole()

    def take_refusal(self, refusal: Refusal, now_ns: int) -> bool:
        """Take a refusal; return whether it was about this.

        Raises:
            LinkLost: The master does not serve it.
        """
        if self._step not in (_Step.ASKED, _Step.RECEIVING) or refusal.request != self._request:
            return False
        if refusal.reason != WAIT:
            raise LinkLost(f"the master refuses a snapshot: {refusal.reason} {refusal.detail}")
        self._wait(now_ns + refusal.wait_ms * NS_PER_MS)
        return True

    def done(self, job: Job, is_good: bool, now_ns: int) -> bool:
        """Learn what became of a job; return whether a snapshot is in place now.

        Args:
            is_good: False where the disk refused, or the file is not what was offered; nothing of
                the replica's state has changed then.
        """
        self._pending -= 1
        if not is_good:
            self._offer = None
            self._held_bytes = 0
            if self._step is not _Step.IDLE:
                self._wait(now_ns + self._retry_ns)
            return False
        if isinstance(job, Install):
            self._offer = None
            self._held_bytes = 0
            self._step = _Step.IDLE
            return True
        if isinstance(job, Write) and self._offer is not None:
            self._held_bytes = job.at_byte + len(job.content)
            if self._step is _Step.RECEIVING:
                self._outbox.append(Credit(self._request, 1))
        self._moved_ns = now_ns
        self._go_on(now_ns)
        return False

    def tick(self, now_ns: int, answer_ns: int) -> None:
        """Look at the clock.

        Raises:
            LinkLost: The master owes an answer or the next bytes.
        """
        self._go_on(now_ns)
        is_owed = self._step in (_Step.ASKED, _Step.RECEIVING) and not self._pending
        if is_owed and now_ns - self._moved_ns > answer_ns:
            raise LinkLost("the full resync makes no progress")

    def _wait(self, until_ns: int) -> None:
        self._step = _Step.WAITING
        self._ask_ns = until_ns

    def _go_on(self, now_ns: int) -> None:
        # What is held is known only when the disk has answered for all of it.
        if self._step is not _Step.WAITING or self._pending or now_ns < self._ask_ns:
            return
        self._step = _Step.ASKED
        self._moved_ns = now_ns
        self._request = self._next_request()
        sha256 = self._offer.sha256 if self._offer is not None else b""
        self._outbox.append(
            FetchSnapshot(self._request, sha256, self._held_bytes, CREDIT, self._at_least)
        )

    def _install_if_whole(self) -> None:
        assert self._offer is not None
        if self._at_byte == self._offer.size:
            self._step = _Step.INSTALLING
            self._add(Install(self._offer, self._lineage, self._switch))

    def _add(self, job: Job) -> None:
        self._pending += 1
        self.jobs.append(job)
