"""How a whole cluster stands, found from the nodes that the operator names.

Each of these tells by `GET /cluster` what it knows of all: a master of its replicas, a replica of
its master. What a node tells of itself wins over what others tell of it. Nodes that were told and
not named are asked themselves only where the command has no credentials: else these would go
wherever a node says, or the question would be refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import msgspec

from synap.addresses import host_of_url, reachable_url
from workers.cli.http_call import CallFailed, CallRefused, get, has_credentials
from workers.cli.members import Members, state_folder

_ANSWER_SECONDS = 2.0
_THREADS = 16
# A replica tells its master, which tells the others, and each relay tells those below it.
_ROUNDS = 18
# More nodes than a master keeps in mind; each may be asked, wherever it is said to be.
_MOST_MEMBERS = 512
_MASTER = "master"
UNREACHABLE = "unreachable"
# As replication.max_lag_ms is by default.
MOST_LAG_MS = 10_000


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One row.

    Attributes:
        node: Its `server.node_id`; empty where nobody knows it.
        url: Where it was asked, or was said to be; empty where nobody knows that.
        role: `master`, `replica` or `standalone`.
        state: The link's state on a replica; on others `writable`, why they take no writes, or
            `heard` where a replica alone tells of its master; `unreachable`.
        epoch: The newest reign; None where it is unknown.
        offset: Where its log ends; None where it is unknown.
        lag_entries: Entries that a replica lacks; None on others.
        lag_ms: Age of the oldest of them; None on others.
        contact_ms: How long ago a replica and its master last heard each other; None for never.
        note: What an operator should know of it; empty for nothing.
        hops: Links between a replica and the master; None on others.
        upstream: The relay that a replica follows; empty where that is the master.
        open: Its replication serves whoever reaches its ports, with no proof of membership.
    """

    node: str
    url: str
    role: str
    state: str
    epoch: int | None = None
    offset: int | None = None
    lag_entries: int | None = None
    lag_ms: int | None = None
    contact_ms: int | None = None
    open: bool = False
    note: str = ""
    hops: int | None = None
    upstream: str = ""

    @property
    def is_well(self) -> bool:
        """Whether the node takes writes, as a replica whether it has all that its master has."""
        return self.state == ("in_sync" if self.role == "replica" else "writable")

    def shown(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What was found.

    Attributes:
        nodes: The master first.
        unknown: What none of the nodes that answered knows; empty for nothing.
    """

    nodes: list[NodeStatus]
    unknown: str


@dataclass(frozen=True, slots=True)
class _Told:
    """One node's answer: itself, and those it knows."""

    own: NodeStatus
    others: list[NodeStatus]
    unknown: str


class _Member(msgspec.Struct, frozen=True):
    """A node, as `GET /cluster` tells it."""

    role: str
    state: str
    node_id: str | None = None
    url: str | None = None
    epoch: int | None = None
    offset: int | None = None
    lag_entries: int | None = None
    lag_ms: int | None = None
    contact_ms: int | None = None
    open: bool | None = None
    note: str | None = None
    hops: int | None = None
    upstream: str | None = None


class _Cluster(msgspec.Struct, frozen=True):
    """What `GET /cluster` tells: the node itself, and those it knows."""

    members: Annotated[list[_Member], msgspec.Meta(min_length=1, max_length=_MOST_MEMBERS)]
    unknown: str | None = None


def cluster_status(urls: Sequence[str]) -> ClusterStatus:
    """Return the nodes of the cluster that the nodes at `urls` belong to.

    Args:
        urls: Of nodes that may have the credentials; at least one.

    Raises:
        CallFailed: none of them answers.
    """
    members = Members(state_folder())
    answers = _ask_all(urls)
    told = [answer for answer in answers if isinstance(answer, _Told)]
    failed = {
        url: answer
        for url, answer in zip(urls, answers, strict=True)
        if isinstance(answer, CallFailed)
    }
    before = {} if has_credentials() or _is_whole(told) else members.of(urls)
    told += _told_by(before, [answer.own.node for answer in told])
    if not told:
        raise next(iter(failed.values()))
    found = _merged(told)
    if not has_credentials():
        found, told = _found_by_asking(found, told, failed)
        if _is_whole(told):
            known = {row.node for row in found}
            found += _masters_beside(members.left(urls) | members.of(urls), known)
    silent = [NodeStatus("", url, "", UNREACHABLE) for url in failed]
    found, silent = _with_names(before, found, silent)
    if _is_whole(told):
        members.keep({row.node: row.url for row in found if row.node and row.url})
        return ClusterStatus(_in_order([*found, *silent]), "")
    rows = _in_order([*found, *silent, *_lost(before, [*found, *silent])])
    unknown = "nodes that have joined since the last look from here" if before else ""
    return ClusterStatus(rows, unknown or told[0].unknown)


def _masters_beside(before: Mapping[str, str], known: Collection[str]) -> list[NodeStatus]:
    """Return the masters that run and that nobody tells of; they were in this cluster before.

    Args:
        before: Where each node was, by its name.
        known: Names of the nodes that are found.
    """
    return [told.own for told in _told_by(before, known) if told.own.role == _MASTER]


def _in_order(rows: list[NodeStatus]) -> list[NodeStatus]:
    return sorted(rows, key=lambda row: (row.role != _MASTER, row.node))


def _is_whole(told: Sequence[_Told]) -> bool:
    """Say whether one of those that answered knows all nodes, as a master does."""
    return any(not answer.unknown for answer in told)


def _told_by(before: Mapping[str, str], asked: Collection[str]) -> list[_Told]:
    """Ask the nodes that were seen before, but for those that were asked; return what they tell."""
    names = [name for name in before if name not in asked]
    answers = zip(names, _ask_all([before[name] for name in names]), strict=True)
    # At an old address there may be another node by now.
    return [told for name, told in answers if isinstance(told, _Told) and told.own.node == name]


def _with_names(
    before: Mapping[str, str], found: list[NodeStatus], silent: list[NodeStatus]
) -> tuple[list[NodeStatus], list[NodeStatus]]:
    """Return the rows with the names that their addresses had before; each node once."""
    names = {url: name for name, url in before.items()}
    found = [row if row.node else replace(row, node=names.get(row.url, "")) for row in found]
    known = {row.node for row in found if row.node}
    shown = {row.url for row in found if row.state == UNREACHABLE}
    silent = [replace(row, node=names.get(row.url, "")) for row in silent]
    return found, [row for row in silent if row.node not in known and row.url not in shown]


def _lost(before: Mapping[str, str], rows: Sequence[NodeStatus]) -> list[NodeStatus]:
    """Return rows for the nodes that were seen before, and that nobody tells of now."""
    known = {row.node for row in rows}
    note = "it was seen before, and does not answer now"
    return [
        NodeStatus(name, url, "", UNREACHABLE, note=note)
        for name, url in before.items()
        if name not in known
    ]


def digests(urls: Sequence[str]) -> list[dict[str, Any]]:
    """Return each node's offset, keys and digest, in the order of `urls`.

    Raises:
        CallFailed: a node does not answer.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda url: get(url, "/digest"), urls))


def url_seen_from(asked_url: str, url: str) -> str:
    """Return `url` with the host of `asked_url` where it names a wildcard address."""
    return reachable_url(url, host_of_url(asked_url))


def _ask_all(urls: Sequence[str]) -> list[_Told | CallFailed]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_ask, urls))


def _ask(url: str) -> _Told | CallFailed:
    try:
        answer = msgspec.convert(get(url, "/cluster", _ANSWER_SECONDS), _Cluster)
    except CallFailed as error:
        return error
    except msgspec.ValidationError as error:
        return CallFailed(f"{url} does not answer as a Synap node does: {error}")
    own, *others = (_row_of(url, member) for member in answer.members)
    return _Told(replace(own, url=url), others, answer.unknown or "")


def _row_of(asked_url: str, member: _Member) -> NodeStatus:
    return NodeStatus(
        node=member.node_id or "",
        url=url_seen_from(asked_url, member.url or ""),
        role=member.role,
        state=member.state,
        epoch=member.epoch,
        offset=member.offset,
        lag_entries=member.lag_entries,
        lag_ms=member.lag_ms,
        contact_ms=member.contact_ms,
        open=bool(member.open),
        note=member.note or "",
        hops=member.hops,
        upstream=member.upstream or "",
    )


def _merged(told: Sequence[_Told]) -> list[NodeStatus]:
    """Return each node once, as itself tells if it does."""
    found = {answer.own.node: answer.own for answer in told}
    # What a master says whose reign is over comes last: others have its replicas by now.
    tellers = sorted(told, key=lambda answer: _is_over(answer.own))
    others = [(answer.own, row) for answer in tellers for row in answer.others]
    for teller, row in others:
        if row.role != "replica" or not row.node:
            continue
        own = found.setdefault(row.node, row)
        if own is not row and not _is_over(teller):
            found[row.node] = _worse(own, row)
    rows = list(found.values())
    # What a replica says may be of a master that is gone, so it counts for want of another.
    if not any(row.role != "replica" for row in rows):
        masters = (row for _, row in others if row.role != "replica" and row.node not in found)
        rows += list(masters)[:1]
    return rows


def _is_over(row: NodeStatus) -> bool:
    return row.state == "stale_epoch"


def _worse(own: NodeStatus, told: NodeStatus) -> NodeStatus:
    """Return a replica's row as itself tells, but for what its master knows to be worse."""
    if own.role != "replica" or told.role != "replica":
        return own
    worse = replace(
        own,
        lag_entries=max(own.lag_entries or 0, told.lag_entries or 0),
        lag_ms=max(own.lag_ms or 0, told.lag_ms or 0),
    )
    if not own.is_well or told.is_well or told.state == UNREACHABLE:
        return worse
    note = f"says {own.state}, and its master {told.state}"
    return replace(worse, state=told.state, note="; ".join(filter(None, (own.note, note))))


def _found_by_asking(
    found: list[NodeStatus], told: list[_Told], failed: Mapping[str, CallFailed]
) -> tuple[list[NodeStatus], list[_Told]]:
    """Ask the nodes that were told, and those that the master tells; without credentials.

    Args:
        found: The rows so far.
        told: What the nodes told that were asked.
        failed: Those that did not answer, each by its URL; they are not asked again.
    """
    asked = {answer.own.url for answer in told} | failed.keys()
    lost = {url: str(why) for url, why in failed.items() if not isinstance(why, CallRefused)}
    for _ in range(_ROUNDS):
        rows = [row for row in found if row.url and row.url not in asked]
        if not rows:
            break
        for row, answer in zip(rows, _ask_all([row.url for row in rows]), strict=True):
            asked.add(row.url)
            if isinstance(answer, _Told):
                # At an old address there may be another node by now.
                told = [*told, answer] if answer.own.node == row.node or not row.node else told
            elif not isinstance(answer, CallRefused):
                lost[row.url] = str(answer)
        found = _merged(told)
    return [_unreachable(row, lost[row.url]) if row.url in lost else row for row in found], told


def _unreachable(row: NodeStatus, why: str) -> NodeStatus:
    """Return the row of a node that does not answer here, with what others know of it."""
    known = f"others know it as {row.state}; " if row.state else ""
    note = f"{known}{why}; if it has another name here, give that by --url"
    return replace(row, state=UNREACHABLE, note="; ".join(filter(None, (row.note, note))))
