"""The rules of the memory limit: who goes, when writes are refused, how often a key is used.

Nothing here reads a store, a clock or shared memory: `evictor` brings sizes, samples and scores
together, and `access_table` keeps the scores. A score is a key's coldness: the higher, the sooner
it goes.

Source: Redis, evict.c: the pool of the best candidates over several samples, and the logarithmic
counter with decay (`LFULogIncr`, `LFUDecrAndReturn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

from synap.commands.commands import Command
from synap.commands.keyspace import Keyspace, Limits, Trial
from synap.request_errors import CommandError

Order = Literal["none", "recency", "frequency", "random", "deadline"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What may go, and in which order.

    Attributes:
        order: `none` evicts nothing; `recency` and `frequency` need the times of access.
        is_volatile: Only keys with a TTL may go.
    """

    order: Order
    is_volatile: bool = False


POLICIES = {
    "noeviction": Policy("none"),
    "allkeys-lru": Policy("recency"),
    "volatile-lru": Policy("recency", is_volatile=True),
    "allkeys-lfu": Policy("frequency"),
    "volatile-lfu": Policy("frequency", is_volatile=True),
    "allkeys-random": Policy("random"),
    "volatile-random": Policy("random", is_volatile=True),
    "volatile-ttl": Policy("deadline", is_volatile=True),
}

# A counter of uses, 0 to 255. A new key begins above 0, or it would go before it is ever used.
FIRST_COUNT = 5
MAX_COUNT = 255
_LOG_FACTOR = 10
_COUNT_BITS = 8
_MINUTES = (1 << 24) - 1

COUNT_CHANCES = tuple(
    0.0 if count == MAX_COUNT else 1 / (max(0, count - FIRST_COUNT) * _LOG_FACTOR + 1)
    for count in range(MAX_COUNT + 1)
)
"""The chance that a use raises a counter, by its value: 255 stands for about a million uses."""


def decayed_count(cell: int, clock: int) -> int:
    """Return a counter as it is now: one less for each minute since the key was last used.

    Args:
        cell: Minute of the last use in the upper 24 bits, the counter of then in the lower 8.
        clock: The minute now, in the same bits.
    """
    minutes = ((clock >> _COUNT_BITS) - (cell >> _COUNT_BITS)) & _MINUTES
    return max(0, (cell & MAX_COUNT) - minutes)


class Pool:
    """The coldest keys of the samples so far.

    A sample is small, and the coldest of one is mostly not a cold key. What a sample leaves over
    goes on to compete with the next ones.
    """

    def __init__(self, size: int = 16) -> None:
        self._size = size
        self._left: list[tuple[bytes, float]] = []

    def __len__(self) -> int:
        return len(self._left)

    def coldest(
        self, sample: Iterable[bytes], count: int, score_of: Callable[[bytes], float]
    ) -> list[bytes]:
        """Take out the coldest keys of the sample and of what earlier ones left over.

        Args:
            count: At most so many.
            score_of: The score now. A key of an earlier sample that is less cold than it was then
                has been used since, and is dropped.
        """
        scores = {key: now for key, then in self._left if (now := score_of(key)) >= then}
        for key in sample:
            scores[key] = score_of(key)
        ranked = sorted(scores.items(), key=itemgetter(1), reverse=True)
        self._left = ranked[count : count + self._size]
        return [key for key, _ in ranked[:count]]

    def clear(self) -> None:
        """Forget what was left over."""
        self._left.clear()


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The limit, in bytes of used pages; 0 is none.

    Writes that are refused are taken again only below `resume_bytes`: a store at its limit would
    otherwise take every other write.
    """

    limit_bytes: int

    @property
    def resume_bytes(self) -> int:
        return self.limit_bytes - self.limit_bytes // 50

    @property
    def begin_bytes(self) -> int:
        """Where keys go or writes are refused: one turn's split pages must still fit."""
        return self.limit_bytes - self.slack_bytes

    @property
    def slack_bytes(self) -> int:
        """How far above `begin_bytes` it may stand before more goes than comes."""
        return self.limit_bytes // 100

    def goal_bytes(self, over_bytes: int, grown_bytes: int, *, is_sparse: bool) -> int:
        """Return the bytes of keys that are to go.

        Removing keys makes holes, and pages are only given back when they are nearly empty: to
        evict until the pages are few enough would empty half of the store. So as much goes as has
        come, the holes are closed by tidying, and only where there are few holes, or the limit is
        left behind, does more go.

        Args:
            over_bytes: Used pages above `begin_bytes`; above 0.
            grown_bytes: What keys have come to since the last time.
            is_sparse: Whether the pages have holes that are worth closing.
        """
        if is_sparse and over_bytes <= self.slack_bytes:
            return max(0, grown_bytes)
        return max(0, grown_bytes) + over_bytes


def grows(command: Command, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
    """Say whether `command` would leave more bytes of keys and values than there are.

    A command that can't be carried out does not grow anything.
    """
    trial = Trial(keyspace)
    try:
        command.evaluate(trial, now_ms, limits)
    except CommandError:
        return False
    return trial.growth_bytes > 0
