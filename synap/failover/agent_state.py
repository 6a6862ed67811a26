"""What an agent tells its node's other processes, for `/cluster` and the metrics."""

from __future__ import annotations

import msgspec

from synap.failover.rules import Member, Settings, View, heir_of


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
        note: What the agent waits for, or what is wrong; empty for nothing.
        at_ms: Wall clock of this state.
        lease_ms: For how much longer from then on this node's own lease counts; 0 for none.
    """

    leader: str = ""
    epoch: int = 0
    is_own: bool = False
    is_paused: bool = False
    quorum: int = 0
    voters: tuple[str, ...] = ()
    next: str = ""
    would_lose: int = 0
    note: str = ""
    at_ms: int = 0
    lease_ms: int = 0


def state_of(view: View, own: Member, *, is_own: bool, note: str) -> AgentState:
    """Return what the engine's keys come to, without the times."""
    settings, leader = view.settings or Settings(), view.leader
    heir = heir_of({**view.members, own.id: own}, settings, leader)
    return AgentState(
        leader=leader.id if leader else "",
        epoch=leader.epoch if leader else 0,
        is_own=is_own,
        is_paused=settings.is_paused,
        quorum=settings.quorum,
        voters=settings.voters,
        next=heir.id if heir else "",
        would_lose=max(0, leader.offset - heir.rank.offset) if leader and heir else 0,
        note=note,
    )
