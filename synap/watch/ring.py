"""The newest frames, for the watchers that keep up."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from synap.watch.changes import Batch

_last_offset = attrgetter("last_offset")
# The list is cut when so many are dropped: each cut moves what is left.
_DROPPED_AT_ONCE = 256


class Ring:
    """Batches that follow each other, the newest of them; bounded in bytes.

    Attributes:
        start: The offset before the oldest one.
        head: The last offset.
        size: About what it holds, in bytes.
    """

    def __init__(self, head: int, max_bytes: int) -> None:
        self.start = self.head = head
        self.size = 0
        self._max_bytes = max_bytes
        self._batches: list[Batch] = []
        self._dropped = 0

    def add(self, batch: Batch) -> None:
        """Take the batch that follows, and drop old ones; the newest stays in any case."""
        assert batch.first_offset == self.head + 1, "it follows"
        self._batches.append(batch)
        self.head = batch.last_offset
        self.size += batch.size
        while self.size > self._max_bytes and self._dropped < len(self._batches) - 1:
            oldest = self._batches[self._dropped]
            self._dropped += 1
            self.start = oldest.last_offset
            self.size -= oldest.size
        if self._dropped >= _DROPPED_AT_ONCE or self._dropped * 2 > len(self._batches):
            del self._batches[: self._dropped]
            self._dropped = 0

    def after(self, offset: int, until: int) -> list[Batch] | None:
        """Return the batches that end after `offset` and up to `until`; None where some are gone.

        Where `offset` is inside of one, that is the first of them.
        """
        if offset < self.start:
            return None
        batches = self._batches
        first = bisect_right(batches, offset, lo=self._dropped, key=_last_offset)
        end = len(batches)
        if until < self.head:
            end = bisect_right(batches, until, lo=first, key=_last_offset)
        return batches[first:end]
