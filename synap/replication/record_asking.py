"""Asks another node for records, and for sums over ranges, on the loop of the log's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from synap.errors import ProtocolViolation, VerifyFailed
from synap.replication.rules.mending import Copy, Damage
from synap.replication.rules.messages import Digest
from synap.replication.rules.record_copies import Gathering, Piece

# An answer, at most; a master's queue may hold chunks before it.
_ANSWER_SECONDS = 5.0
# What is taken at a time: the rest is asked for in the next round.
_MOST_BYTES = 64 * 1024 * 1024

# Asks for a record from a byte on; returns the request's number, None where nobody can be asked.
Ask = Callable[[Damage, int], int | None]
Found = dict[tuple[int, bytes], Copy]


class RecordAsking:
    """One node's questions to one other; belongs to the loop that they are asked on."""

    def __init__(self, source: str, ask: Ask) -> None:
        """
        Args:
            source: Who is asked, for people.
            ask: Sends a question for a record.
        """
        self._source = source
        self._ask = ask
        self._waiting: dict[int, asyncio.Future[Piece | Digest]] = {}

    def hear(self, answer: Piece | Digest) -> None:
        """Take an answer; one to a question that nobody waits for is nobody's."""
        waiting = self._waiting.get(answer.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

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

    async def answer(self, ask: Callable[[], int | None]) -> Piece | Digest:
        """Send a question and return its answer; errors as `find`.

        Args:
            ask: Sends it; returns its number, None where nobody can be asked.
        """
        request = ask()
        if request is None:
            raise VerifyFailed("it can't be asked now")
        waiting = self._waiting[request] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(waiting, _ANSWER_SECONDS)
        except TimeoutError as error:
            raise VerifyFailed("it does not answer") from error
        finally:
            del self._waiting[request]

    async def _find(self, damage: Damage) -> Copy | None:
        gathering = Gathering(self._source)
        while not gathering.is_over:
            at_byte = gathering.wanted_byte
            answer = await self.answer(lambda at=at_byte: self._ask(damage, at))  # type: ignore[misc]
            try:
                if not isinstance(answer, Digest):
                    gathering.take(answer)
            except ProtocolViolation as error:
                raise VerifyFailed(str(error)) from error
        return gathering.copy
