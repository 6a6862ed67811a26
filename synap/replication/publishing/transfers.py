"""What the services that send a master's files share: reading in a thread, and credit.

A transfer is an answer in chunks to one peer, as many in flight as it gave credit for. Files are
read in one thread, one read at a time and one at most for each transfer, so that a commit never
waits for a replica and replicas take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from synap.position import Position
from synap.replication.rules.messages import MAX_CREDIT, Credit

Read = TypeVar("Read")


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
        moved_ns: When (monotonic) the peer last asked for some.
        is_reading: Whether the next chunk is being read.
        is_over: Whether it ended; what is still read for it goes nowhere.
    """

    def __init__(self, peer: bytes, request: int, credit: int, now_ns: int) -> None:
        self.peer = peer
        self.request = request
        self.credit = min(credit, MAX_CREDIT)
        self.moved_ns = now_ns
        self.is_reading = False
        self.is_over = False


OneTransfer = TypeVar("OneTransfer", bound=Transfer)


class Transfers(Generic[OneTransfer]):
    """Those under way of one kind, at most one for each connection."""

    def __init__(self) -> None:
        self._by_peer: dict[bytes, OneTransfer] = {}

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

    def credit(self, peer: bytes, credit: Credit, now_ns: int) -> OneTransfer | None:
        """Let the peer's transfer send more, and return it; None for an old one's credit."""
        transfer = self._by_peer.get(peer)
        if transfer is None or transfer.request != credit.request:
            return None
        transfer.credit = min(transfer.credit + credit.chunks, MAX_CREDIT)
        transfer.moved_ns = now_ns
        return transfer

    def idle(self, now_ns: int, timeout_ns: int) -> list[OneTransfer]:
        """Return those whose peers gave no credit for too long."""
        return [each for each in self if now_ns - each.moved_ns > timeout_ns]
