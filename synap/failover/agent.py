"""The agent of a node: one loop that keeps the key, goes for it, or follows whoever has it.

`rules` decides, `home` is the node, `etcd` the engine. The agent is the only one that speaks to the
engine; the log's owner takes a lease from it, and stops by itself when that is over.

Source: docs/architecture.md, "Fail-over by itself".
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from synap.errors import SynapError
from synap.failover.campaign import Campaign, Members, best_heir, step_down
from synap.failover.etcd import Delete, EngineFailed, Etcd, Put, Unchanged
from synap.failover.home import Home
from synap.failover.records import Keys, encoded, view_of
from synap.failover.rules import (
    Leader,
    Member,
    Settings,
    Terms,
    Vacancy,
    View,
    why_wait,
)
from synap.node.identity import NodeIdentity

logger = logging.getLogger(__name__)

FOR_EVER_NS = 2**62
_NS = 1_000_000_000
# How often a node looks that waits for the key.
_WATCH_SECONDS = 0.4
# How often a leader looks whether its owner is another process by now, without the engine.
_GLANCE_SECONDS = 0.1
_HANDOVER_SECONDS = 10.0
_OFFSET_LOOK_SECONDS = 0.02
_THREADS = 16


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How an agent works.

    Attributes:
        cluster: Its name at the engine.
        ttl_seconds: Wanted of a lease.
        margin: Returns, for seconds that were granted, by how many it counts as shorter.
        loop_seconds: Time between two renewals.
        max_lag_entries: With no quorum: what a candidate may lack.
    """

    cluster: str
    ttl_seconds: int
    margin: Callable[[float], float]
    loop_seconds: float
    max_lag_entries: int


class AgentState(msgspec.Struct, frozen=True):
    """What the agent tells its node's other processes.

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


class Agent:
    """The loop; `run` until `stop`."""

    def __init__(
        self,
        engine: Etcd,
        home: Home,
        members: Members,
        options: AgentOptions,
        tell: Callable[[bytes], None],
    ) -> None:
        """
        Args:
            engine: Where the key is.
            home: The node.
            members: Reaches the others.
            options: How to work.
            tell: Shows an `AgentState`, in JSON.
        """
        self._engine = engine
        self._home = home
        self._members = members
        self._options = options
        self._tell = tell
        self._keys = Keys(options.cluster)
        self._campaign = Campaign(engine, home, members, self._keys)
        self._stopping = threading.Event()
        self._lease = 0
        # CLOCK_BOOTTIME until which that lease counts.
        self._until_ns = 0
        # The reign that goes with the key, while this node has it.
        self._epoch = 0
        self._office_offset = 0
        self._granted: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        self._vacant_since = 0.0
        self._had_leader = False
        self._last_leader: Leader | None = None
        self._stand_back_until = 0.0
        self._note = ""
        self._began_ns = _boottime_ns()
        # Who leaves, and what the other voters are to hold before that.
        self._leaving: tuple[tuple[str, ...], int | None] = ((), None)

    def stop(self) -> None:
        """Have `run` hand over and return."""
        self._stopping.set()

    def run(self) -> None:
        """Take part until `stop`."""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._step()
            except (EngineFailed, SynapError) as error:
                self._say(str(error))
            seconds = self._options.loop_seconds if self._epoch else _WATCH_SECONDS
            self._rest(began + min(seconds, self._options.loop_seconds))
        self._leave()

    def _rest(self, until: float) -> None:
        while not self._stopping.wait(min(max(until - time.monotonic(), 0), _GLANCE_SECONDS)):
            if time.monotonic() >= until:
                return
            self._glance()

    def _glance(self) -> None:
        """Give the lease to an owner that was started anew."""
        view = self._home.view
        if self._epoch and view.role == "master" and view.owner_pid != self._granted[0]:
            try:
                self._grant(self._granted[2])
            except SynapError as error:
                self._say(str(error))

    def _step(self) -> None:
        known = self._home.identity()
        if known is None:
            return
        self._renew()
        items = self._engine.read(*self._keys.state)
        view = view_of(items, self._keys)
        self._note_leader(view)
        own = self._home.member(known, view.leader)
        self._put_member(view, own)
        leader = view.leader
        if view.is_taken and view.leader_lease == self._lease and leader is not None:
            self._lead(view, known, own, leader)
        elif leader is not None and leader.node == known.id:
            self._drop_old_key(view)
        elif leader is not None:
            self._yield_to(view, known, leader)
        else:
            self._consider(view, known, own)
        self._show(view, own)

    def _renew(self) -> None:
        """Renew the lease, or have a new one.

        Raises:
            EngineFailed: the engine does not answer; the lease goes on until its time.
        """
        asked_ns = _boottime_ns()
        granted = self._engine.keep_alive(self._lease) if self._lease and not self._hangs() else 0
        if not granted:
            if self._lease:
                self._lose("the lease is gone")
            asked_ns = _boottime_ns()
            self._lease, granted = self._engine.grant(self._options.ttl_seconds)
        # What was granted counts, from before it was asked for.
        self._until_ns = asked_ns + int((granted - self._options.margin(granted)) * _NS)
        if self._epoch:
            self._grant(self._granted[2])

    def _hangs(self) -> bool:
        """Say whether this node leads and its log's owner has shown no life for a lease's time."""
        silent_ns = time.monotonic_ns() - self._home.view.tick_ns
        return bool(self._epoch) and silent_ns > self._options.ttl_seconds * _NS

    def _lose(self, why: str) -> None:
        """Be no leader any more."""
        self._lease = 0
        if not self._epoch:
            return
        logger.error("%s; this node leads no more", why, extra={"action": "lease_lost"})
        self._epoch = 0
        if not self._home.quorum:
            self._take_lease_away()

    def _take_lease_away(self) -> bool:
        """Have the owner answer no write; say whether it can't any more, whatever it does.

        One that does not answer has until the end of what it was given, by this agent or by the
        one before it.
        """
        try:
            self._home.grant(0, self._granted[2])
            return True
        except SynapError as error:
            logger.warning("%s", error, extra={"action": "lease_lost"})
        end_ns = max(self._granted[1], self._began_ns + self._options.ttl_seconds * _NS)
        return bool(self._home.quorum) or _boottime_ns() >= end_ns

    def _grant(self, voters: tuple[str, ...]) -> int:
        """Give the owner the time that this node has; return what its quorum holds.

        Where writes wait for voters that a candidate has to seal, it needs no end.
        """
        until_ns = FOR_EVER_NS if self._home.quorum else self._until_ns
        pid = self._home.view.owner_pid
        held = self._home.grant(until_ns, voters)
        self._granted = (pid, until_ns, voters)
        return held.held_offset

    def _note_leader(self, view: View) -> None:
        if view.is_taken:
            self._vacant_since = 0.0
            self._had_leader = True
            self._last_leader = view.leader or self._last_leader
        elif not self._vacant_since:
            self._vacant_since = time.monotonic()

    def _put_member(self, view: View, own: Member) -> None:
        if view.members.get(own.id) != own:
            self._engine.change([], [Put(self._keys.member(own.id), encoded(own), self._lease)])

    # The key is this node's.

    def _lead(self, view: View, known: NodeIdentity, own: Member, leader: Leader) -> None:
        if not self._epoch:
            # Its taking was not heard of: what came of it is unknown, so it is taken anew.
            self._release(view)
            return
        if known.ended_by_epoch:
            self._say(f"epoch {known.ended_by_epoch} was promised to another node")
            self._give_up(view)
            return
        self._settle(view, own)
        if own.rank.offset != leader.offset:
            told = msgspec.structs.replace(leader, offset=own.rank.offset)
            self._engine.change(
                [Unchanged(self._keys.leader, view.revisions[self._keys.leader])],
                [Put(self._keys.leader, encoded(told), self._lease)],
            )
        if view.wanted:
            self._engine.change([], [Delete(self._keys.wanted)])
            self._hand_over(view, own, view.wanted)

    def _settle(self, view: View, own: Member) -> None:
        """Take in voters and a higher quorum: at the engine first, then at the owner."""
        settings = view.settings or Settings()
        held = self._grant(settings.counted)
        if self._may_leave(settings.leaving, held):
            settings = settings.without_leaving()
        joined = [
            each.id
            for each in view.members.values()
            if each.votes and each.is_joined and each.id not in settings.voters
        ]
        quorum = settings.quorum
        # What was acknowledged by fewer copies must have as many by then.
        if self._home.quorum > quorum and held >= self._office_offset:
            quorum = self._home.quorum
        wanted = msgspec.structs.replace(
            settings, quorum=quorum, voters=(*settings.voters, *sorted(joined))
        )
        if wanted != view.settings and self._change_settings(view, wanted):
            self._grant(wanted.counted)

    def _may_leave(self, leaving: tuple[str, ...], held: int) -> bool:
        """Say whether the others hold all that those acknowledged who leave."""
        if leaving != self._leaving[0]:
            self._leaving = leaving, None
        elif self._leaving[1] is None:
            # A loop ago their acks counted for the last time; the board shows a later end by now.
            self._leaving = leaving, self._home.view.applied_offset
        end = self._leaving[1]
        return bool(leaving) and end is not None and held >= end

    def _change_settings(self, view: View, wanted: Settings) -> bool:
        """Change what the cluster agrees on, as long as this node has the key.

        Who takes it later reads the settings after that, and so knows all voters that may have
        acknowledged.
        """
        keys, revisions = self._keys, view.revisions
        return self._engine.change(
            [
                Unchanged(keys.leader, revisions[keys.leader]),
                Unchanged(keys.config, revisions.get(keys.config, 0)),
            ],
            [Put(keys.config, encoded(wanted))],
        )

    def _give_up(self, view: View) -> None:
        self._epoch = 0
        if self._take_lease_away():
            self._release(view)

    def _release(self, view: View, *more: Put) -> None:
        key = self._keys.leader
        self._engine.change([Unchanged(key, view.revisions[key])], [Delete(key), *more])

    # Somebody else's.

    def _drop_old_key(self, view: View) -> None:
        """Remove the key of an agent before this one: it comes back as a candidate."""
        if self._take_lease_away():
            self._release(view)

    def _yield_to(self, view: View, known: NodeIdentity, leader: Leader) -> None:
        if self._epoch:
            self._epoch = 0
            self._take_lease_away()
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
        if self._epoch:
            self._lose("the key is gone")
            return
        handover = view.handover
        waited = time.monotonic() - self._vacant_since
        if handover and handover.by == own.id and waited > self._options.ttl_seconds:
            # Its heir is there and does not take it.
            self._engine.change([], [Delete(self._keys.handover)])
        last = self._last_leader
        vacancy = Vacancy(
            time.monotonic() - self._vacant_since,
            self._had_leader,
            last.offset if last is not None else 0,
            self._home.hears_master(),
        )
        terms = Terms(self._options.ttl_seconds, self._options.max_lag_entries)
        why = why_wait(view, own, self._home.histories(known), vacancy, terms)
        if why or time.monotonic() < self._stand_back_until:
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
                Put(keys.leader, encoded(mine), self._lease),
                Put(keys.epoch, b"%d" % epoch),
                Put(keys.config, encoded(settings)),
            ],
        )
        if not is_mine:
            return
        self._epoch, self._note = epoch, ""
        self._office_offset = own.rank.offset
        self._grant(settings.counted)
        logger.warning(
            "this node leads on in epoch %d", epoch, extra={"action": "leads", "epoch": epoch}
        )

    def _run_for_it(self, view: View, known: NodeIdentity, own: Member) -> None:
        began = time.monotonic()
        campaign = self._campaign
        taken = campaign.take_key(view, known, own, self._lease)
        if taken is None:
            return
        epoch, view = taken
        why = campaign.why_not(view, own, epoch)
        if not why and _boottime_ns() >= self._until_ns:
            why = "the lease was over before the seals were there"
        first = campaign.first_settings(view, own)
        if not why and first != view.settings and not self._change_settings(view, first):
            why = "the cluster's settings were changed meanwhile"
        if why:
            self._say(why)
            self._stand_back_until = time.monotonic() + 2 * self._options.loop_seconds
            self._release(view)
            return
        self._take_office(view, own, epoch, began)

    def _take_office(self, view: View, own: Member, epoch: int, began: float) -> None:
        last = self._last_leader
        lost = max(0, last.offset - own.rank.offset) if last and not self._home.quorum else 0
        self._home.promote(epoch)
        self._renew()
        settings = self._campaign.tell(view, own, epoch, self._lease, lost)
        if settings is None:
            self._say("the key went away before this node was in office")
            return
        self._epoch, self._note = epoch, ""
        self._office_offset = self._home.view.applied_offset
        self._grant(settings.counted)
        logger.warning(
            "this node leads in epoch %d, %.2f s after it had the key", epoch,
            time.monotonic() - began, extra={"action": "leads", "epoch": epoch, "lost": lost},
        )  # fmt: skip

    # The end.

    def _leave(self) -> None:
        if not self._epoch:
            return
        try:
            self._renew()
            view = view_of(self._engine.read(*self._keys.state), self._keys)
            known = self._home.identity()
            if view.leader_lease != self._lease or known is None:
                return
            own = self._home.member(known, view.leader)
            heir = best_heir(view, own)
            if heir is None or not self._hand_over(view, own, heir.id):
                self._give_up(view)
        except (EngineFailed, SynapError, OSError) as error:
            logger.warning("nobody was handed over to: %s", error, extra={"action": "handover"})

    def _hand_over(self, view: View, own: Member, name: str) -> bool:
        """Step down for a member that holds everything; say whether this node did."""
        try:
            handover = step_down(self._home, self._members, view, own, name)
        except (OSError, SynapError) as error:
            self._say(str(error))
            return False
        fresh = view_of(self._engine.read(*self._keys.state), self._keys)
        self._release(fresh, Put(self._keys.handover, encoded(handover), self._lease))
        self._epoch = 0
        return True

    def _say(self, note: str) -> None:
        if note != self._note:
            self._note = note
            if note:
                logger.warning("%s", note, extra={"action": "failover"})

    def _show(self, view: View, own: Member) -> None:
        settings = view.settings or Settings()
        leader = view.leader
        members = {**view.members, own.id: own}
        rivals = [
            each
            for each in members.values()
            if each.id in settings.voters and not each.unfit
            and (leader is None or each.id != leader.id)
        ]  # fmt: skip
        heir = max(rivals, key=lambda each: each.order, default=None)
        lost = max(0, leader.offset - heir.rank.offset) if leader and heir else 0
        self._tell(
            encoded(
                AgentState(
                    leader=leader.id if leader else "",
                    epoch=leader.epoch if leader else 0,
                    is_own=bool(self._epoch),
                    is_paused=settings.is_paused,
                    quorum=settings.quorum,
                    voters=settings.voters,
                    next=heir.id if heir else "",
                    would_lose=lost,
                    note=self._note,
                    at_ms=time.time_ns() // 1_000_000,
                )
            )
        )


def _epochs(known: NodeIdentity) -> list[int]:
    return [reign.epoch for reign in known.lineage]


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
