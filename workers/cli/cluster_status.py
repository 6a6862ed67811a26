"""How a whole cluster stands, found from the nodes that the operator names.

Each of these tells by `GET /cluster` what it knows of all: a master of its replicas, a replica of
its master. What a node tells of itself wins over what others tell of it. Nodes that were told and
not named are asked themselves only where the command has no credentials: else these would go
wherever a node says, or the question would be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import msgspec

from synap.addresses import host_of_url, reachable_url
from workers.cli.http_call import CallFailed, CallRefused, get, has_credentials

_ANSWER_SECONDS = 2.0
_THREADS = 16
# A replica tells its master, which tells the others.
_ROUNDS = 2
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
    answers = _ask_all(urls)
    told = [answer for answer in answers if isinstance(answer, _Told)]
    if not told:
        raise next(answer for answer in answers if isinstance(answer, CallFailed))
    silent = [
        NodeStatus("", url, "", UNREACHABLE)
        for url, answer in zip(urls, answers, strict=True)
        if isinstance(answer, CallFailed)
    ]
    found = _merged(told)
    if not has_credentials():
        found, told = _found_by_asking(found, told)
    is_whole = any(not answer.unknown for answer in told)
    rows = sorted([*found, *silent], key=lambda row: (row.role != _MASTER, row.node))
    return ClusterStatus(rows, "" if is_whole else told[0].unknown)


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
    )


def _merged(told: Sequence[_Told]) -> list[NodeStatus]:
    """Return each node once, as itself tells if it does."""
    found = {answer.own.node: answer.own for answer in told}
    for row in (row for answer in told for row in answer.others if row.node):
        own = found.setdefault(row.node, row)
        if own is not row:
            found[row.node] = _worse(own, row)
    rows = list(found.values())
    # A replica does not know its master's name.
    if not any(row.role != "replica" for row in rows):
        rows += [row for answer in told for row in answer.others if not row.node][:1]
    return rows


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
    found: list[NodeStatus], told: list[_Told]
) -> tuple[list[NodeStatus], list[_Told]]:
    """Ask the nodes that were told, and those that the master tells; without credentials."""
    asked = {answer.own.url for answer in told}
    lost: dict[str, str] = {}
    for _ in range(_ROUNDS):
        rows = [row for row in found if row.url and row.url not in asked]
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
