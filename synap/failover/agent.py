"""The agent of a node: one loop that keeps the key, goes for it, or follows whoever has it.

`rules` decides, `home` is the node, `engine` where the key is. The agent alone speaks to the
engine; the log's owner takes a lease from it, and stops by itself when that is over.

Source: docs/architecture.md, "Fail-over by itself".
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from synap.errors import SynapError
from synap.failover.agent_state import AgentState, state_of
from synap.failover.campaign import Campaign, Members, best_heir
from synap.failover.engine import Delete, Engine, EngineFailed, Put, Unchanged
from synap.failover.hold import AgentOptions, Hold
from synap.failover.home import Home
from synap.failover.office import Office
from synap.failover.pace import Pace
from synap.failover.records import Keys, encoded, view_of
from synap.failover.rules import (
    Leader,
    Member,
    Settings,
    Terms,
    Vacancy,
    View,
    is_changing,
    why_wait,
)
from synap.node.identity import NodeIdentity

logger = logging.getLogger(__name__)

# How often a node looks that waits for the key.
_WATCH_SECONDS = 0.4
# The same while a change is under way, for as many lease times as it may take.
_HURRY_SECONDS = 0.1
_HURRY_LEASES = 3
# How long a node that ends waits for its heir; writes that wait are refused sooner.
_HEIR_SECONDS = 5.0
# How often a leader looks whether its owner is another process by now, without the engine.
_GLANCE_SECONDS = 0.1


class Agent:
    """The loop; `run` until `stop`."""

    def __init__(
        self,
        engine: Engine,
        home: Home,
        members: Members,
        options: AgentOptions,
        tell: Callable[[bytes], None],
        pace: Pace | None = None,
    ) -> None:
        """
        Args:
            engine: Where the key is.
            home: The node.
            members: Reaches the others.
            options: How to work.
            tell: Shows an `AgentState`, in JSON.
            pace: Other clocks than this machine's.
        """
        self._engine = engine
        self._home = home
        self._options = options
        self._tell = tell
        self._pace = pace = pace or Pace()
        self._keys = Keys(options.cluster)
        self._hold = Hold(engine, home, options, pace)
        self._office = Office(engine, home, members, self._keys, self._hold, pace)
        self._campaign = Campaign(engine, home, members, self._keys, pace)
        self._vacant_since = 0.0
        self._had_leader = False
        self._last_leader: Leader | None = None
        self._stand_back_until = 0.0
        # Since when another master is due; 0 where none is.
        self._changing_since = 0.0
        self._note = ""
        self._state = AgentState()

    def stop(self) -> None:
        """Have `run` hand over and return."""
        self._pace.stop()

    def run(self) -> None:
        """Take part until `stop`."""
        while not self._pace.is_stopping:
            began = self._pace.monotonic()
            try:
                self._step()
            except (EngineFailed, SynapError) as error:
                self._say(str(error))
            self._rest(began + min(self._seconds_to_look(), self._options.loop_seconds))
        self._leave()

    def _seconds_to_look(self) -> float:
        if self._hold.epoch:
            return self._options.loop_seconds
        since = self._changing_since
        longest = _HURRY_LEASES * self._options.ttl_seconds
        is_hurried = since and self._pace.monotonic() - since < longest
        return _HURRY_SECONDS if is_hurried else _WATCH_SECONDS

    def _rest(self, until: float) -> None:
        while not self._pace.rest(min(until - self._pace.monotonic(), _GLANCE_SECONDS)):
            if self._pace.monotonic() >= until:
                return
            self._glance()

    def _glance(self) -> None:
        """Give the lease to an owner that was started anew."""
        if self._hold.is_owner_new:
            try:
                self._hold.give_again()
            except SynapError as error:
                self._say(str(error))

    def _step(self) -> None:
        known = self._home.identity()
        if known is None:
            return
        self._hold.renew()
        items = self._engine.read(*self._keys.state)
        view = view_of(items, self._keys)
        self._note_leader(view)
        own = self._home.member(known, view.leader)
        self._put_member(view, own)
        leader = view.leader
        if view.is_taken and view.leader_lease == self._hold.lease and leader is not None:
            self._lead(view, known, own, leader)
        elif leader is not None and leader.node == known.id:
            self._drop_old_key(view)
        elif leader is not None:
            self._yield_to(view, known, leader)
        else:
            self._consider(view, known, own)
        self._show(view, own)

    def _note_leader(self, view: View) -> None:
        if view.is_taken:
            self._vacant_since = 0.0
            self._had_leader = True
            self._last_leader = view.leader or self._last_leader
        elif not self._vacant_since:
            self._vacant_since = self._pace.monotonic()
        if not is_changing(view, hears_master=self._home.hears_master()):
            self._changing_since = 0.0
        elif not self._changing_since:
            self._changing_since = self._pace.monotonic()

    def _put_member(self, view: View, own: Member) -> None:
        if view.members.get(own.id) != own:
            self._engine.change(
                [], [Put(self._keys.member(own.id), encoded(own), self._hold.lease)]
            )

    # The key is this node's.

    def _lead(self, view: View, known: NodeIdentity, own: Member, leader: Leader) -> None:
        if not self._hold.epoch:
            # Its taking was not heard of: what came of it is unknown, so it is taken anew.
            self._office.release(view)
            return
        if known.ended_by_epoch:
            self._say(f"epoch {known.ended_by_epoch} was promised to another node")
            self._office.give_up(view)
            return
        self._office.settle(view)
        self._office.tell_offset(view, own, leader)
        if view.wanted:
            self._hand_over(view, own, view.wanted)
            self._forget_wish()

    def _forget_wish(self) -> None:
        """Have nobody hand over again, whatever came of it."""
        self._engine.change([], [Delete(self._keys.wanted)])

    def _hand_over(self, view: View, own: Member, name: str) -> bool:
        """Step down for another node; say whether this one did."""
        try:
            self._office.hand_over(view, own, name)
        except (OSError, SynapError) as error:
            self._say(str(error))
        return not self._hold.epoch

    # Somebody else's.

    def _drop_old_key(self, view: View) -> None:
        """Remove the key of an agent before this one: it comes back as a candidate."""
        if self._hold.take_away():
            self._office.release(view)

    def _yield_to(self, view: View, known: NodeIdentity, leader: Leader) -> None:
        if self._hold.epoch:
            self._hold.epoch = 0
            self._hold.take_away()
        is_paused = view.settings is not None and view.settings.is_paused
        if known.role == "replica" and self._home.followed(known) == (leader.pub, leader.sync):
            self._note = ""
            return
        if not leader.is_reigning or is_paused:
            return
        self._home.follow(leader)
        logger.warning(
            "%s is the master, epoch %d; this node follows it", leader.id, leader.epoch,
            extra={"action": "follows_leader", "epoch": leader.epoch},
        )  # fmt: skip

    # Nobody's.

    def _consider(self, view: View, known: NodeIdentity, own: Member) -> None:
        if self._hold.epoch:
            self._hold.lose("the key is gone")
            return
        handover = view.handover
        waited = self._pace.monotonic() - self._vacant_since
        if handover and handover.by == own.id and waited > self._options.ttl_seconds:
            # Its heir is there and does not take it.
            self._engine.change([], [Delete(self._keys.handover)])
        last = self._last_leader
        vacancy = Vacancy(
            self._pace.monotonic() - self._vacant_since,
            self._had_leader,
            last.offset if last is not None else 0,
            self._home.hears_master(),
        )
        terms = Terms(self._options.ttl_seconds, self._options.max_lag_entries)
        why = why_wait(view, own, self._home.histories(known), vacancy, terms)
        if why or self._pace.monotonic() < self._stand_back_until:
            self._say(why or self._note)
            return
        if own.is_reigning and (view.settings is None or view.epoch in _epochs(known)):
            self._resume(view, known, own)
        else:
            self._run_for_it(view, known, own)

    def _resume(self, view: View, known: NodeIdentity, own: Member) -> None:
        """Have the key in the reign that there is: a new cluster's first, or this node's own again.

        No epoch was given since that began, so nobody else had the key.
        """
        keys, revisions = self._keys, view.revisions
        epoch = view.epoch or own.known_epoch
        settings = view.settings or Settings(
            self._home.quorum, (own.id,), histories=self._home.histories(known)
        )
        mine = self._home.as_leader(known, epoch, is_reigning=True)
        is_mine = self._engine.change(
            [
                Unchanged(keys.leader, 0),
                *(Unchanged(key, revisions.get(key, 0)) for key in (keys.epoch, keys.config)),
            ],
            [
                Put(keys.leader, encoded(mine), self._hold.lease),
                Put(keys.epoch, b"%d" % epoch),
                Put(keys.config, encoded(settings)),
            ],
        )
        if not is_mine:
            return
        self._note = ""
        self._hold.begin(epoch, own.rank.offset, settings.counted)
        logger.warning(
            "this node leads on in epoch %d", epoch, extra={"action": "leads", "epoch": epoch}
        )

    def _run_for_it(self, view: View, known: NodeIdentity, own: Member) -> None:
        began = self._pace.monotonic()
        campaign = self._campaign
        taken = campaign.take_key(view, known, own, self._hold.lease)
        if taken is None:
            return
        epoch, view = taken
        why = campaign.why_not(view, own, epoch)
        if not why and self._hold.is_over:
            why = "the lease was over before the seals were there"
        first = campaign.first_settings(view, own)
        if not why and first != view.settings and not self._office.change_settings(view, first):
            why = "the cluster's settings were changed meanwhile"
        if why:
            self._say(why)
            self._stand_back_until = self._pace.monotonic() + 2 * self._options.loop_seconds
            self._office.release(view)
            return
        self._take_office(view, own, epoch, began)

    def _take_office(self, view: View, own: Member, epoch: int, began: float) -> None:
        last = self._last_leader
        lost = max(0, last.offset - own.rank.offset) if last and not self._home.quorum else 0
        self._home.promote(epoch)
        self._hold.renew()
        settings = self._campaign.tell(view, own, epoch, self._hold.lease, lost)
        if settings is None:
            self._say("the key went away before this node was in office")
            return
        self._note = ""
        self._hold.begin(epoch, self._home.view.applied_offset, settings.counted)
        logger.warning(
            "this node leads in epoch %d, %.2f s after it had the key", epoch,
            self._pace.monotonic() - began, extra={"action": "leads", "epoch": epoch, "lost": lost},
        )  # fmt: skip

    # The end.

    def _leave(self) -> None:
        if not self._hold.epoch:
            return
        try:
            self._hold.renew()
            view = view_of(self._engine.read(*self._keys.state), self._keys)
            known = self._home.identity()
            if view.leader_lease != self._hold.lease or known is None:
                return
            own = self._home.member(known, view.leader)
            heir = best_heir(view, own)
            if heir is None or not self._leave_to(view, own, heir):
                self._office.give_up(view)
            self._forget_wish()
        except (EngineFailed, SynapError, OSError) as error:
            logger.warning("not handed over in order: %s", error, extra={"action": "handover"})

    def _leave_to(self, view: View, own: Member, heir: Member) -> bool:
        """Hand over, and follow the heir; say whether this node stepped down.

        Whoever has seen beforehand that it will looks often, so that writes are away for a shorter
        time; those that waited here are told where the heir is when this node follows it.
        """
        self._office.announce(heir.id)
        self._pace.sleep(_WATCH_SECONDS)
        if not self._hand_over(view, own, heir.id):
            return False
        deadline = self._pace.monotonic() + _HEIR_SECONDS
        while self._pace.monotonic() < deadline:
            leader = view_of(self._engine.read(*self._keys.state), self._keys).leader
            if leader is not None and leader.is_reigning and leader.id != own.id:
                self._home.follow(leader)
                break
            self._pace.sleep(_GLANCE_SECONDS)
        return True

    def _say(self, note: str) -> None:
        if note != self._note:
            self._note = note
            self._tell(encoded(msgspec.structs.replace(self._state, note=note)))
            if note:
                logger.warning("%s", note, extra={"action": "failover"})

    def _show(self, view: View, own: Member) -> None:
        hold, pace = self._hold, self._pace
        now_ms = pace.wall_ms()
        left_ms = (hold.until_ns - pace.boottime_ns()) // 1_000_000
        self._state = msgspec.structs.replace(
            state_of(view, own, is_own=bool(hold.epoch), note=self._note),
            at_ms=now_ms,
            lease_until_ms=now_ms + left_ms if hold.epoch else 0,
        )
        self._tell(encoded(self._state))


def _epochs(known: NodeIdentity) -> list[int]:
    return [reign.epoch for reign in known.lineage]
