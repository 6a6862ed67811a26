"""The node's log as the watchers of one worker see it: the look at it, and its newest frames.

What is applied is read from the log's files, behind the log's owner and without a word with it.
Where the log becomes another one (a promotion that lost something, a full resync) the look begins
anew, and whoever follows is told before and after.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from synap.errors import ReadRefused, StoreError
from synap.place import NO_REIGNS, LogEnd, Place, Reigns
from synap.position import START
from synap.service.local_node import LocalNode
from synap.store import Applied, StoreReader
from synap.watch.changes import Batch, batches_of
from synap.watch.log_files import LogFiles
from synap.watch.resume import Reset, reset_for
from synap.watch.ring import Ring
from synap.watch.tail import UNREADABLE, LogChanged, Tail

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1


class Followers(Protocol):
    """Who is told what the log does."""

    def log_moves(self, batches: Sequence[Batch]) -> None:
        """Learn what follows; the ring has it already."""

    def log_breaks(self) -> None:
        """Learn that no place holds any more; the ring and the lineage are still the old ones."""

    def log_begins(self) -> None:
        """Learn that there is a new ring, which is empty, and a lineage."""


class TailedLog:
    """The log, between `begin` and `forget`; belongs to the worker's loop but for `read_files`.

    Attributes:
        ring: The newest frames.
        reigns: The lineage of what watchers are told.
    """

    ring: Ring
    reigns: Reigns

    def __init__(self, node: LocalNode, link: Path, buffer_bytes: int, to: Followers) -> None:
        """
        Args:
            node: The worker's share of its node.
            link: See `LogFiles`.
            buffer_bytes: What the ring may hold.
            to: Told what happens, in `follow` and `begin`.
        """
        self._node = node
        self._buffer_bytes = buffer_bytes
        self._to = to
        self._files = LogFiles(link)
        self._tail: Tail | None = None
        self.forget()

    def begin(self) -> None:
        """Begin to follow.

        Raises:
            ReadRefused: nothing can be read for now.
        """
        self._restart(self._node.reader())

    def forget(self) -> None:
        """Know nothing of the log."""
        if self._tail is not None:
            self._tail.close()
        self.ring = Ring(0, self._buffer_bytes)
        self.reigns = NO_REIGNS
        self._tail = None
        self._reader: StoreReader | None = None
        self._seen: LogEnd | None = None
        self._retry_at = 0.0

    def follow(self) -> bool:
        """Take what was applied since the last look; return whether there was something.

        Raises:
            ReadRefused, StoreError: nothing can be read for now.
        """
        reader = self._node.reader()
        end = reader.end()
        if end is self._seen and reader is self._reader:
            return False
        applied = reader.applied()
        reigns = self._node.reigns(applied.history)
        if reigns is NO_REIGNS and applied.position.offset:
            # node.json says so in a moment.
            return False
        tail = self._tail
        if tail is None or reader is not self._reader or not tail.is_on(applied, reigns):
            self._restart(reader)
            return True
        try:
            batches = tail.read(applied, reigns)
        except LogChanged as error:
            logger.info("the feed looks at the log anew: %s", error, extra={"action": "watch"})
            self._restart(reader)
            return True
        self._take(batches, reigns)
        if tail.position.offset >= applied.position.offset:
            self._seen = end
        return True

    def _take(self, batches: list[Batch], reigns: Reigns) -> None:
        self.reigns = reigns
        for batch in batches:
            self.ring.add(batch)
        self._to.log_moves(batches)

    def _restart(self, reader: StoreReader) -> None:
        """Begin at what is applied now; every place is to be looked at anew."""
        now = time.monotonic()
        if self._tail is None and now < self._retry_at:
            return
        self._to.log_breaks()
        if self._tail is not None:
            self._tail.close()
        self._tail = self._seen = None
        applied = reader.applied()
        reigns = self._node.reigns(applied.history)
        try:
            self._tail = Tail(self._files, applied, reigns)
        except LogChanged as error:
            self._retry_at = now + _RETRY_SECONDS
            logger.info("the feed can't read the log: %s", error, extra={"action": "watch"})
            if self.ring.head == 0 and applied.position != START:
                self._begin_at(applied, reigns)
            return
        self._reader = reader
        self._begin_at(applied, reigns)

    def _begin_at(self, applied: Applied, reigns: Reigns) -> None:
        self.reigns = reigns
        self.ring = Ring(applied.position.offset, self._buffer_bytes)
        self._to.log_begins()

    def reset_for(self, place: Place) -> Reset | bool | None:
        """Return why the log does not go on from `place`; True where it does, None for not yet."""
        with suppress(ReadRefused, StoreError):
            self.follow()
        tail = self._tail
        if tail is None:
            return None
        if place.offset < self.ring.start:
            with suppress(*UNREADABLE, ReadRefused, StoreError):
                # What went with a checkpoint meanwhile.
                self._files.see(self._node.reader().applied(), anew=True)
        reset = reset_for(place, tail.reigns, tail.position, self._files.first_offset)
        if reset is None:
            return True if place.offset <= tail.position.offset else None
        return reset

    def read_files(self, offset: int, limit_bytes: int, reigns: Reigns) -> list[Batch]:
        """Return some batches from the log's files, in any thread; see `LogFiles.read_after`."""
        return batches_of(self._files.read_after(offset, limit_bytes), reigns)
