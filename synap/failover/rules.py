"""What a promotion needs so that nothing acknowledged is lost: seals, and nobody ahead.

Plain values: no clock, no socket. A voter that is sealed acknowledges nothing of the reigns before
any more, and tells what it holds. Where each write waits for N of V voters, every N of them include
one of V - N + 1: so that many seals, with nobody among the sealed ahead of the candidate, leave no
acknowledged write that the candidate lacks.

Source: docs/protocol.md, "Seals".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from synap.replication.rules.reigns import Rank


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node's data is worth, by its own word.

    Attributes:
        id: Its `server.node_id`.
        rank: Of its data.
    """

    id: str
    rank: Rank


def needed_seals(voters: int, quorum: int) -> int:
    """Return how many seals a promotion needs, the candidate's counted.

    Args:
        voters: How many replicas the reign had whose acks counted.
        quorum: How many of them each write waited for; 0 for none.
    """
    return max(1, voters - quorum + 1) if quorum else 1


def best(standings: Iterable[Standing]) -> Standing | None:
    """Return who holds most, by rank and then by name; None of nobody."""
    return max(standings, key=lambda each: (each.rank, each.id), default=None)


def ahead_of(rank: Rank, standings: Iterable[Standing]) -> Standing | None:
    """Return who holds more than a candidate of that rank, the best of them; None for nobody."""
    found = best(standings)
    return found if found is not None and found.rank > rank else None


def sealing_epoch(known: Iterable[int]) -> int:
    """Return the number of the next reign, above all that somebody knows."""
    return max(known, default=0) + 1
