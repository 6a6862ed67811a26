"""The rules of a relay: a replica that serves replicas of its own, as a master serves them.

What it serves is a beginning of the master's log, so most of a master's rules hold as they are:
who is welcome, what is fetched, who is silent. What differs is here. A relay tells its followers of
the nodes above it, answers for no reign, counts for nobody's quorum, and may lack what a replica
holds that comes to it from elsewhere: that one waits until the log has reached it.

Source: docs/protocol.md, "Relays".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from synap.position import Position
from synap.replication.rules import messages
from synap.replication.rules.ancestry import Ancestry
from synap.replication.rules.master import Master, MasterHooks, MasterLog, MasterOptions
from synap.replication.rules.messages import (
    Heartbeat,
    Hello,
    Inquiry,
    Loan,
    Refusal,
    Request,
    Welcome,
)
from synap.replication.rules.plan import Plan, is_behind

# Replicas that wait until this node holds what they do; more have to come back.
_MAX_WAITING = 64


class _Waiting(NamedTuple):
    address: str
    hello: Hello
    since_ns: int


class RelayMaster(Master):
    """A master's rules on a replica."""

    def __init__(
        self,
        log: MasterLog,
        options: MasterOptions,
        hooks: MasterHooks,
        above: Callable[[], Ancestry | None],
    ) -> None:
        """
        Args:
            log: The replica's log.
            options: How to serve.
            hooks: As for a master; those that a reign needs are never called.
            above: Tells of the nodes above; None where there is nothing to follow yet.
        """
        super().__init__(log, options, hooks)
        self._above = above
        self._waiting: dict[bytes, _Waiting] = {}

    def heartbeat(self, wall_ms: int) -> Heartbeat | None:
        """Return what this node tells of itself and of those above; None for silence."""
        above = self._above()
        if above is None or not self._log.lineage or len(above.path) >= messages.MAX_HOPS:
            return None
        reign = self._log.lineage[-1]
        return Heartbeat(
            reign.history,
            reign.epoch,
            self._log.position.offset,
            above.clock_ms,
            max(self._options.heartbeat_interval_ms, above.interval_ms),
            held=above.held,
            path=(*above.path, self._options.name),
            age_ms=above.age_ms,
            known_offset=above.known_offset,
            lag_ms=above.lag_ms,
            about=above.about,
        )

    def receive(
        self, peer: bytes, address: str, request: Request, now_ns: int, wall_ms: int
    ) -> None:
        """Take a request of a connection; what only a master answers is not answered."""
        if isinstance(request, Inquiry | Loan):
            return
        if isinstance(request, Hello):
            if request.is_master:
                return
            if self._above() is None:
                self._hooks.send(peer, Refusal(messages.BUSY, "this relay follows nobody yet"))
                return
        super().receive(peer, address, request, now_ns, wall_ms)

    def welcome(
        self,
        peer: bytes,
        address: str,
        hello: Hello,
        first_offset: int,
        at_replica: Position | None,
        now_ns: int,
        wall_ms: int,
    ) -> Plan | None:
        """Answer a hello as a master does; later, where this log is behind the replica's."""
        log = self._log
        if not is_behind(hello.position, hello.lineage, log.lineage, log.position):
            return super().welcome(peer, address, hello, first_offset, at_replica, now_ns, wall_ms)
        self._greeting.discard(peer)
        if len(self._waiting) >= _MAX_WAITING and peer not in self._waiting:
            self._hooks.send(peer, Refusal(messages.BUSY, "this relay lacks what the replica has"))
        else:
            self._waiting[peer] = _Waiting(address, hello, now_ns)
        return None

    def look_at_waiting(self) -> None:
        """Greet those anew whom the log has reached; call it when that has grown."""
        log = self._log
        for peer, (address, hello, _) in tuple(self._waiting.items()):
            if not is_behind(hello.position, hello.lineage, log.lineage, log.position):
                del self._waiting[peer]
                self._greeting.add(peer)
                self._hooks.look_up(peer, address, hello)

    def is_waiting(self, name: str) -> bool:
        """Say whether a replica of that name waits until the log has reached it."""
        return any(each.hello.replica == name for each in self._waiting.values())

    def expire(self, now_ns: int) -> list[str]:
        """Forget who is silent, and who waited so long: a replica asks another node by then."""
        since_ns = now_ns - self._options.timeout_ns
        self._waiting = {
            peer: each for peer, each in self._waiting.items() if each.since_ns > since_ns
        }
        return super().expire(now_ns)

    def _is_guest(self, peer: bytes) -> bool:
        return peer in self._waiting or super()._is_guest(peer)

    def _hear_epoch(self, hello: Hello) -> None:
        """Nothing ends a reign here: this node has none."""

    def _welcome_message(self) -> Welcome:
        message = super()._welcome_message()
        above = self._above()
        if above is None:
            return message
        return msgspec.structs.replace(
            message, master=above.master, url=above.url, peers=above.peers
        )

    def _refusal(self, reason: str, detail: str, common_offset: int) -> Refusal:
        above = self._above()
        refusal = super()._refusal(reason, detail, common_offset)
        return msgspec.structs.replace(refusal, url=above.url if above is not None else "")
