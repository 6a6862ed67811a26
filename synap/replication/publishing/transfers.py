"""What the services that send a master's files share: reading in a thread, and credit.

A transfer is an answer in chunks to one peer, as many in flight as it gave credit for. Files are
read in one thread, one read at a time and one at most for each transfer, so that a commit never
waits for a replica and replicas take turns. A peer may give credit for what it never took: what
is queued for it is asked of its connection, and bounded in bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from synap.position import Position
from synap.replication.rules.messages import MAX_CREDIT, Credit

Read = TypeVar("Read")

# Queued for all peers together, and for one of them, where few have a transfer; where many have,
# each has its part of the first, so that those who take nothing leave enough for those who do.
ALL_QUEUED_BYTES = 24 * 1024 * 1024
ONE_QUEUED_BYTES = 4 * 1024 * 1024
_LEAST_QUEUED_BYTES = 96 * 1024

# Reads under way at once: how large what they bring will be is not known before.
_MOST_READINGS = 2


class Queues(Protocol):
    """What was sent to peers and has not reached them yet.

    `synap.replication.transport.sockets.ListeningEndpoint` is one.
    """

    def queued_bytes(self, peer: bytes) -> int:
        """Return what is queued for a peer."""

    def relieve(self) -> None:
        """Cut off the peer that takes the least of what is queued for it."""


class NothingQueued:
    """The queues of a transport that holds nothing."""

    def queued_bytes(self, peer: bytes) -> int:
        """Return 0."""
        return 0

    def relieve(self) -> None:
        """Do nothing."""


def share_bytes(transfers: int) -> int:
    """Return what may be queued for one peer while so many have a transfer."""
    return max(_LEAST_QUEUED_BYTES, min(ONE_QUEUED_BYTES, ALL_QUEUED_BYTES // max(1, transfers)))


class LogCursor(Protocol):
    """A place in the log. `synap.wal.cursor.WalCursor` is one."""

    offset: int

    def next(self, limit_bytes: int) -> bytes:
        """Return the next whole frames, b"" at the end."""

    def close(self) -> None:
        """Give its file back."""


class ReadableLog(Protocol):
    """The part of a log that may be read beside its owner. `synap.wal.wal.Wal` is one."""

    @property
    def position(self) -> Position:
        """Its end."""

    @property
    def first_offset(self) -> int:
        """The oldest offset that it holds."""

    def position_at(self, offset: int) -> Position | None:
        """Return the position where a frame ends with `offset`."""

    def cursor(self, offset: int) -> LogCursor:
        """Return a cursor that reads what follows `offset`."""


class Reader:
    """Reads in one thread and hands the results to the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catch-up")

    def read(
        self, work: Callable[[], Read], deliver: Callable[[asyncio.Future[Read]], None]
    ) -> None:
        """Do `work` in the thread, then call `deliver` on the loop with what became of it."""
        self._loop.run_in_executor(self._thread, work).add_done_callback(deliver)

    def close(self) -> None:
        """Wait for the read under way and forget the others."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Transfer:
    """One under way.

    Attributes:
        peer: The connection.
        request: Number of the request that it answers.
        credit: Chunks that may be sent now.
        moved_ns: When (monotonic) a chunk was last seen to have left, or it began.
        has_moved: Whether one has left since the last look.
        is_reading: Whether the next chunk is being read.
        is_over: Whether it ended; what is still read for it goes nowhere.
    """

    def __init__(self, peer: bytes, request: int, credit: int, now_ns: int) -> None:
        self.peer = peer
        self.request = request
        self.credit = min(credit, MAX_CREDIT)
        self.moved_ns = now_ns
        self.has_moved = False
        self.is_reading = False
        self.is_over = False


OneTransfer = TypeVar("OneTransfer", bound=Transfer)


class Transfers(Generic[OneTransfer]):
    """Those under way of one kind, at most one for each connection."""

    def __init__(self, queues: Queues) -> None:
        """
        Args:
            queues: Of the peers.
        """
        self._by_peer: dict[bytes, OneTransfer] = {}
        # Whom something is read for, maybe for a transfer of theirs that is over.
        self._reading: set[bytes] = set()
        # Those whose turn comes when one of these is done, in their order.
        self._waiting: dict[bytes, None] = {}
        self._queues = queues

    @property
    def chunk_bytes(self) -> int:
        """How large a chunk is to be, so that several fit into what may be queued."""
        return share_bytes(len(self)) // 4

    def begin_reading(self, transfer: OneTransfer) -> bool:
        """Whether the transfer's next chunk is to be read now; it counts as being read then."""
        peer = transfer.peer
        if not transfer.credit or transfer.is_over or peer in self._reading:
            return False
        if self._queues.queued_bytes(peer) >= share_bytes(len(self)):
            return False
        if len(self._reading) >= _MOST_READINGS:
            self._waiting[peer] = None
            return False
        if sum(map(self._queues.queued_bytes, self._by_peer)) >= ALL_QUEUED_BYTES:
            self._queues.relieve()
            return False
        self._reading.add(peer)
        transfer.is_reading = True
        return True

    def end_reading(self, transfer: OneTransfer) -> list[OneTransfer]:
        """The chunk is read; return the transfers that waited for this."""
        transfer.is_reading = False
        self._reading.discard(transfer.peer)
        peers = [transfer.peer, *self._waiting]
        self._waiting.clear()
        found = (self._by_peer.get(peer) for peer in peers)
        return [each for each in found if each is not None and each is not transfer]

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[OneTransfer]:
        """Yield those that are under way now, whatever ends meanwhile."""
        return iter(tuple(self._by_peer.values()))

    def add(self, transfer: OneTransfer) -> None:
        """Keep it; the connection has none."""
        self._by_peer[transfer.peer] = transfer

    def take_out(self, peer: bytes) -> OneTransfer | None:
        """End the connection's and return it; None where it has none."""
        transfer = self._by_peer.pop(peer, None)
        if transfer is not None:
            transfer.is_over = True
        return transfer

    def credit(self, peer: bytes, credit: Credit) -> OneTransfer | None:
        """Let the peer's transfer send more, and return it; None for an old one's credit."""
        transfer = self._by_peer.get(peer)
        if transfer is None or transfer.request != credit.request:
            return None
        transfer.credit = min(transfer.credit + credit.chunks, MAX_CREDIT)
        return transfer

    def idle(self, now_ns: int, timeout_ns: int) -> list[OneTransfer]:
        """Return those of which no chunk left for too long: who gives credit may take none."""
        for each in self:
            if each.has_moved:
                each.has_moved = False
                each.moved_ns = now_ns
        return [each for each in self if now_ns - each.moved_ns > timeout_ns]
