"""What a leader does: it tells where its log ends, takes voters in, and hands over."""

from __future__ import annotations

import msgspec

from synap.failover.campaign import Members, step_down
from synap.failover.engine import Delete, Engine, Put, Unchanged
from synap.failover.hold import Hold
from synap.failover.home import Home
from synap.failover.pace import Pace
from synap.failover.records import Keys, Wanted, encoded, view_of
from synap.failover.rules import Handover, Leader, Member, Settings, View


class Office:
    """A leader's business at the engine."""

    def __init__(
        self, engine: Engine, home: Home, members: Members, keys: Keys, hold: Hold, pace: Pace
    ) -> None:
        """
        Args:
            engine: Where the key is.
            home: The node.
            members: Reaches the others.
            keys: The cluster's.
            hold: The lease and the reign.
            pace: The clocks.
        """
        self._engine = engine
        self._home = home
        self._members = members
        self._keys = keys
        self._hold = hold
        self._pace = pace
        # In which reign this node stepped down, and for whom.
        self._stepped_down: tuple[int, Handover | None] = (0, None)
        # Who leaves, and what the other voters are to hold before that.
        self._leaving: tuple[tuple[str, ...], int | None] = ((), None)

    def tell_offset(self, view: View, own: Member, leader: Leader) -> None:
        """Say in the key where the log ends.

        Raises:
            EngineFailed: the engine does not answer.
        """
        if own.rank.offset == leader.offset:
            return
        told = msgspec.structs.replace(leader, offset=own.rank.offset)
        self._engine.change(
            [Unchanged(self._keys.leader, view.revisions[self._keys.leader])],
            [Put(self._keys.leader, encoded(told), self._hold.lease)],
        )

    def settle(self, view: View) -> None:
        """Take in voters and a higher quorum: at the engine first, then at the owner.

        Raises:
            EngineFailed: the engine does not answer.
            SynapError: the owner is not there.
        """
        settings = view.settings or Settings()
        held = self._hold.give(settings.counted).held_offset
        if self._may_leave(settings.leaving, held):
            settings = settings.without_leaving()
        joined = [
            each.id
            for each in view.members.values()
            if each.votes and each.is_joined and each.id not in settings.voters
        ]
        quorum = settings.quorum
        # What was acknowledged by fewer copies must have as many by then.
        if self._home.quorum > quorum and held >= self._hold.office_offset:
            quorum = self._home.quorum
        wanted = msgspec.structs.replace(
            settings, quorum=quorum, voters=(*settings.voters, *sorted(joined))
        )
        if wanted != view.settings and self.change_settings(view, wanted):
            self._hold.give(wanted.counted)

    def _may_leave(self, leaving: tuple[str, ...], held: int) -> bool:
        """Say whether the others hold all that those acknowledged who leave."""
        if leaving != self._leaving[0]:
            self._leaving = leaving, None
        elif self._leaving[1] is None:
            # A loop ago their acks counted for the last time; the board shows a later end by now.
            self._leaving = leaving, self._home.view.applied_offset
        end = self._leaving[1]
        return bool(leaving) and end is not None and held >= end

    def change_settings(self, view: View, wanted: Settings) -> bool:
        """Change what the cluster agrees on, as long as this node has the key.

        Who takes it later reads the settings after that, and so knows all voters that may have
        acknowledged.

        Raises:
            EngineFailed: the engine does not answer.
        """
        keys, revisions = self._keys, view.revisions
        return self._leads_in(view) and self._engine.change(
            [
                Unchanged(keys.leader, revisions[keys.leader]),
                Unchanged(keys.config, revisions.get(keys.config, 0)),
            ],
            [Put(keys.config, encoded(wanted))],
        )

    def _leads_in(self, view: View) -> bool:
        return view.leader is not None and view.leader.id == self._home.id

    def announce(self, name: str) -> None:
        """Say that this node hands over soon.

        Raises:
            EngineFailed: the engine does not answer.
        """
        wanted = Put(self._keys.wanted, encoded(Wanted(name)), self._hold.lease)
        self._engine.change([], [wanted])

    def hand_over(self, view: View, own: Member, name: str) -> None:
        """Step down for a member that holds everything.

        Raises:
            OSError, SynapError: it can't take over, and this node goes on; or the engine does not
                answer.
        """
        handover = step_down(self._home, self._members, view, own, name, self._pace)
        self._stepped_down = self._hold.epoch, handover
        fresh = view_of(self._engine.read(*self._keys.state), self._keys)
        self._release_to_heir(fresh, self._hold.epoch)
        self._hold.epoch = 0

    def _release_to_heir(self, view: View, epoch: int) -> None:
        """Let go of the key, and say whose it is to be where this node stepped down in that reign.

        What it said of an older one is worth nothing: the heir may lack writes since.
        """
        of, handover = self._stepped_down
        if handover is None or of != epoch:
            self.release(view)
        else:
            self.release(view, Put(self._keys.handover, encoded(handover), self._hold.lease))

    def give_up(self, view: View) -> None:
        """Lead no more; where the owner may still answer, the key goes with its lease.

        Raises:
            EngineFailed: the engine does not answer.
        """
        epoch, self._hold.epoch = self._hold.epoch, 0
        if self._hold.take_away():
            self._release_to_heir(view, epoch)

    def release(self, view: View, *more: Put) -> None:
        """Let go of the key, where it is this node's; what was seen may be somebody else's by now.

        Raises:
            EngineFailed: the engine does not answer.
        """
        if not self._leads_in(view):
            return
        key = self._keys.leader
        self._engine.change([Unchanged(key, view.revisions[key])], [Delete(key), *more])
