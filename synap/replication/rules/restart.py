"""A master that may have lost the end of its log asks its replicas before it begins a reign.

Plain values, no sockets, no clock. While a `Restart` is under way the master takes no writes. Each
known replica that says hello is heard; one that holds what the master's own lineage says comes
after its end is ahead, and lends it before it counts as heard. So whatever a quorum acknowledged
is in the master's log again when its next reign begins after it.

`master` hands in hellos and loans. Source: docs/protocol.md, "A restart that may have lost
something".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from synap.errors import (
    DiskFull,
    FrameCorrupt,
    MemoryLimit,
    OffsetGap,
    ProtocolViolation,
    StaleEpoch,
)
from synap.frame import Frame
from synap.position import Lineage, Position
from synap.replication.rules.messages import (
    MAX_CREDIT,
    Hello,
    Loan,
    Recall,
    read_frames,
)
from synap.replication.rules.plan import is_ahead

# A loan that brings nothing for so long has ended: the replica says hello again if it is alive.
LOAN_TIMEOUT_NS = 3_000_000_000

# What keeps frames of a loan out of the log.
_UNUSABLE = (OffsetGap, StaleEpoch, FrameCorrupt, ProtocolViolation, DiskFull, MemoryLimit)


class LendingLog(Protocol):
    """The log that lost its end."""

    @property
    def position(self) -> Position:
        """The end of the log."""

    @property
    def lineage(self) -> Lineage:
        """Its reigns; the last ones may have no entry in it."""

    def append_frames(self, frames: Sequence[Frame]) -> None:
        """Log and apply frames that this log held before; raises where they do not follow."""


class Awaited(msgspec.Struct, frozen=True):
    """A replica that a restart waits for.

    Attributes:
        id: Its `server.node_id`.
        note: Why it is not enough that it is there; empty where it was not heard.
    """

    id: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Guest:
    """Who said hello, and on which connection."""

    peer: bytes
    address: str
    hello: Hello


@dataclass(slots=True)
class _Loan:
    guest: Guest
    request: int
    moved_ns: int
    # Of the frames after the log's end: what has come.
    content: bytearray = field(default_factory=bytearray)
    # Pieces that may still come before the replica hears more.
    due: int = MAX_CREDIT


class Restart:
    """One restart, from the start of the master to its next reign.

    Attributes:
        is_over: The next reign may begin.
        lent: Frames that replicas gave back.
    """

    def __init__(
        self, log: LendingLog, known: Collection[str], min_replicas: int, until_ns: int
    ) -> None:
        """
        Args:
            log: The master's.
            known: Names of the replicas whose acks may have counted.
            min_replicas: How many of them each write waited for; 0 for none.
            until_ns: When (monotonic) those that need not be heard are no longer waited for.
        """
        self.is_over = False
        self.lent = 0
        self._log = log
        self._known = tuple(known)
        # Any `min_replicas` of the known ones must include one that was heard.
        self._needed = len(self._known) - min_replicas + 1 if min_replicas else 0
        self._until_ns = until_ns
        self._heard: set[str] = set()
        self._notes: dict[str, str] = {}
        self._loan: _Loan | None = None
        self._queue: dict[str, Guest] = {}
        self._last_request = 0

    def awaited(self) -> tuple[Awaited, ...]:
        """Return the known replicas that were not heard, and what keeps those that were."""
        return tuple(
            Awaited(name, self._notes.get(name, ""))
            for name in self._known
            if name not in self._heard
        )

    def forget(self, name: str) -> bool:
        """Wait for a replica no more; return False where it is just giving entries back."""
        is_guest = self._loan is not None and self._loan.guest.hello.replica == name
        if is_guest or name in self._queue:
            return False
        self._known = tuple(each for each in self._known if each != name)
        self._needed = min(self._needed, len(self._known))
        self._notes.pop(name, None)
        return True

    def is_ahead(self, hello: Hello) -> bool:
        """Say whether who says hello holds more of this log than the log does."""
        log = self._log
        return is_ahead(hello.position, hello.lineage, log.lineage, log.position)

    def hear(self, name: str) -> None:
        """Count a replica that holds nothing which this log lacks."""
        self._heard.add(name)
        self._notes.pop(name, None)
        self._queue.pop(name, None)

    def borrow(self, guest: Guest, now_ns: int) -> Recall | None:
        """Take who is ahead for a lender; return what to ask it, None where it has to wait."""
        name = guest.hello.replica
        self._heard.discard(name)
        self._notes[name] = f"it holds entries up to offset {guest.hello.position.offset}"
        if not guest.hello.lends:
            self._notes[name] += ", and its version can't give them back; upgrade it"
            return None
        if self._loan is not None and self._loan.guest.hello.replica != name:
            self._queue[name] = guest
            return None
        self._queue.pop(name, None)
        self._loan = _Loan(guest, 0, now_ns)
        return self._ask(self._loan)

    def take(self, peer: bytes, loan: Loan, now_ns: int) -> Recall | None:
        """Take a piece; return what to ask next, None where nothing is to be asked.

        Raises:
            ProtocolViolation: it is not a piece of this log. The loan has ended.
        """
        current = self._loan
        is_of_it = current is not None and (current.guest.peer, current.request) == (
            peer,
            loan.request,
        )
        if current is None or not is_of_it or loan.at_byte != len(current.content):
            return None
        current.moved_ns = now_ns
        current.content += loan.piece
        current.due -= 1
        if not loan.size or not loan.piece or len(current.content) > loan.size:
            self._refuse(
                current,
                "but no longer the ones before them that this log lacks too; promote that replica",
            )
            return None
        if len(current.content) < loan.size:
            return None if current.due else self._ask(current)
        return self._append(current)

    def lender(self) -> Guest | None:
        """Return who lends just now."""
        return self._loan.guest if self._loan is not None else None

    def finish_loan(self) -> Guest | None:
        """End the loan where its lender is no longer ahead; return who is to be greeted anew."""
        loan = self._loan
        if loan is None or self.is_ahead(loan.guest.hello):
            return None
        self._loan = None
        return loan.guest

    def next_guest(self) -> Guest | None:
        """Return who has waited for a loan to end, and is to be greeted anew; None for nobody."""
        if self._loan is not None or not self._queue:
            return None
        return self._queue.pop(next(iter(self._queue)))

    def tick(self, now_ns: int) -> None:
        """Look at the clock: give a silent lender up, and see whether the wait is over."""
        loan = self._loan
        if loan is not None and now_ns - loan.moved_ns > LOAN_TIMEOUT_NS:
            self._refuse(loan, "and fell silent while it gave them back")
        if self._loan is not None or self._queue:
            return
        is_everybody = self._heard.issuperset(self._known)
        known = len(self._heard.intersection(self._known))
        is_time = now_ns >= self._until_ns and known >= self._needed
        self.is_over = is_everybody or is_time

    def _ask(self, loan: _Loan) -> Recall:
        self._last_request += 1
        loan.request = self._last_request
        loan.due = MAX_CREDIT
        return Recall(loan.request, self._log.position, len(loan.content), loan.due)

    def _append(self, loan: _Loan) -> Recall | None:
        try:
            frames = read_frames(bytes(loan.content))
            self._log.append_frames(frames)
        except _UNUSABLE as error:
            self._refuse(loan, f"and what it gave back can't be used: {error}")
            if isinstance(error, ProtocolViolation):
                raise
            return None
        self.lent += len(frames)
        loan.content.clear()
        return self._ask(loan) if self.is_ahead(loan.guest.hello) else None

    def _refuse(self, loan: _Loan, why: str) -> None:
        name = loan.guest.hello.replica
        self._notes[name] = (
            f"it holds entries up to offset {loan.guest.hello.position.offset}, {why}"
        )
        self._loan = None
