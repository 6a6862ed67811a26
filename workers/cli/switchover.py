"""Moving the master to a replica, with both alive: no write is lost, and writes are away shortly.

    1  the replica is close behind its master
    2  the master's writes pause; the pause ends by itself
    3  the replica has all that the master has logged
    4  the master steps down, durably: from here on it logs nothing, whatever becomes of us
    5  the replica is promoted
    6  everybody follows it, the old master too

Whatever fails before the fourth step leaves the old master as it is, and writes go on there. The
engine knows the nodes by their HTTP API alone; the command line is around it.

Source: docs/protocol.md, "Switchover".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from synap.addresses import following_port, host_of_url, reachable_address
from workers.cli.cluster_status import url_seen_from
from workers.cli.http_call import CallFailed, CallRefused

_STATUS_SECONDS = 2.0
# A change of role ends the log's owner and starts the next one, which opens the log.
_ROLE_SECONDS = 75.0
# How long the nodes get to join the new master; nobody waits for it but the operator.
_REJOIN_SECONDS = 30.0
_LOOK_SECONDS = 0.01
# A replica this close has the rest within the pause.
_CLOSE_MS = 500
# Of the timeout, what is left for the answer on the way to the master when the wait ends.
_MARGIN = 0.2
_THREADS = 16


# How long a master that was just promoted takes to hear its replicas again.
_HEARD_SECONDS = 3.0
_STEP_SECONDS = 0.1


class SwitchoverFailed(Exception):
    """The master is not moved, or not wholly; the message says how things stand."""


class Http(Protocol):
    """Calls to the nodes. `workers.cli.http_call` is one."""

    def get(self, url: str, path: str, timeout_seconds: float) -> dict[str, Any]:
        """Return the answer to a GET; raise CallFailed without one."""

    def post(
        self, url: str, path: str, body: dict[str, Any] | None, timeout_seconds: float
    ) -> dict[str, Any]:
        """Return the answer to a POST; raise CallFailed without one, CallRefused for an error."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster.

    Attributes:
        id: Its `server.node_id`.
        url: Where it is reached from here; empty where nobody knows that.
    """

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What a switchover came to.

    Attributes:
        master: The new master.
        offset: Where its reign begins.
        epoch: The reign's number.
        away_seconds: How long no node took writes, as seen from here.
        strays: Those that do not follow it, each with the reason.
    """

    master: Member
    offset: int
    epoch: int
    away_seconds: float
    strays: dict[str, str]


class Switchover:
    """One switchover. `run` does it; nothing is kept between two."""

    def __init__(
        self,
        http: Http,
        *,
        timeout_seconds: float,
        tell: Callable[[str], None],
        named: Sequence[str] = (),
        asks_told: bool = True,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            http: Reaches the nodes.
            timeout_seconds: How long writes may pause, and how long the replica gets before that.
            tell: Gets a sentence for each step.
            named: URLs of more nodes that the operator knows.
            asks_told: Whether nodes are asked where others say that they are. Credentials must not
                go there.
            now: Monotonic clock in seconds.
            sleep: Waits between two looks.
        """
        self._http = http
        self._timeout_seconds = timeout_seconds
        self._tell = tell
        self._named = named
        self._asks_told = asks_told
        self._known: dict[str, str] = {}
        self._now = now
        self._sleep = sleep

    def run(self, url: str, to: str, address: str | None = None) -> Moved:
        """Make the replica `to` the master of the cluster that the node at `url` belongs to.

        Args:
            url: Any node.
            to: The replica's name or URL.
            address: The replica's PUB socket as the others reach it, where it does not listen on
                its URL's host.

        Raises:
            SwitchoverFailed: it was not done, or stopped between two steps.
            CallFailed: a node that is needed does not answer; writes go on.
        """
        self._know(url, to)
        old, members = self._find_members(url, to)
        new = _named_in(members, to)
        if new is None:
            known = ", ".join(each.id for each in members) or "none"
            raise SwitchoverFailed(f"{to} is no replica of {old.id}; its replicas are: {known}")
        self._check_named([new, *members])
        self._await_close(old, new)
        began = self._now()
        offset = self._fence(old, new)
        taken = self._promote(old, new)
        away_seconds = self._now() - began
        self._tell(f"{new.id} is the master, epoch {taken['epoch']}")
        others = [old, *(each for each in members if each is not new)]
        strays = self.repoint(new, others, address, int(taken["epoch"]))
        return Moved(new, offset, int(taken["epoch"]), away_seconds, strays)

    def _find_members(self, url: str, to: str) -> tuple[Member, list[Member]]:
        """Return the master and its replicas, having waited for those that it must know.

        A master that was promoted moments ago has not heard its replicas yet: that may be `to`, or
        another one that would be left behind with the old master.
        """
        deadline = self._now() + _HEARD_SECONDS
        while True:
            old, facts = self._find_master(url)
            members = [self._member(old, each) for each in facts]
            heard = {each.id for each in members}
            lacking = self._known.keys() - heard - {old.id}
            if (_named_in(members, to) and not lacking) or self._now() >= deadline:
                # Those that the operator named and it does not hear are told to follow, too.
                return old, [*members, *(Member(each, self._known[each]) for each in lacking)]
            self._sleep(_STEP_SECONDS)

    def _know(self, url: str, to: str) -> None:
        """Ask the nodes that the operator named who they are; their own URLs may be others."""
        named = [*self._named, *([to] if "://" in to else [])]
        for each in dict.fromkeys(each for each in named if each != url):
            try:
                self._known[self._status(each)["node_id"]] = each
            except CallFailed as error:
                self._tell(str(error))

    def _member(self, old: Member, facts: dict[str, Any]) -> Member:
        told = url_seen_from(old.url, facts["url"]) if self._asks_told else ""
        return Member(facts["id"], self._known.get(facts["id"]) or told)

    def _check_named(self, members: Sequence[Member]) -> None:
        """Refuse, before anything is done, where a node can't be told to follow."""
        lacking = list(dict.fromkeys(each.id for each in members if not each.url))
        if lacking and not self._asks_told:
            raise SwitchoverFailed(
                f"your credentials go only to nodes that you name: give the URL of "
                f"{', '.join(lacking)} by --url or --hosts, too"
            )

    def _master_url(self, url: str, told: str) -> str:
        """Return where the master is that the replica at `url` told of."""
        if self._asks_told:
            return url_seen_from(url, told)
        for each in self._known.values():
            if self._status(each)["role"] == "master":
                return each
        raise SwitchoverFailed(
            f"your credentials go only to nodes that you name: give the master's URL by --url or "
            f"--hosts, too; {url} says that it is {told or 'unknown'}"
        )

    def _find_master(self, url: str) -> tuple[Member, list[dict[str, Any]]]:
        facts = self._status(url)
        if facts["role"] == "replica":
            self._known[facts["node_id"]] = url
            url = self._master_url(url, facts.get("master_url") or "")
            if not url:
                raise SwitchoverFailed(f"{facts['node_id']} does not know where its master is")
            facts = self._status(url)
        if facts["role"] != "master" or facts["read_only"]:
            why = facts["read_only"] or facts["role"]
            raise SwitchoverFailed(
                f"{facts['node_id']} at {url} is no master that takes writes ({why})"
            )
        return Member(facts["node_id"], url), list(facts["replicas"])

    def _await_close(self, old: Member, new: Member) -> None:
        """Wait, with writes going on, until the replica can have the rest in moments."""
        deadline = self._now() + self._timeout_seconds
        while True:
            facts = self._status(new.url)
            if facts["node_id"] != new.id or facts["role"] != "replica":
                raise SwitchoverFailed(f"{new.url} is {facts['node_id']}, a {facts['role']}")
            if facts["status"] == "in_sync" and facts["lag_ms"] <= _CLOSE_MS:
                return
            if self._now() >= deadline:
                raise SwitchoverFailed(
                    f"{new.id} is {facts['status']}, {facts['lag_entries']} entries behind "
                    f"{old.id}; nothing was changed"
                )
            self._sleep(_LOOK_SECONDS)

    def _fence(self, old: Member, new: Member) -> int:
        """Have the old master step down at an offset that the new one holds; return it."""
        began = self._now()
        try:
            paused = self._post(old, "pause", {"seconds": self._timeout_seconds}, _STATUS_SECONDS)
            offset = int(paused["offset"])
            self._tell(f"writes pause at {old.id}, offset {offset}")
            self._await_offset(new, offset, began + self._timeout_seconds * (1 - _MARGIN))
            self._tell(f"{new.id} has them all after {(self._now() - began) * 1000:.0f} ms")
            heir = {"offset": offset, "master_url": new.url}
            self._post(old, "step-down", heir, _STATUS_SECONDS)
        except BaseException as error:
            self._resume(old, error)
            raise
        return offset

    def _await_offset(self, new: Member, offset: int, deadline: float) -> None:
        while self._now() < deadline:
            facts = self._status(new.url)
            if facts.get("status") == "in_sync" and facts["local_offset"] >= offset:
                return
            self._sleep(_LOOK_SECONDS)
        raise SwitchoverFailed(
            f"{new.id} did not have offset {offset} in time; nothing was changed, writes go on"
        )

    def _resume(self, old: Member, why: BaseException) -> None:
        """End the pause early, where the old master still is one."""
        try:
            self._post(old, "resume", None, _STATUS_SECONDS)
            stands = self._status(old.url)["read_only"]
        except CallFailed:
            stands = "unknown"
        if stands == "stale_epoch":
            raise SwitchoverFailed(
                f"{old.id} stepped down, and nobody is promoted ({why}): promote {old.id} or the "
                "replica by `synap promote --force`"
            ) from why
        if stands == "unknown":
            self._tell(
                f"{old.id} does not answer; where it had not stepped down, its writes go on "
                f"{self._timeout_seconds:g} s after they paused"
            )

    def _promote(self, old: Member, new: Member) -> dict[str, Any]:
        """Promote the new master; where it refuses, the old one."""
        try:
            return self._post(new, "promote", {"force": True}, _ROLE_SECONDS)
        except CallRefused as refusal:
            self._tell(f"{new.id} refuses: {refusal}")
            back = self._post(old, "promote", {"force": True}, _ROLE_SECONDS)
            raise SwitchoverFailed(
                f"{new.id} can't be promoted; {old.id} is the master again, epoch {back['epoch']}"
            ) from refusal
        except CallFailed as error:
            raise SwitchoverFailed(
                f"{old.id} stepped down, and it is unknown whether {new.id} was promoted "
                f"({error}); ask it by `synap status`, then promote it, or {old.id} by --force"
            ) from error

    def repoint(
        self, new: Member, others: list[Member], address: str | None, epoch: int
    ) -> dict[str, str]:
        """Have `others` follow the new master and wait for them; return those that don't.

        Args:
            address: The new master's PUB socket, where it does not listen on its URL's host.
            epoch: Number of its reign.
        """
        body = sockets_seen_from(new.url, self._status(new.url))
        if address is not None:
            body = {"master_address": address, "master_sync_address": following_port(address)}
        with ThreadPoolExecutor(_THREADS) as threads:
            found = threads.map(lambda member: self._have_follow(member, body, epoch), others)
            strays = {member.id: why for member, why in zip(others, found, strict=True) if why}
        return strays

    def _have_follow(self, member: Member, body: dict[str, Any], epoch: int) -> str:
        """Return why `member` does not follow; empty where it does."""
        try:
            self._post(member, "follow", body, _ROLE_SECONDS)
            deadline = self._now() + _REJOIN_SECONDS
            while self._now() < deadline:
                facts = self._status(member.url)
                if facts["epoch"] == epoch and facts.get("status") == "in_sync":
                    self._tell(f"{member.id} follows it")
                    return ""
                self._sleep(_LOOK_SECONDS)
        except CallFailed as error:
            return str(error)
        return (
            f"it was told, and is {facts.get('status')}: {facts.get('note') or 'no reason known'}"
        )

    def _status(self, url: str) -> dict[str, Any]:
        if not url:
            raise CallFailed("a node's URL is not known; set its server.advertise_url")
        return self._http.get(url, "/health/replication", _STATUS_SECONDS)

    def _post(
        self, member: Member, action: str, body: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        if not member.url:
            raise CallFailed(f"the URL of {member.id} is not known; set its server.advertise_url")
        return self._http.post(member.url, f"/replication/{action}", body, seconds)


def sockets_seen_from(url: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return where the node at `url` is followed, as `/replication/follow` takes it.

    Args:
        facts: What it tells by `/health/replication`.

    Raises:
        CallFailed: these are no addresses.
    """
    host = host_of_url(url)
    try:
        return {
            "master_address": reachable_address(str(facts["replica_listen_address"]), host),
            "master_sync_address": reachable_address(str(facts["sync_listen_address"]), host),
        }
    except ValueError as error:
        raise CallFailed(f"{url} says that its replication is at no address: {error}") from error


def _named_in(members: Sequence[Member], name: str) -> Member | None:
    """Return the member that a name or URL stands for."""
    return next((each for each in members if name in (each.id, each.url)), None)
