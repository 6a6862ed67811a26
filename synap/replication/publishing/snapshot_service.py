"""Serving full resyncs: the newest snapshot in chunks, to replicas that give credit.

A few replicas at a time read one shared snapshot, the others are told to wait, and have their
turns. While somebody waits, an address has one place, and who takes little gives it up. The file is
held open and the log after it by a cursor, so that neither goes while a transfer runs, nor for a
while after: a replica whose link broke comes back for the rest, and one that has it all for what
follows. No transaction of the live store is held.

The file is read in the catch-up's thread, in turn with the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol
from zlib import crc32

from synap.addresses import client_group
from synap.errors import LogError, SnapshotInvalid, SynapError
from synap.position import Lineage
from synap.replication.publishing.transfers import (
    LogCursor,
    NothingQueued,
    Queues,
    ReadableLog,
    Reader,
    Transfer,
    Transfers,
)
from synap.replication.rules.line_limit import LineLimit
from synap.replication.rules.messages import (
    BUSY,
    MAX_REIGNS,
    WAIT,
    Answer,
    Credit,
    FetchSnapshot,
    Refusal,
    SnapshotChunk,
    SnapshotOffer,
)
from synap.replication.rules.progress import NS_PER_MS
from synap.replication.rules.turns import Turns
from synap.snapshot.folder import Manifest

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1024 * 1024
# More at a time would only share one disk and one network, and keep the first from being ready.
MAX_TRANSFERS = 2
# Who takes less than this within the time after which silence counts, 140 KB/s where that is 30 s,
# makes room while others wait: it comes back for the rest.
_LEAST_BYTES = 4 * CHUNK_BYTES
# A replica that was told to wait is back in one and a half of these at most.
_FORGET_WAITS = 4
# The pin outlives a transfer's last chunk so long at most: the replica unpacks it meanwhile.
_INSTALL_NS = 600 * 1_000_000_000


class SnapshotSource(Protocol):
    """Where snapshots come from. `synap.owner.snapshotter.Snapshotter` is one."""

    def known(self) -> list[tuple[Path, Manifest]]:
        """Return the snapshots that there are, newest first."""

    async def take(self) -> object:
        """Take one that holds what the log holds now; raises SynapError."""

    def distrust(self, manifest: Manifest) -> None:
        """Forget one that turned out to be damaged."""


class ImageCheck:
    """Holds an image against its manifest while it is read; belongs to the reader's thread.

    A disk may have changed it since it was verified. Each replica throws such an image away (R6),
    and would get it again and again.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._sha256 = hashlib.sha256()
        self._seen_bytes = 0

    def take(self, at_byte: int, content: bytes) -> None:
        """Take bytes that were read: what comes next is looked at, all else was or will be.

        Raises:
            SnapshotInvalid: the image ends with these, and is not what the manifest says.
        """
        if at_byte != self._seen_bytes:
            return
        self._sha256.update(content)
        self._seen_bytes += len(content)
        is_whole = self._seen_bytes == self._manifest.bytes
        if is_whole and self._sha256.hexdigest() != self._manifest.sha256:
            raise SnapshotInvalid(self._path, "it is not what was written: its SHA-256 is another")


class _Shared:
    """A snapshot that transfers read, and the log after it."""

    def __init__(self, path: Path, manifest: Manifest, log: ReadableLog) -> None:
        """Pin both; in the reader's thread.

        Raises:
            LogError: the log does not continue the snapshot.
            SnapshotInvalid, OSError: the file is not what it was.
        """
        self.manifest = manifest
        self.sha256 = bytes.fromhex(manifest.sha256)
        self._cursor: LogCursor = log.cursor(manifest.position.offset)
        try:
            if log.position_at(manifest.position.offset) != manifest.position:
                raise SnapshotInvalid(path, "the log does not continue it")
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self._cursor.close()
            raise
        if os.fstat(self._file).st_size != manifest.bytes:
            self.close()
            raise SnapshotInvalid(path, "its size is not the manifest's")
        self.used_ns = 0
        self.is_sound = True
        self._check = ImageCheck(path, manifest)

    def read(self, at_byte: int) -> bytes:
        """Return the next bytes; in the reader's thread.

        Raises:
            SnapshotInvalid: these are the last ones, and the image is not what was written.
            OSError: they can't be read.
        """
        content = os.pread(self._file, CHUNK_BYTES, at_byte)
        if not content:
            raise OSError("the snapshot's file ends too early")
        self._check.take(at_byte, content)
        return content

    def close(self) -> None:
        """Let the file and the log go."""
        os.close(self._file)
        self._cursor.close()


class _Transfer(Transfer):
    def __init__(
        self, peer: bytes, address: str, fetch: FetchSnapshot, at_byte: int, now_ns: int
    ) -> None:
        super().__init__(peer, fetch.request, fetch.credit, now_ns)
        self.address = address
        self.fetch = fetch
        self.at_byte = at_byte
        self._looked_byte = at_byte
        self._looked_ns = now_ns
        self.is_slow = False

    def look(self, now_ns: int, span_ns: int) -> None:
        """Find out, once in each span of time, whether little went out in it."""
        if now_ns - self._looked_ns >= span_ns:
            self.is_slow = self.at_byte - self._looked_byte < _LEAST_BYTES
            self._looked_byte, self._looked_ns = self.at_byte, now_ns


class SnapshotService:
    """The transfers under way. Belongs to the loop's thread.

    Attributes:
        most_transfers: The largest number of transfers that ran at once.
    """

    def __init__(
        self,
        log: ReadableLog,
        source: SnapshotSource,
        reader: Reader,
        send: Callable[[bytes, Answer, bytes | None], bool],
        *,
        wait_ms: int,
        draw: Callable[[], float] = random.random,
        queues: Queues | None = None,
    ) -> None:
        """
        Args:
            log: The master's log.
            source: Its snapshots.
            reader: Where files are read.
            send: Sends a message and its bulk part to a connection; False where that failed.
            wait_ms: How long replicas wait that can't be served yet, before it is spread.
            draw: Random numbers from [0, 1) that spread it.
            queues: What of it has not reached the connections yet; None where none can.
        """
        self.most_transfers = 0
        self._log = log
        self._source = source
        self._reader = reader
        self._send = send
        self._wait_ms = wait_ms
        self._draw = draw
        self._transfers: Transfers[_Transfer] = Transfers(queues or NothingQueued())
        self._lines = LineLimit()
        self._turns = Turns(MAX_TRANSFERS, _FORGET_WAITS * wait_ms * NS_PER_MS)
        # Who has all of it and installs it, since when.
        self._installing: dict[bytes, int] = {}
        self._shared: _Shared | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._readings = 0
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._transfers)

    def fetch(self, peer: bytes, address: str, fetch: FetchSnapshot, now_ns: int) -> None:
        """Begin a transfer, or tell the replica when to ask again.

        Args:
            peer: The connection.
            address: Where it comes from.
            fetch: What it wants.
            now_ns: Monotonic clock.
        """
        self.drop(peer)
        group = client_group(address)
        if not self._turns.comes_to(group, self._held(), now_ns):
            self._make_room()
            if not self._turns.comes_to(group, self._held(), now_ns):
                why = f"{MAX_TRANSFERS} replicas are being sent a snapshot, or have their turn"
                self._tell_to_wait(fetch, peer, why)
                return
        shared = self._shared
        if shared is None or not self._is_good_for(shared, fetch):
            self._prepare(fetch)
            self._tell_to_wait(fetch, peer, "a snapshot is being made ready")
            return
        is_same = fetch.sha256 == shared.sha256 and fetch.after_byte <= shared.manifest.bytes
        transfer = _Transfer(peer, group, fetch, fetch.after_byte if is_same else 0, now_ns)
        self._turns.begin(group)
        self._transfers.add(transfer)
        self.most_transfers = max(self.most_transfers, len(self._transfers))
        shared.used_ns = now_ns
        self._send(peer, _offer_of(shared, transfer), None)
        if self._lines.allows("offer", now_ns):
            logger.info(
                "a snapshot of offset %d goes to a replica, from byte %d of %d",
                shared.manifest.position.offset, transfer.at_byte, shared.manifest.bytes,
                extra={"action": "full_resync", "offset": shared.manifest.position.offset},
            )  # fmt: skip
        self._go_on(transfer)

    def credit(self, peer: bytes, credit: Credit) -> None:
        """Let a transfer send more; an old transfer's credit is ignored."""
        transfer = self._transfers.credit(peer, credit)
        if transfer is not None:
            self._go_on(transfer)

    def drop(self, peer: bytes) -> None:
        """End what a connection has here: its transfer, or its hold on the log after it."""
        self._installing.pop(peer, None)
        self._transfers.take_out(peer)

    def expire(self, now_ns: int, timeout_ns: int) -> None:
        """End transfers without progress, and let a snapshot go that nobody comes back for."""
        for transfer in self._transfers:
            self._go_on(transfer)
            transfer.look(now_ns, timeout_ns)
        for transfer in self._transfers.idle(now_ns, timeout_ns):
            logger.warning(
                "a replica takes no more of its snapshot, which is given up",
                extra={"action": "full_resync"},
            )
            self.drop(transfer.peer)
        for peer, since_ns in tuple(self._installing.items()):
            if now_ns - since_ns > _INSTALL_NS:
                self.drop(peer)
        shared = self._shared
        if shared is None:
            return
        if self._transfers or self._installing:
            shared.used_ns = now_ns
        elif now_ns - shared.used_ns > timeout_ns:
            self._let_go()

    async def close(self) -> None:
        """End everything; the reader must be closed."""
        self._is_closed = True
        for transfer in self._transfers:
            self.drop(transfer.peer)
        if self._preparing is not None:
            self._preparing.cancel()
            with suppress(asyncio.CancelledError):
                await self._preparing
        self._readings = 0
        self._let_go()

    def _held(self) -> list[str]:
        return [transfer.address for transfer in self._transfers]

    def _make_room(self) -> None:
        """While others wait, nobody keeps a second place, nor one of which little is made."""
        if not self._turns.waiting_beside(self._held()):
            return
        for transfer in reversed(list(self._transfers)):
            if transfer.is_slow or self._held().count(transfer.address) > 1:
                self.drop(transfer.peer)
                self._tell_to_wait(transfer.fetch, transfer.peer, "others wait for their turn")
                return

    def _is_good_for(self, shared: _Shared, fetch: FetchSnapshot) -> bool:
        offset = shared.manifest.position.offset
        if offset + 1 < self._log.first_offset:
            # The log after it was found damaged since.
            return False
        if offset < min(fetch.at_least, self._log.position.offset):
            return False
        if not shared.is_sound:
            return False
        if self._transfers or self._installing or fetch.sha256 == shared.sha256:
            return True
        newest = self._source.known()[:1]
        return bool(newest) and newest[0][1].sha256 == shared.manifest.sha256

    def _tell_to_wait(self, fetch: FetchSnapshot, peer: bytes, why: str) -> None:
        # Spread over a whole interval, so that those who came together do not come back together.
        wait_ms = int(self._wait_ms * (0.5 + self._draw()))
        self._send(peer, Refusal(WAIT, why, fetch.request, wait_ms=wait_ms), None)

    def _prepare(self, fetch: FetchSnapshot) -> None:
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._make_ready(fetch))

    async def _make_ready(self, fetch: FetchSnapshot) -> None:
        try:
            held = self._candidates(fetch.sha256)
            if await self._open_one_of(
                [each for each in held if each[1].position.offset >= fetch.at_least]
            ):
                return
            await self._source.take()
            if not await self._open_one_of(self._candidates(b"")):
                logger.error(
                    "no snapshot joins the log, replicas can't be served",
                    extra={"action": "full_resync"},
                )
        except SynapError as error:
            logger.error("no snapshot for a replica: %s", error, extra={"action": "full_resync"})

    def _candidates(self, wanted: bytes) -> list[tuple[Path, Manifest]]:
        """Return the snapshot that a replica holds a part of, then the newest one."""
        known = self._source.known()
        return [each for each in known if each[1].sha256 == wanted.hex()] + known[:1]

    async def _open_one_of(self, candidates: list[tuple[Path, Manifest]]) -> bool:
        for path, manifest in candidates:
            opened: asyncio.Future[_Shared] = asyncio.get_running_loop().create_future()
            self._reader.read(
                partial(_Shared, path, manifest, self._log), partial(_pass_on, opened)
            )
            try:
                shared = await opened
            except (LogError, SnapshotInvalid, OSError) as error:
                logger.info("%s is of no use for a replica: %s", path, error)
                continue
            if self._is_closed or self._transfers:
                shared.close()
                return True
            self._let_go()
            self._shared = shared
            shared.used_ns = time.monotonic_ns()
            return True
        return False

    def _distrust(self) -> None:
        """Offer the shared snapshot to nobody any more, and find another one."""
        if self._shared is not None:
            self._shared.is_sound = False
            self._source.distrust(self._shared.manifest)

    def _let_go(self) -> None:
        # A read under way needs the file; the next look comes with the next beat.
        if self._shared is not None and not self._readings:
            self._shared.close()
            self._shared = None

    def _go_on(self, transfer: _Transfer) -> None:
        shared = self._shared
        if shared is None or transfer.is_over or transfer.is_reading:
            return
        if transfer.at_byte >= shared.manifest.bytes:
            self.drop(transfer.peer)
            self._installing[transfer.peer] = transfer.moved_ns
            return
        if not self._transfers.begin_reading(transfer):
            return
        self._readings += 1
        self._reader.read(
            lambda: shared.read(transfer.at_byte), lambda future: self._deliver(transfer, future)
        )

    def _deliver(self, transfer: _Transfer, future: asyncio.Future[bytes]) -> None:
        if future.cancelled() or self._is_closed:
            return
        self._readings -= 1
        for each in self._transfers.end_reading(transfer):
            self._go_on(each)
        error = future.exception()
        if isinstance(error, SnapshotInvalid):
            # Said once, and true for whoever comes next, also where this transfer is over.
            self._distrust()
        if transfer.is_over:
            return
        if error is not None:
            logger.error("a snapshot can't be read: %s", error, extra={"action": "full_resync"})
            self.drop(transfer.peer)
            self._send(transfer.peer, Refusal(BUSY, str(error), transfer.request), None)
            self._let_go()
            return
        bulk = future.result()
        chunk = SnapshotChunk(transfer.request, transfer.at_byte, crc32(bulk))
        if not self._send(transfer.peer, chunk, bulk):
            self.drop(transfer.peer)
            return
        transfer.at_byte += len(bulk)
        transfer.credit -= 1
        transfer.has_moved = True
        self._go_on(transfer)


def _offer_of(shared: _Shared, transfer: _Transfer) -> SnapshotOffer:
    manifest = shared.manifest
    lineage: Lineage = manifest.lineage[-MAX_REIGNS:]
    return SnapshotOffer(
        request=transfer.request,
        lineage=lineage,
        position=manifest.position,
        time_ms=manifest.time_ms,
        created_ms=manifest.created_ms,
        keys=manifest.keys,
        size=manifest.bytes,
        sha256=shared.sha256,
        compression=manifest.compression,
        at_byte=transfer.at_byte,
        plain_bytes=manifest.plain_bytes,
    )


def _pass_on(opened: asyncio.Future[_Shared], found: asyncio.Future[_Shared]) -> None:
    if found.cancelled():
        opened.cancel()
    elif opened.cancelled():
        if found.exception() is None:
            found.result().close()
    elif (error := found.exception()) is not None:
        opened.set_exception(error)
    else:
        opened.set_result(found.result())
