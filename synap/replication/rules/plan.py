"""What a joining replica gets: the rules, from plain values.

The master asks `decide` when a replica says hello; the replica asks `objection` before it believes
a welcome. Neither trusts the other's word on whether two logs are one. No sockets, no clock.

Two logs agree up to an offset where their positions there are equal. A reign's history id is
random, so a reign that both lineages hold stands for the same beginning of the log.

After redis `masterTryPartialResynchronization`: every refusal says what was asked and what is held.
"""

from __future__ import annotations

import msgspec

from synap.position import Lineage, Position, Reign
from synap.replication.rules.reigns import outranks


class MasterFacts(msgspec.Struct, frozen=True):
    """The master's log as far as a decision needs it.

    Attributes:
        lineage: Its reigns, oldest first.
        position: Its end.
        first_offset: The oldest offset that it still holds; `position.offset + 1` where it holds
            none.
        at_replica: Its position at the replica's offset; None where no frame of it ends there or
            where it does not reach back so far.
    """

    lineage: Lineage
    position: Position
    first_offset: int
    at_replica: Position | None


class CatchUp(msgspec.Struct, frozen=True):
    """The replica's log is a beginning of the master's; it gets the frames that follow."""

    after_offset: int


class FullResync(msgspec.Struct, frozen=True):
    """The two may be one history, but the master's log begins too late for the replica."""

    reason: str


class Diverged(msgspec.Struct, frozen=True):
    """The replica's log is not a beginning of the master's.

    Attributes:
        reason: A sentence for the operator.
        common_offset: The last offset that both may agree on; 0 where they share no reign.
    """

    reason: str
    common_offset: int = 0


Plan = CatchUp | FullResync | Diverged


class Replace(msgspec.Struct, frozen=True):
    """A refused replica takes the master's snapshot in place of its own state.

    Attributes:
        kept_after: Its own entries behind this offset are put aside, for the master's log does not
            hold them; None where there are none.
        keeps_store: Its live store is put aside too: nothing of it is the master's.
    """

    kept_after: int | None = None
    keeps_store: bool = False


class Hold(msgspec.Struct, frozen=True):
    """A refused replica keeps its data and its reads, and waits for the operator's word."""

    reason: str


Remedy = Replace | Hold


def decide(replica: Position, lineage: Lineage, master: MasterFacts) -> Plan:
    """Decide what a replica gets whose log ends at `replica` and went through `lineage`."""
    asked, held = replica.offset, master.first_offset
    if asked > 0:
        disagreement = _disagreement(replica, lineage, master.lineage, master.position)
        if disagreement is not None:
            return disagreement
    if asked + 1 < held:
        return FullResync(
            f"the replica asks for offset {asked + 1}, the master's log begins at {held}"
        )
    if asked > 0 and master.at_replica != replica:
        there = master.at_replica or "no end of a frame"
        return Diverged(f"the replica's log stands at {replica}, the master's has {there} there")
    return CatchUp(asked)


def is_ahead(replica: Position, lineage: Lineage, master: Lineage, end: Position) -> bool:
    """Say whether a replica holds what the master's own lineage says comes after `end`.

    Args:
        replica: The end of the replica's log.
        lineage: Its reigns.
        master: The master's reigns.
        end: The end of the master's log, which may have lost its tail.
    """
    if replica.offset <= end.offset:
        return False
    unbroken = Position(end.epoch, replica.offset, end.rolling)
    return _common_offset(replica, lineage, master, unbroken) >= replica.offset


def is_behind(replica: Position, lineage: Lineage, relay: Lineage, end: Position) -> bool:
    """Say whether a relay lacks what a replica of the same master has, entries or a reign.

    Args:
        replica: The end of the replica's log.
        lineage: Its reigns.
        relay: The relay's reigns.
        end: The end of the relay's log.
    """
    if is_ahead(replica, lineage, relay, end):
        return True
    return not set(lineage).isdisjoint(relay) and outranks(lineage, relay)


def objection(
    own: Position, lineage: Lineage, offered: Lineage, master: Position
) -> Diverged | None:
    """Return why a replica must not follow a master that welcomes it; None where it may.

    Args:
        own: The end of the replica's log.
        lineage: Its reigns.
        offered: The master's reigns.
        master: The end of the master's log.
    """
    if not offered:
        return Diverged("the master names no lineage")
    if own.offset == 0:
        return None
    return _disagreement(own, lineage, offered, master)


def remedy(
    own: Position, lineage: Lineage, offered: Lineage, master: Position, *, is_accepted: bool
) -> Remedy:
    """Return what a replica does that a master does not welcome, or that is offered a snapshot.

    Args:
        own: The end of the replica's log.
        lineage: Its reigns.
        offered: The master's reigns, or the snapshot's.
        master: The end of the master's log, or where the snapshot stands.
        is_accepted: The operator has accepted this master's data in place of the replica's.
    """
    if not offered:
        return Hold("the master names no lineage")
    if own.offset == 0:
        return Replace()
    if is_accepted:
        return Replace(kept_after=0, keeps_store=True)
    disagreement = _disagreement(own, lineage, offered, master)
    if disagreement is None:
        return Replace()
    common = disagreement.common_offset
    if common == 0 or own.offset <= common:
        return Hold(disagreement.reason)
    if outranks(lineage, offered):
        return Hold(
            f"the replica has seen epoch {lineage[-1].epoch}, the master's reign of epoch "
            f"{offered[-1].epoch} has ended"
        )
    return Replace(kept_after=common)


def _disagreement(
    replica: Position, lineage: Lineage, master_lineage: Lineage, master: Position
) -> Diverged | None:
    common = _common_offset(replica, lineage, master_lineage, master)
    if replica.offset <= common:
        if outranks(lineage, master_lineage):
            return Diverged(
                f"the replica has seen epoch {lineage[-1].epoch}, the master's reign of epoch "
                f"{master_lineage[-1].epoch} has ended",
                common,
            )
        return None
    if common == 0:
        return Diverged(
            f"the replica holds {_histories(lineage)} up to offset {replica.offset}, the master "
            f"holds {_histories(master_lineage)} up to {master.offset}; they share no history"
        )
    return Diverged(
        f"the replica holds offset {replica.offset}, but its log and the master's part at {common}",
        common,
    )


def _common_offset(
    replica: Position, lineage: Lineage, master_lineage: Lineage, master: Position
) -> int:
    """Return the last offset up to which both lineages name the same reigns."""
    held_by_master = set(master_lineage)
    for reign in reversed([reign for reign in lineage if reign.epoch <= replica.epoch]):
        if reign in held_by_master:
            ends = (
                _last_offset(reign, lineage, replica.offset),
                _last_offset(reign, master_lineage, master.offset),
            )
            return max(min(ends), 0)
    return 0


def _last_offset(reign: Reign, lineage: Lineage, end: int) -> int:
    following = lineage.index(reign) + 1
    if following == len(lineage):
        return end
    return min(end, lineage[following].first_offset - 1)


def _histories(lineage: Lineage) -> str:
    return "history " + lineage[-1].history.hex() if lineage else "no history"
