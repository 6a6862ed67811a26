"""Asks another node for records, one after the other, on the loop of the log's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from synap.errors import ProtocolViolation, VerifyFailed
from synap.replication.rules.mending import Copy, Damage
from synap.replication.rules.record_copies import Gathering, Piece

# A record's next piece, at most; a master's queue may hold chunks before it.
_ANSWER_SECONDS = 5.0
# What is taken at a time: the rest is asked for in the next round.
_MOST_BYTES = 64 * 1024 * 1024

# Asks for a record from a byte on; returns the request's number, None where nobody can be asked.
Ask = Callable[[Damage, int], int | None]
Found = dict[tuple[int, bytes], Copy]


class RecordAsking:
    """One node's questions to one other; belongs to the loop that `find` runs on."""

    def __init__(self, source: str, ask: Ask) -> None:
        """
        Args:
            source: Who is asked, for people.
            ask: Sends a question.
        """
        self._source = source
        self._ask = ask
        self._request: int | None = None
        self._piece: asyncio.Future[Piece] | None = None

    def hear(self, piece: Piece) -> None:
        """Take an answer; one to an older question is nobody's."""
        waiting = self._piece
        if waiting is not None and not waiting.done() and piece.request == self._request:
            waiting.set_result(piece)

    async def find(self, wanted: Sequence[Damage]) -> Found:
        """Return what the other node has, by space and key.

        Raises:
            VerifyFailed: it can't be asked, or does not answer.
        """
        found: Found = {}
        left_bytes = _MOST_BYTES
        for damage in wanted:
            copy = await self._find(damage)
            if copy is not None:
                found[damage.space, damage.key] = copy
                left_bytes -= len(copy.raw or b"")
            if left_bytes <= 0:
                break
        return found

    async def _find(self, damage: Damage) -> Copy | None:
        gathering = Gathering(self._source)
        while not gathering.is_over:
            self._request = self._ask(damage, gathering.wanted_byte)
            if self._request is None:
                raise VerifyFailed("it can't be asked now")
            self._piece = asyncio.get_running_loop().create_future()
            try:
                gathering.take(await asyncio.wait_for(self._piece, _ANSWER_SECONDS))
            except TimeoutError as error:
                raise VerifyFailed("it does not answer") from error
            except ProtocolViolation as error:
                raise VerifyFailed(str(error)) from error
            finally:
                self._piece = None
        return gathering.copy
