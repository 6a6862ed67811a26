"""What a node has from the engine, a lease and the key, and what its log's owner is given of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from synap.errors import SynapError
from synap.failover.engine import Engine
from synap.failover.home import Home
from synap.failover.pace import Pace
from synap.ipc.admin_messages import LeaseHeld

logger = logging.getLogger(__name__)

FOR_EVER_NS = 2**62
_NS = 1_000_000_000


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


class Hold:
    """The lease, and the reign that goes with the key.

    Attributes:
        lease: Its id at the engine; 0 for none.
        until_ns: CLOCK_BOOTTIME until which it counts.
        epoch: The reign, while this node has the key; else 0.
        office_offset: Where the log ended when it began.
    """

    def __init__(self, engine: Engine, home: Home, options: AgentOptions, pace: Pace) -> None:
        """
        Args:
            engine: Where the lease is.
            home: The node.
            options: How to work.
            pace: The clocks.
        """
        self._engine = engine
        self._home = home
        self._options = options
        self._pace = pace
        self._began_ns = pace.boottime_ns()
        # What the owner was given last: which process, until when, whose acks.
        self._given: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        self.lease = 0
        self.until_ns = 0
        self.epoch = 0
        self.office_offset = 0

    @property
    def is_over(self) -> bool:
        """Whether somebody else may have the key by now."""
        return self._pace.boottime_ns() >= self.until_ns

    def begin(self, epoch: int, offset: int, voters: tuple[str, ...]) -> None:
        """Be in office, and let the owner know.

        Raises:
            SynapError: the owner is not there.
        """
        self.epoch = epoch
        self.office_offset = offset
        self.give(voters)

    def renew(self) -> None:
        """Renew the lease, or have a new one.

        Raises:
            EngineFailed: the engine does not answer; the lease goes on until its time.
        """
        asked_ns = self._pace.boottime_ns()
        granted = self._engine.keep_alive(self.lease) if self.lease and not self._hangs() else 0
        if not granted:
            if self.lease:
                self.lose("the lease is gone")
            asked_ns = self._pace.boottime_ns()
            self.lease, granted = self._engine.grant(self._options.ttl_seconds)
        # What was granted counts, from before it was asked for.
        self.until_ns = asked_ns + int((granted - self._options.margin(granted)) * _NS)
        if self.epoch:
            # One that takes none, because its reign has ended, keeps nobody from giving up the key.
            with suppress(SynapError):
                self.give_again()

    def _hangs(self) -> bool:
        """Say whether this node leads and its log's owner has shown no life for a lease's time."""
        silent_ns = int(self._pace.monotonic() * _NS) - self._home.view.tick_ns
        return bool(self.epoch) and silent_ns > self._options.ttl_seconds * _NS

    def lose(self, why: str) -> None:
        """Be no leader any more."""
        self.lease = 0
        if not self.epoch:
            return
        logger.error("%s; this node leads no more", why, extra={"action": "lease_lost"})
        self.epoch = 0
        if not self._home.quorum:
            self.take_away()
            return
        # Writes are safe by the voters; but somebody else may be the master from now on.
        with suppress(SynapError):
            self._home.grant(FOR_EVER_NS, 0, self._given[2])

    def take_away(self) -> bool:
        """Have the owner answer nothing by a lease; say whether it can't, whatever it does.

        One that does not answer has until the end of what it was given, by this agent or by the
        one before it.
        """
        if self._home.view.role != "master":
            return True
        try:
            self._home.grant(0, 0, self._given[2])
            return True
        except SynapError as error:
            logger.warning("%s", error, extra={"action": "lease_lost"})
        end_ns = max(self._given[1], self._began_ns + self._options.ttl_seconds * _NS)
        return self._pace.boottime_ns() >= end_ns

    def give(self, voters: tuple[str, ...]) -> LeaseHeld:
        """Give the owner the time that this node has; return what its quorum holds.

        Where writes wait for voters that a candidate has to seal, they need no end; reads that are
        to see every write do, as nobody is asked about them.

        Raises:
            SynapError: the owner is not there.
        """
        until_ns = FOR_EVER_NS if self._home.quorum else self.until_ns
        pid = self._home.view.owner_pid
        held = self._home.grant(until_ns, self.until_ns, voters)
        self._given = (pid, self.until_ns, voters)
        return held

    def give_again(self) -> None:
        """Give it the same acks to count, until the lease's new end."""
        self.give(self._given[2])

    @property
    def is_owner_new(self) -> bool:
        """Whether the owner is another process than the one that was given something."""
        view = self._home.view
        return bool(self.epoch) and view.role == "master" and view.owner_pid != self._given[0]
