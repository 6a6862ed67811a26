"""Whether a node's log goes on from a place that a client names.

A client that went on from somewhere stands to the node as a replica does to its master, and the
same rules decide: see `synap.replication.rules.plan`.
"""

from __future__ import annotations

import msgspec

from synap.place import Place, Reigns, tag_of
from synap.position import NO_HISTORY, START, Lineage, Position, Reign
from synap.replication.rules.plan import CatchUp, Diverged, FullResync, MasterFacts, decide

COMPACTED = "compacted"
DIVERGED = "diverged"


class Reset(msgspec.Struct, frozen=True):
    """The log does not go on from there: what the client knows must be had anew.

    Attributes:
        reason: COMPACTED where the log begins later, DIVERGED where it is another one.
        oldest: The first offset from which it can be followed.
        common: The last offset that both hold; None where there is none.
    """

    reason: str
    oldest: int
    common: int | None


def reset_for(place: Place, reigns: Reigns, end: Position, first_offset: int) -> Reset | None:
    """Return why the log does not go on from `place`; None where it does.

    Args:
        place: What the client has seen last.
        reigns: The lineage of what is applied.
        end: Where the applied log ends.
        first_offset: Offset of the oldest entry that the files hold, or will.
    """
    lineage = _lineage_of(place, reigns)
    epoch = lineage[-1].epoch if lineage else 0
    stands = Position(epoch, place.offset, 0) if place.offset else START
    # Which reign wrote an entry tells whose it is: there is no other checksum to compare.
    facts = MasterFacts(reigns.lineage, end, first_offset, stands)
    oldest = first_offset - 1
    match decide(stands, lineage, facts):
        case CatchUp():
            return None
        case FullResync():
            return Reset(COMPACTED, oldest, place.offset)
        case Diverged(common_offset=common):
            return Reset(DIVERGED, oldest, common or None)


def _lineage_of(place: Place, reigns: Reigns) -> Lineage:
    """Return the reigns that a log went through which ends with `place`."""
    if not place.offset:
        return ()
    for number, reign in enumerate(reigns.lineage, 1):
        if tag_of(reign.history) == place.tag and reign.first_offset <= place.offset:
            return reigns.lineage[:number]
    # A stranger's.
    return (Reign(0, NO_HISTORY, 1),)
