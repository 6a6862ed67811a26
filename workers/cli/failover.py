"""Making a replica the master whose own is lost: seals at the voters, the promotion, and the rest.

    1  who can be reached, what each holds, and whether that is enough
    2  the candidate and the other voters are sealed: the lost reign is acknowledged no more
    3  nobody among the sealed is ahead of the candidate
    4  the candidate is promoted, in the epoch that was promised to it
    5  the others follow it

Whatever fails before the second step has changed nothing. The nodes are known by their HTTP API.

Source: docs/protocol.md, "Seals".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from synap.failover.rules import Standing, ahead_of, best, needed_seals, sealing_epoch
from synap.replication.rules.reigns import Rank
from workers.cli.http_call import CallFailed
from workers.cli.switchover import Http, Member, Switchover

_STATUS_SECONDS = 2.0
_SEAL_SECONDS = 10.0
_ROLE_SECONDS = 75.0
_THREADS = 16
# Of a replica that hears its master.
_LINKED = ("in_sync", "catching_up", "lagging", "syncing")


class FailoverFailed(Exception):
    """Nobody was promoted; the message says why, and what an operator may decide."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that answers.

    Attributes:
        member: Who it is.
        facts: What it tells by `/health/replication`.
    """

    member: Member
    facts: dict[str, Any]

    @property
    def standing(self) -> Standing:
        """What its data is worth."""
        return Standing(self.member.id, Rank(*self.facts["rank"]))

    @property
    def unfit(self) -> str:
        """Why it can't be the master; empty where it can."""
        if self.facts["status"] == "diverged":
            return "its data is not a beginning of its master's (diverged)"
        if not self.standing.rank.epoch:
            return "it never held a whole state of its master"
        return ""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a fail-over came to.

    Attributes:
        master: The new master.
        epoch: Number of its reign.
        offset: Where its log ended.
        lost: What was given up, a sentence each.
        strays: Those that do not follow it, each with the reason.
        silent: URLs of those that did not answer, among them the old master's.
    """

    master: Member
    epoch: int
    offset: int
    lost: tuple[str, ...]
    strays: dict[str, str]
    silent: tuple[str, ...]


class Failover:
    """One fail-over. Nothing is kept between two."""

    def __init__(self, http: Http, switchover: Switchover, tell: Callable[[str], None]) -> None:
        """
        Args:
            http: Reaches the nodes.
            switchover: Has nodes follow the new master.
            tell: Gets a sentence for each step.
        """
        self._http = http
        self._switchover = switchover
        self._tell = tell
        self._silent: dict[str, str] = {}

    def run(self, urls: Sequence[str], *, force: bool, address: str | None = None) -> Promoted:
        """Promote the best of the replicas at `urls`, and have the others follow it.

        Args:
            urls: Of all nodes that the operator knows.
            force: Also where that may lose writes that were acknowledged.
            address: The new master's PUB socket as the others reach it, where it does not listen on
                its URL's host.

        Raises:
            FailoverFailed: nobody was promoted.
            CallFailed: the candidate went away.
        """
        replicas = self._replicas(urls)
        fit = [each for each in replicas if not each.unfit]
        standing = best(each.standing for each in fit)
        if standing is None:
            known = "; ".join(f"{each.member.id}: {each.unfit}" for each in replicas)
            raise FailoverFailed(
                f"no replica that answers can be promoted ({known or 'none does'})"
            )
        candidate = next(each for each in fit if each.standing == standing)
        self._tell(
            f"{candidate.member.id} holds most: epoch {standing.rank.epoch}, offset "
            f"{standing.rank.offset}"
        )
        promoted = self._promote(candidate, replicas, force=force)
        others = [each.member for each in replicas if each is not candidate]
        strays = self._switchover.repoint(candidate.member, others, address, promoted.epoch)
        return replace(promoted, strays=strays)

    def force(self, url: str, others: Sequence[str]) -> dict[str, Any]:
        """Promote the node at `url` whatever that loses, above all epochs that are known.

        Raises:
            CallFailed: it does not answer, or refuses.
        """
        facts = self._http.get(url, "/health/replication", _STATUS_SECONDS)
        replicas = self._replicas(others)
        known = [facts, *(each.facts for each in replicas)]
        epoch = 0
        if facts["role"] != "standalone" and replicas:
            epoch = _epoch_above(known)
            body = {"epoch": epoch, "candidate": facts["node_id"]}
            self._http.post(url, "/replication/seal", body, _SEAL_SECONDS)
        body = {"force": True, "epoch": epoch}
        return self._http.post(url, "/replication/promote", body, _ROLE_SECONDS)

    def promote(self, url: str, others: Sequence[str]) -> Promoted:
        """Promote the replica at `url`, with seals of itself and those at `others`.

        Raises:
            FailoverFailed: nobody was promoted.
            CallFailed: the candidate went away.
        """
        replicas = self._replicas([url, *others])
        candidate = next((each for each in replicas if each.member.url == url), None)
        if candidate is None:
            raise FailoverFailed(f"{url} is no replica that answers")
        return self._promote(candidate, replicas, force=False)

    def _promote(self, candidate: Replica, replicas: list[Replica], *, force: bool) -> Promoted:
        quorum = min(int(each.facts["min_replicas_to_write"]) for each in replicas)
        told = max(len(each.facts.get("voters") or ()) for each in replicas)
        voters = max(told, len(replicas))
        needed = needed_seals(voters, quorum)
        if candidate.unfit:
            raise FailoverFailed(f"{candidate.member.id} can't be promoted: {candidate.unfit}")
        self._refuse_heard(replicas, force=force)
        if len(replicas) < needed and not force:
            raise FailoverFailed(
                _too_few(candidate, replicas, voters, quorum, needed) + ". Nothing was changed"
            )
        self._refuse_behind(candidate, [each.standing for each in replicas], "Nothing was changed")
        epoch = _epoch_above([each.facts for each in replicas])
        sealed = self._seal(candidate, replicas, epoch)
        is_enough = len(sealed) >= needed
        if not is_enough and not force:
            raise FailoverFailed(
                f"{_too_few(candidate, replicas, voters, quorum, needed, len(sealed))}. Those that "
                f"are sealed, for epoch {epoch}, acknowledge nothing of the old master any more: "
                "try again, or promote that by force where it is there"
            )
        self._refuse_behind(candidate, sealed, f"Sealed for epoch {epoch}: promote that one")
        taken = self._http.post(
            candidate.member.url, "/replication/promote", {"force": True, "epoch": epoch},
            _ROLE_SECONDS,
        )  # fmt: skip
        lost = list(taken["lost"])
        if not is_enough:
            lost.insert(0, _too_few(candidate, replicas, voters, quorum, needed, len(sealed)))
        self._tell(f"{candidate.member.id} is the master, epoch {epoch}")
        return Promoted(
            candidate.member, epoch, int(taken["offset"]), tuple(lost), {}, tuple(self._silent)
        )

    def _replicas(self, urls: Sequence[str]) -> list[Replica]:
        """Return the replicas at `urls` that answer, each once.

        Raises:
            FailoverFailed: one is a master that takes writes.
        """

        def ask(url: str) -> Replica | str:
            try:
                facts = self._http.get(url, "/health/replication", _STATUS_SECONDS)
                return Replica(Member(str(facts["node_id"]), url), facts)
            except CallFailed as error:
                self._silent[url] = str(error)
                return str(error)

        found: dict[str, Replica] = {}
        with ThreadPoolExecutor(_THREADS) as threads:
            answers = list(threads.map(ask, dict.fromkeys(urls)))
        for answer in answers:
            if isinstance(answer, str):
                self._tell(answer)
            elif answer.facts["role"] == "replica":
                found.setdefault(answer.member.id, answer)
            elif not answer.facts["read_only"]:
                raise FailoverFailed(
                    f"{answer.member.id} is a master that takes writes; `synap switchover` moves it"
                )
        return list(found.values())

    def _refuse_heard(self, replicas: list[Replica], *, force: bool) -> None:
        heard = [each.member.id for each in replicas if each.facts["status"] in _LINKED]
        if heard and not force:
            raise FailoverFailed(
                f"the master is still heard by {', '.join(heard)}: `synap switchover` moves it and "
                "loses nothing; --force promotes all the same. Nothing was changed"
            )

    def _refuse_behind(
        self, candidate: Replica, standings: Sequence[Standing], outcome: str
    ) -> None:
        ahead = ahead_of(candidate.standing.rank, standings)
        if ahead is not None:
            raise FailoverFailed(
                f"{ahead.id} holds more than {candidate.member.id}: epoch {ahead.rank.epoch}, "
                f"offset {ahead.rank.offset}, not epoch {candidate.standing.rank.epoch}, offset "
                f"{candidate.standing.rank.offset}; that one is to be promoted. {outcome}"
            )

    def _seal(self, candidate: Replica, replicas: list[Replica], epoch: int) -> list[Standing]:
        """Seal the candidate, then all others at once; return what those hold that are sealed."""
        body = {"epoch": epoch, "candidate": candidate.member.id}

        def ask(replica: Replica) -> Standing | str:
            try:
                kept = self._http.post(replica.member.url, "/replication/seal", body, _SEAL_SECONDS)
                return Standing(replica.member.id, Rank(*kept["rank"]))
            except CallFailed as error:
                return f"{replica.member.id} is not sealed: {error}"

        own = ask(candidate)
        if isinstance(own, str):
            raise FailoverFailed(f"{own}. Nobody was promoted")
        others = [each for each in replicas if each is not candidate]
        with ThreadPoolExecutor(_THREADS) as threads:
            answers = [own, *threads.map(ask, others)]
        for answer in answers:
            self._tell(
                answer
                if isinstance(answer, str)
                else f"{answer.id} is sealed for epoch {epoch} at offset {answer.rank.offset}"
            )
        return [each for each in answers if isinstance(each, Standing)]


def _epoch_above(known: Sequence[dict[str, Any]]) -> int:
    epochs = [int(each[name]) for each in known for name in ("epoch", "sealed_epoch")]
    return sealing_epoch(epochs)


def _too_few(
    candidate: Replica,
    replicas: list[Replica],
    voters: int,
    quorum: int,
    needed: int,
    sealed: int | None = None,
) -> str:
    have = len(replicas) if sealed is None else sealed
    verb = "answer" if sealed is None else "are sealed"
    known = sorted({each for replica in replicas for each in replica.facts.get("voters") or ()})
    where = (
        f" The master's replicas are, by their ROUTER sockets: {', '.join(known)}." if known else ""
    )
    return (
        f"{have} of {voters} voters {verb}, and {needed} are needed where each write waits for "
        f"{quorum}: a write behind offset {candidate.standing.rank.offset} may have been "
        f"acknowledged that only the missing ones hold.{where} Start them, name them by --url or "
        "--hosts, or give such writes up by --force"
    )
