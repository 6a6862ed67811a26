"""How a whole cluster stands, found from any of its nodes.

A replica names its master's URL, a master its replicas'. Every node that can be found is asked
itself; one that does not answer is shown as the master, or the node that was asked, knows it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from synap.addresses import host_of_url, reachable_url
from workers.cli.http_call import CallFailed, get

_ANSWER_SECONDS = 2.0
_THREADS = 16
UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One row.

    Attributes:
        node: Its `server.node_id`; empty where nobody knows it.
        url: Where it was asked, or was said to be; empty where nobody knows that.
        role: `master`, `replica` or `standalone`.
        state: The link's state on a replica; on others `writable`, why they take no writes, or
            `unreachable`.
        epoch: The newest reign; None where it is unknown.
        offset: Where its log ends; None where it is unknown.
        lag_entries: Entries that a replica lacks; None on others.
        lag_ms: Age of the oldest of them; None on others.
        contact_ms: How long ago a replica and its master last heard each other; None for never.
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

    @property
    def is_well(self) -> bool:
        """Whether the node takes writes, as a replica whether it has all that its master has."""
        return self.state == ("in_sync" if self.role == "replica" else "writable")

    def shown(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def cluster_status(url: str) -> list[NodeStatus]:
    """Return the nodes of the cluster that the node at `url` belongs to, the master first.

    Raises:
        CallFailed: that node does not answer.
    """
    asked = _ask(url)
    if asked["role"] != "replica":
        return _from_master(url, asked)
    own = _row_of(url, asked)
    master_url = url_seen_from(url, asked.get("master_url") or "")
    try:
        master = _ask(master_url) if master_url else None
    except CallFailed:
        master = None
    if master is None:
        return [NodeStatus("", master_url, "master", UNREACHABLE), own]
    rows = _from_master(master_url, master)
    return rows if own.node in {row.node for row in rows} else [*rows, own]


def digests(urls: Sequence[str]) -> list[dict[str, Any]]:
    """Return each node's offset, keys and digest, in the order of `urls`.

    Raises:
        CallFailed: a node does not answer.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda url: get(url, "/digest"), urls))


def _ask(url: str) -> dict[str, Any]:
    return get(url, "/health/replication", _ANSWER_SECONDS)


def _from_master(url: str, master: dict[str, Any]) -> list[NodeStatus]:
    known = master.get("replicas", [])
    with ThreadPoolExecutor(_THREADS) as threads:
        replicas = list(threads.map(lambda facts: _replica_row(url, master, facts), known))
    return [_row_of(url, master), *replicas]


def _replica_row(master_url: str, master: dict[str, Any], facts: dict[str, Any]) -> NodeStatus:
    url = url_seen_from(master_url, facts["url"])
    try:
        answer = _ask(url) if url else None
    except CallFailed:
        answer = None
    if answer is not None and answer.get("node_id") == facts["id"]:
        return _row_of(url, answer)
    contact_ms = max(0, int(time.time() * 1000) - facts["last_ack"])
    state = facts["status"] if not url else UNREACHABLE
    return NodeStatus(
        facts["id"], url, "replica", state, None,
        facts["offset"], facts["lag_entries"], facts["lag_ms"], contact_ms,
    )  # fmt: skip


def _row_of(url: str, facts: dict[str, Any]) -> NodeStatus:
    if facts["role"] == "replica":
        return NodeStatus(
            facts["node_id"], url, "replica", facts["status"], facts["epoch"],
            facts["local_offset"], facts["lag_entries"], facts["lag_ms"],
            facts["last_contact_ms"], facts.get("open", False),
        )  # fmt: skip
    state = facts["read_only"] or "writable"
    return NodeStatus(
        facts["node_id"], url, facts["role"], state, facts["epoch"], facts["current_offset"],
        open=facts.get("open", False),
    )  # fmt: skip


def url_seen_from(asked_url: str, url: str) -> str:
    """Return `url` with the host of `asked_url` where it names a wildcard address."""
    return reachable_url(url, host_of_url(asked_url))
