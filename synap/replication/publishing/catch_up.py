"""Serving catch-up: frames from the master's log, in chunks, to replicas that give credit.

A replica that takes nothing for too long, whatever credit it gives, loses its transfer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from synap.errors import LogError, OffsetNotRetained, OffsetUnknown, WalCorrupt
from synap.replication.publishing.transfers import (
    LogCursor,
    NothingQueued,
    Queues,
    ReadableLog,
    Reader,
    Transfer,
    Transfers,
)
from synap.replication.rules.messages import (
    BUSY,
    DIVERGED,
    NEEDS_FULL_RESYNC,
    Chunk,
    Credit,
    Fetch,
    Refusal,
)

logger = logging.getLogger(__name__)

# Large enough that a chunk's fixed cost vanishes, small enough that a commit's write finds the
# disk free and a replica appends it without holding up its heartbeats.
CHUNK_BYTES = 1024 * 1024
# Transfers at a time: as many as there are places at the port, so that nobody takes another's.
MAX_TRANSFERS = 192


def tell_of_damage(error: WalCorrupt) -> None:
    """Say in the node's log what a reader for a replica found; the next one is not sent there."""
    logger.error(
        "%s Replicas that need what is there get a snapshot.", error.message,
        extra={"action": "wal_damaged", "path": error.path, "byte": error.byte_position},
    )  # fmt: skip


class _Transfer(Transfer):
    def __init__(self, peer: bytes, fetch: Fetch, now_ns: int) -> None:
        super().__init__(peer, fetch.request, fetch.credit, now_ns)
        self.after_offset = fetch.after_offset
        self.until_offset = fetch.until_offset
        self.sequence = 0
        self.cursor: LogCursor | None = None

    def read(self, log: ReadableLog, chunk_bytes: int) -> tuple[bytes, bool]:
        """Return the next chunk and whether it is the last; in the reader's thread."""
        if self.cursor is None:
            self.cursor = log.cursor(self.after_offset)
        bulk = self.cursor.next(chunk_bytes)
        return bulk, not bulk or self.cursor.offset >= self.until_offset

    def close(self) -> None:
        """Give its place in the log up; a read under way keeps it until it is delivered."""
        if self.cursor is not None and not self.is_reading:
            self.cursor.close()


class CatchUpService:
    """The transfers under way, one for each connection. Belongs to the loop's thread."""

    def __init__(
        self,
        log: ReadableLog,
        reader: Reader,
        send: Callable[[bytes, Chunk | Refusal, bytes | None], bool],
        queues: Queues | None = None,
    ) -> None:
        """
        Args:
            log: The master's log.
            reader: Where it is read.
            send: Sends a message and its bulk part to a connection; False where that failed.
            queues: What of it has not reached the connections yet; None where none can.
        """
        self._log = log
        self._reader = reader
        self._send = send
        self._transfers: Transfers[_Transfer] = Transfers(queues or NothingQueued())

    def __len__(self) -> int:
        return len(self._transfers)

    def fetch(self, peer: bytes, fetch: Fetch, now_ns: int) -> None:
        """Begin a transfer; one of the same connection that is under way ends."""
        self.drop(peer)
        if len(self._transfers) >= MAX_TRANSFERS:
            refusal = Refusal(BUSY, f"{MAX_TRANSFERS} replicas are catching up", fetch.request)
            self._send(peer, refusal, None)
            return
        transfer = _Transfer(peer, fetch, now_ns)
        self._transfers.add(transfer)
        self._go_on(transfer)

    def credit(self, peer: bytes, credit: Credit) -> None:
        """Let a transfer send more; an old transfer's credit is ignored."""
        transfer = self._transfers.credit(peer, credit)
        if transfer is not None:
            self._go_on(transfer)

    def drop(self, peer: bytes) -> None:
        """End the transfer of a connection, if there is one."""
        transfer = self._transfers.take_out(peer)
        if transfer is not None:
            transfer.close()

    def expire(self, now_ns: int, timeout_ns: int) -> None:
        """End the transfers that moved nothing for too long, go on with the others."""
        for transfer in self._transfers.idle(now_ns, timeout_ns):
            self.drop(transfer.peer)
        for transfer in self._transfers:
            self._go_on(transfer)

    def close(self) -> None:
        """End every transfer; the reader must be closed."""
        for transfer in self._transfers:
            transfer.is_reading = False
            self.drop(transfer.peer)

    def _go_on(self, transfer: _Transfer) -> None:
        if self._transfers.begin_reading(transfer):
            chunk_bytes = min(CHUNK_BYTES, self._transfers.chunk_bytes)
            self._reader.read(
                lambda: transfer.read(self._log, chunk_bytes),
                lambda future: self._deliver(transfer, future),
            )

    def _deliver(self, transfer: _Transfer, future: asyncio.Future[tuple[bytes, bool]]) -> None:
        if future.cancelled():
            return
        waiting = self._transfers.end_reading(transfer)
        error = future.exception()
        if transfer.is_over:
            transfer.close()
        elif error is not None:
            self._refuse(transfer, error)
        else:
            self._send_chunk(transfer, *future.result())
        for each in waiting:
            self._go_on(each)

    def _send_chunk(self, transfer: _Transfer, bulk: bytes, is_last: bool) -> None:
        chunk = Chunk(transfer.request, transfer.sequence, is_last)
        transfer.sequence += 1
        transfer.credit -= 1
        transfer.has_moved = True
        if not self._send(transfer.peer, chunk, bulk) or is_last:
            self.drop(transfer.peer)
        else:
            self._go_on(transfer)

    def _refuse(self, transfer: _Transfer, error: BaseException) -> None:
        self.drop(transfer.peer)
        if isinstance(error, OffsetNotRetained):
            reason = NEEDS_FULL_RESYNC
        elif isinstance(error, WalCorrupt):
            reason = NEEDS_FULL_RESYNC
            tell_of_damage(error)
        elif isinstance(error, OffsetUnknown):
            reason = DIVERGED
        else:
            reason = BUSY
            level = logging.ERROR if isinstance(error, LogError | OSError) else logging.CRITICAL
            logger.log(level, "catch-up can't read the log: %s", error, exc_info=error)
        self._send(transfer.peer, Refusal(reason, str(error), transfer.request), None)
