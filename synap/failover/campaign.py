"""The ways to the key and away from it: seals and the office of a candidate, and a handover."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from synap.errors import SynapError
from synap.failover.engine import Delete, Engine, Put, Unchanged
from synap.failover.home import Home
from synap.failover.pace import Pace
from synap.failover.records import KEPT_HISTORY, Keys, Turn, encoded, view_of
from synap.failover.rules import (
    Handover,
    Member,
    Settings,
    Standing,
    View,
    ahead_of,
    is_heir,
    seals_for,
)
from synap.node.identity import NodeIdentity
from synap.replication.rules.reigns import Rank

logger = logging.getLogger(__name__)

_HANDOVER_SECONDS = 10.0
_OFFSET_LOOK_SECONDS = 0.02


class Members(Protocol):
    """Calls to other nodes, by their HTTP."""

    def seals(self, voters: Sequence[Member], epoch: int, candidate: str) -> list[Standing]:
        """Have nodes promise an epoch, all at once; return what those hold that do."""

    def offset(self, url: str) -> int:
        """Return where a node's log ends; raise OSError where it does not answer."""


class Campaign:
    """What a candidate does at the engine and at the voters."""

    def __init__(
        self, engine: Engine, home: Home, members: Members, keys: Keys, pace: Pace
    ) -> None:
        """
        Args:
            engine: Where the key is.
            home: The candidate.
            members: Reaches the voters.
            keys: The cluster's.
            pace: The clocks.
        """
        self._pace = pace
        self._engine = engine
        self._home = home
        self._members = members
        self._keys = keys

    def take_key(
        self, view: View, known: NodeIdentity, own: Member, lease: int
    ) -> tuple[int, View] | None:
        """Take the key with an epoch of its own; None where somebody else was faster.

        Returns:
            The epoch, and what the engine says from then on.
        """
        epoch = 1 + max(
            [view.epoch, own.known_epoch, *(each.known_epoch for each in view.members.values())]
        )
        keys, revisions = self._keys, view.revisions
        mine = self._home.as_leader(known, epoch, is_reigning=False)
        is_mine = self._engine.change(
            [Unchanged(keys.leader, 0), Unchanged(keys.epoch, revisions.get(keys.epoch, 0))],
            [Put(keys.leader, encoded(mine), lease), Put(keys.epoch, b"%d" % epoch)],
        )
        return (epoch, view_of(self._engine.read(*keys.state), keys)) if is_mine else None

    def why_not(self, view: View, own: Member, epoch: int) -> str:
        """Seal this node and the other voters; return why it may not begin a reign."""
        settings = view.settings
        sealed = [Standing(own.id, self._home.seal(epoch))]
        needed = seals_for(settings, view.handover, own)
        if settings is not None and not is_heir(view.handover, own):
            voters = [view.members[each] for each in settings.voters if each in view.members]
            others = [each for each in voters if each.id != own.id]
            sealed += self._members.seals(others, epoch, self._home.id)
        ahead = ahead_of(sealed[0].rank, sealed)
        if ahead is not None:
            return f"{ahead.id} holds more, up to offset {ahead.rank.offset}"
        # A voter's seal is one, however often it is told.
        count = len({each.id for each in sealed})
        if count < needed:
            return f"{count} of {needed} seals for epoch {epoch}"
        return ""

    def first_settings(self, view: View, own: Member) -> Settings:
        """Return the settings that a reign begins with: fewer copies need more seals at once."""
        settings, quorum = view.settings, self._home.quorum
        if settings is None:
            return Settings(quorum, (own.id,))
        voters = tuple(dict.fromkeys((*settings.voters, own.id)))
        return msgspec.structs.replace(settings, quorum=min(settings.quorum, quorum), voters=voters)

    def tell(self, view: View, own: Member, epoch: int, lease: int, lost: int) -> Settings | None:
        """Say at the engine that this node reigns; return the settings, None without the key.

        Args:
            view: What the candidate was elected by.
            lost: Entries that no replica had.
        """
        keys, known = self._keys, self._home.identity()
        now = view_of(self._engine.read(*keys.state), keys)
        if known is None or now.leader_lease != lease or now.settings is None:
            return None
        why = "handed over" if is_heir(view.handover, own) else "the key was free"
        turn = Turn(
            epoch, own.id, self._pace.wall_ms(), why, own.rank.offset,
            f"{lost} entries that no replica had" if lost else "",
        )  # fmt: skip
        leader = self._home.as_leader(known, epoch, is_reigning=True)
        settings = msgspec.structs.replace(now.settings, histories=self._home.histories(known))
        is_kept = self._engine.change(
            [Unchanged(key, now.revisions[key]) for key in (keys.leader, keys.config)],
            [
                Put(keys.leader, encoded(leader), lease),
                Put(keys.config, encoded(settings)),
                Put(keys.turn(epoch), encoded(turn)),
                Delete(keys.turn(max(epoch - KEPT_HISTORY, 0))),
                Delete(keys.handover),
            ],
        )
        return settings if is_kept else None


def best_heir(view: View, own: Member) -> Member | None:
    """Return who takes over best from this node, by what it told last; None for nobody."""
    settings = view.settings or Settings()
    joined = [
        each
        for each in view.members.values()
        if each.id in settings.voters and each.id != own.id and each.is_joined and not each.unfit
    ]
    return max(joined, key=lambda each: each.order, default=None)


def step_down(
    home: Home, members: Members, view: View, own: Member, name: str, pace: Pace
) -> Handover:
    """End this master's reign where a member holds everything; nothing is logged from then on.

    Raises:
        OSError, SynapError: it can't take over; this master goes on.
    """
    heir = view.members.get(name)
    settings = view.settings or Settings()
    if heir is None or heir.unfit or name not in settings.voters or name == own.id:
        raise OSError(f"{name} can't take over: {heir.unfit if heir else 'it is not there'}")
    offset = home.pause(_HANDOVER_SECONDS)
    try:
        deadline = pace.monotonic() + _HANDOVER_SECONDS / 2
        while members.offset(heir.url) < offset:
            if pace.monotonic() >= deadline:
                raise OSError(f"{name} did not have offset {offset} in time")
            pace.sleep(_OFFSET_LOOK_SECONDS)
        home.step_down(offset, heir.url)
    except (OSError, SynapError):
        home.resume()
        raise
    logger.warning(
        "this node hands over to %s at offset %d", name, offset,
        extra={"action": "handover", "offset": offset},
    )  # fmt: skip
    return Handover(name, Rank(own.rank.asked_epoch, own.rank.epoch, offset), own.id)
