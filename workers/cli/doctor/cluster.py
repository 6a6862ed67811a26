"""What is wrong with a whole cluster, from the rows of `synap status`, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workers.cli.cluster_status import MOST_LAG_MS, UNREACHABLE, ClusterStatus, NodeStatus
from workers.cli.doctor.findings import Finding, fault, warning

_REMEDIES = {
    UNREACHABLE: "look whether it runs, and what its log ends with (`synap health` on its machine)",
    "stale_epoch": (
        "another node has taken its place: `synap follow {new} --url {url}` makes it a replica; "
        "what only it holds is put aside"
    ),
    "disk_full": (
        "make room in the file system of its data_dir; writes go on by themselves within a second"
    ),
    "memory_limit": (
        "remove keys, raise kv_store.max_memory_mb, or choose another kv_store.eviction_policy"
    ),
    "recovering": (
        "it waits for its replicas, which may hold what a crash cost it: start those. Where they "
        "are gone for good, `synap promote --force --url {url}` gives up what only they hold"
    ),
    "no_lease": "its agent does not reach the engine of elections: look at failover.endpoints",
    "writer_unavailable": "the process that writes can't start: the node's log says why",
    "writer_silent": "that process hangs, mostly in a sync of a failing disk: see the kernel's log",
    "replica_silent": "that process hangs or is stopped: see the node's log and the kernel's",
    "no_quorum": (
        "too few replicas hold what it writes (replication.min_replicas_to_write): start those "
        "that are away"
    ),
    "paused": "a switchover runs, or ended on the way: the pause ends by itself within a minute",
    "data_dir_lost": "files were moved or deleted under it: put them back, and start it again",
    "diverged": (
        "it holds what its master does not: decide whose data counts; `synap replication accept "
        "--url {url}` puts its own aside and takes the master's"
    ),
    "connecting": "it has not heard its master yet; its note says why: name, port, network, secret",
    "disconnected": "it does not hear its master: look at that one, then at the network and secret",
    "catching_up": "it fetches what it lacks; look again soon",
    "syncing": "it fetches a whole snapshot; look again soon",
    "lagging": "look at its CPU and disk; where all lag, the master writes more than they can take",
}
_ANY = "see its note and its log; docs/troubleshooting.md has what there is to do"
# Why a master that answers takes no writes; they end where their cause does.
_OWN_REASONS = (
    "disk_full", "memory_limit", "recovering", "no_lease", "writer_unavailable", "writer_silent",
    "no_quorum", "paused",
)  # fmt: skip
_PASSING = ("catching_up", "syncing")
_TWO = (
    "keep clients from the one that was not promoted last, and make that one a replica: "
    "`synap follow URL_OF_THE_OTHER --url URL_OF_THAT_ONE`"
)


def remedy_for(row: NodeStatus, master_url: str = "") -> str:
    """Return what to do about a node that is not well.

    Args:
        row: The node.
        master_url: Where the one node is that takes writes; empty where there is none, or more.
    """
    new = master_url or "URL_OF_THE_MASTER"
    return _REMEDIES.get(row.state, _ANY).format(url=row.url or "URL", new=new)


def cluster_findings(found: ClusterStatus) -> list[Finding]:
    """Return what is wrong with a cluster, worst first; nothing where it is as it should be."""
    return sorted(_findings(found), key=lambda each: each.level)


def _findings(found: ClusterStatus) -> Iterator[Finding]:
    rows = found.nodes
    writable = [row for row in rows if row.role != "replica" and row.state == "writable"]
    if len(writable) > 1:
        names = ", ".join(row.node or row.url for row in writable)
        yield fault("", f"{len(writable)} nodes take writes: {names}; there must be one", _TWO)
    elif not writable:
        yield fault("", "no node that answers takes writes", _remedy_without_master(rows))
    master_url = writable[0].url if len(writable) == 1 else ""
    for row in rows:
        name = row.node or row.url or "a node"
        if not row.is_well:
            kind = warning if row.state in _PASSING else fault
            yield kind(name, f"is {row.state or 'unknown'}", remedy_for(row, master_url))
        elif (row.lag_ms or 0) > MOST_LAG_MS:
            yield fault(name, f"is {row.lag_ms} ms behind", _REMEDIES["lagging"])
    if found.unknown:
        yield fault(
            "", f"not known here: {found.unknown}", "name every node by --url or --hosts FILE"
        )


def _remedy_without_master(rows: Sequence[NodeStatus]) -> str:
    """Return what gives the cluster a node that takes writes: the reason's end, or a new master."""
    refusing = [row for row in rows if row.role != "replica" and row.state in _OWN_REASONS]
    if refusing:
        return remedy_for(refusing[0])
    urls = " ".join(f"--url {row.url}" for row in rows if row.url)
    return (
        "start the old master where it can be had; else this promotes the best replica, with every "
        f"node named: `synap failover {urls or '--url A --url B'}`"
    )
