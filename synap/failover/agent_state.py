"""What an agent tells its node's other processes, for `/cluster` and the metrics."""

from __future__ import annotations

import msgspec

from synap.failover.rules import Member, Settings, View, heir_of, needed_seals


class AgentState(msgspec.Struct, frozen=True):
    """What the agent knows.

    Attributes:
        leader: `server.node_id` of who holds the key; empty for nobody.
        epoch: Number of that reign.
        is_own: It is this node.
        is_paused: Maintenance.
        quorum: What a promotion goes by.
        voters: Whose acks may count.
        next: Who would take a lost master's place; empty for nobody.
        would_lose: Entries of the leader's that this one lacks, as far as is known.
        missing: Voters that are not there.
        seals_needed: How many of the voters that are left must be there for a lost master's place.
        seals_ready: How many of these are there.
        can_replace: They are enough, and one of them is fit for it.
        note: What the agent waits for, or what is wrong; empty for nothing.
        at_ms: Wall clock when the engine answered last.
        lease_until_ms: Wall clock at which this node's own lease ends; 0 where it has no key.
    """

    leader: str = ""
    epoch: int = 0
    is_own: bool = False
    is_paused: bool = False
    quorum: int = 0
    voters: tuple[str, ...] = ()
    next: str = ""
    would_lose: int = 0
    missing: tuple[str, ...] = ()
    seals_needed: int = 0
    seals_ready: int = 0
    can_replace: bool = False
    note: str = ""
    at_ms: int = 0
    lease_until_ms: int = 0


def state_of(view: View, own: Member, *, is_own: bool, note: str) -> AgentState:
    """Return what the engine's keys come to, without the times."""
    settings, leader = view.settings or Settings(), view.leader
    members = {**view.members, own.id: own}
    heir = heir_of(members, settings, leader)
    needed = needed_seals(len(settings.voters) - 1, settings.quorum)
    left = [
        each
        for each in settings.voters
        if each in members and members[each].rank.epoch and not (leader and each == leader.id)
    ]
    return AgentState(
        leader=leader.id if leader else "",
        epoch=leader.epoch if leader else 0,
        is_own=is_own,
        is_paused=settings.is_paused,
        quorum=settings.quorum,
        voters=settings.voters,
        next=heir.id if heir else "",
        would_lose=max(0, leader.offset - heir.rank.offset) if leader and heir else 0,
        missing=tuple(each for each in settings.voters if each not in members),
        seals_needed=needed,
        seals_ready=len(left),
        can_replace=heir is not None and len(left) >= needed and not settings.is_paused,
        note=note,
    )
