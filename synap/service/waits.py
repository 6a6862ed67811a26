"""What waits on a worker for its clients, shared among them."""

from __future__ import annotations

from synap.request_errors import ShareTaken
from synap.shares import Holder, Shares


class Waits:
    """What waits on this worker for its clients, of which each has a share."""

    def __init__(self, what: str, total: int) -> None:
        """
        Args:
            what: What waits, in the plural.
            total: How many there may be.
        """
        self._what = what
        self._shares = Shares(total)

    def begin(self, holder: Holder) -> None:
        """Count one more; `end` takes it back.

        Raises:
            ShareTaken: the holder has too many already.
        """
        if not self._shares.take(holder, 1):
            raise ShareTaken(self._what, "on a worker", self._shares.total)

    def end(self, holder: Holder) -> None:
        """Count one less."""
        self._shares.give_back(holder, 1)
