"""What a promotion needs so that nothing acknowledged is lost: seals, and nobody ahead.

Plain values: no clock, no socket. A voter that is sealed acknowledges nothing of the reigns before
any more, and tells what it holds. Where each write waits for N of V voters, every N of them include
one of V - N + 1: so that many seals, with nobody among the sealed ahead of the candidate, leave no
acknowledged write that the candidate lacks.

Source: docs/protocol.md, "Seals".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

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


class Leader(msgspec.Struct, frozen=True):
    """Who holds the key.

    Attributes:
        id: `server.node_id`.
        node: Random name of its data directory, which no other node has.
        epoch: Number of the reign that goes with the key.
        is_reigning: It was promoted and may be followed; else it still asks for seals.
        pub: Its PUB socket as others reach it.
        sync: Its ROUTER socket.
        url: Where clients reach it.
        offset: Where its log ended when it told so last.
    """

    id: str
    node: str
    epoch: int
    is_reigning: bool
    pub: str
    sync: str
    url: str
    offset: int = 0


class Member(msgspec.Struct, frozen=True):
    """A node, by its own word; stale by up to a loop.

    Attributes:
        id: `server.node_id`.
        url: Where it is reached.
        rank: What its data is worth.
        is_reigning: It is a master that no other one has ended.
        unfit: Why it can't be the master; empty where it can.
        known_epoch: The highest epoch that it knows, promised ones too.
        is_joined: It follows the reigning master, and has all that this had.
        votes: Its acks may count.
        priority: Of equal nodes the higher one leads.
    """

    id: str
    url: str
    rank: Rank
    is_reigning: bool = False
    unfit: str = ""
    known_epoch: int = 0
    is_joined: bool = False
    votes: bool = True
    priority: int = 0

    @property
    def order(self) -> tuple[int, bool, int, int, int, str]:
        """What compares two candidates: a master that reigns is not replaced by its equals."""
        asked, epoch, offset = self.rank
        return asked, self.is_reigning, epoch, offset, self.priority, self.id


class Settings(msgspec.Struct, frozen=True):
    """What the cluster has agreed on.

    Attributes:
        quorum: How many voters each write waits for, at least.
        voters: Whose acks may count, the master's own name with them.
        is_paused: Maintenance: nobody takes a lost master's place.
        histories: Ids of the last leader's newest reigns, in hex.
        leaving: Voters whose acks count no more, until the others hold what they acknowledged.
    """

    quorum: int = 0
    voters: tuple[str, ...] = ()
    is_paused: bool = False
    histories: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[str, ...]:
        """Whose acks may count from now on."""
        return tuple(each for each in self.voters if each not in self.leaving)

    def without_leaving(self) -> Settings:
        """Return the settings when the others hold what those who leave acknowledged."""
        return msgspec.structs.replace(self, voters=self.counted, leaving=())


class Handover(msgspec.Struct, frozen=True):
    """A master that stepped down names the next one.

    Attributes:
        to: `server.node_id`.
        rank: What the old master's data was worth, which it can't add to any more.
        by: `server.node_id` of the old one.
    """

    to: str
    rank: Rank
    by: str


@dataclass(frozen=True, slots=True)
class View:
    """What the engine's keys say.

    Attributes:
        leader: Who holds the key; None for nobody.
        leader_lease: The lease that the key goes with.
        is_taken: There is such a key, whatever it says.
        members: The nodes whose lease lives, by name.
        epoch: The last one that was given.
        settings: None in a cluster that had no master yet.
        handover: A planned change that is under way; None for none.
        wanted: Whom an operator wants as master; empty for nobody.
        revisions: Last change of each key.
    """

    leader: Leader | None
    leader_lease: int
    is_taken: bool
    members: Mapping[str, Member]
    epoch: int
    settings: Settings | None
    handover: Handover | None
    wanted: str
    revisions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Vacancy:
    """What an agent knows of a key that nobody holds.

    Attributes:
        seconds: For how long it has seen that.
        had_leader: It has seen one before; else the whole cluster may be starting.
        last_offset: Where the last leader's log ended, as far as it told.
        hears_master: This node's replica still hears its master.
    """

    seconds: float
    had_leader: bool
    last_offset: int
    hears_master: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What an agent goes by.

    Attributes:
        ttl_seconds: Of a lease.
        max_lag_entries: With no quorum: what a candidate may lack.
    """

    ttl_seconds: float
    max_lag_entries: int


def seals_for(settings: Settings | None, handover: Handover | None, own: Member) -> int:
    """Return how many seals a candidate needs, its own counted.

    One is enough for whom the old master itself named: it logs nothing any more, and the candidate
    holds all that it had.
    """
    if settings is None or is_heir(handover, own):
        return 1
    # One of them was the master, whose own log counts for none of its writes.
    return needed_seals(len(settings.voters) - 1, settings.quorum)


def is_heir(handover: Handover | None, own: Member) -> bool:
    """Say whether the old master has handed over to this node, which has all that it had."""
    return handover is not None and handover.to == own.id and own.rank >= handover.rank


def why_wait(
    view: View, own: Member, histories: Iterable[str], vacancy: Vacancy, terms: Terms
) -> str:
    """Return why a node does not go for a key that nobody holds; empty where it does.

    Args:
        own: The node's facts, as they are now.
        histories: Ids of its reigns, in hex.
    """
    settings = view.settings
    if own.unfit:
        return own.unfit
    if settings is None:
        others = [each for each in view.members.values() if each.id != own.id and not each.unfit]
        ahead = next((each for each in others if each.order > own.order), None)
        return f"{ahead.id} holds more" if ahead is not None else ""
    if settings.is_paused and not own.is_reigning:
        return "maintenance"
    if settings.histories and set(settings.histories).isdisjoint(histories):
        return "its data is not this cluster's"
    if own.id not in settings.voters:
        return "it is no voter yet"
    if view.handover is not None and not is_heir(view.handover, own) and _is_open(view):
        return f"{view.handover.by} hands over to {view.handover.to}"
    return _why_wait_for_others(view, settings, own, vacancy, terms)


def _is_open(view: View) -> bool:
    """Say whether the node that was handed over to is there."""
    return view.handover is not None and view.handover.to in view.members


def _why_wait_for_others(
    view: View, settings: Settings, own: Member, vacancy: Vacancy, terms: Terms
) -> str:
    if is_heir(view.handover, own):
        return ""
    members = {**view.members, own.id: own}
    is_early = vacancy.seconds < terms.ttl_seconds
    missing = [each for each in settings.voters if each not in members]
    if not vacancy.had_leader and missing and is_early:
        return f"waits for {', '.join(missing)} to start"
    if settings.quorum and vacancy.hears_master and not own.is_reigning and is_early:
        return "still hears its master"
    rivals = [each for each in members.values() if each.id in settings.voters and not each.unfit]
    ahead = max(rivals, key=lambda each: each.order)
    if ahead.id != own.id:
        return f"{ahead.id} is to lead"
    needed = seals_for(settings, None, own)
    # An empty one promises nothing: it may have lost what it acknowledged.
    present = sum(each in members and members[each].rank.epoch > 0 for each in settings.voters)
    if present < needed:
        return (
            f"{present} of {len(settings.voters)} voters are there, and {needed} are needed, where "
            f"each write waits for {settings.quorum}; missing: {', '.join(missing)}"
        )
    lag = vacancy.last_offset - own.rank.offset
    if not settings.quorum and lag > terms.max_lag_entries:
        return f"it lacks {lag} entries of the last master's"
    return ""


def is_changing(view: View, *, hears_master: bool) -> bool:
    """Say whether another master is due, so that a node does well to look often.

    Args:
        hears_master: The node is a replica that does, or is the master.
    """
    leader = view.leader
    is_settled = leader is not None and leader.is_reigning and hears_master
    return not is_settled or view.handover is not None or bool(view.wanted)


def heir_of(
    members: Mapping[str, Member], settings: Settings, leader: Leader | None
) -> Member | None:
    """Return the voter that would take a lost leader's place; None where nobody could."""
    fit = [
        each
        for each in members.values()
        if each.id in settings.voters and not each.unfit
        and (leader is None or each.id != leader.id)
    ]  # fmt: skip
    return max(fit, key=lambda each: each.order, default=None)
