"""What a node tells of its cluster: the contents of `/health/replication` and `/cluster`.

It asks nobody: a master has its roster, a replica what its master told it. Plain values, ready for
JSON; `node_facts` calls it.
"""

from __future__ import annotations

import time

import msgspec

from synap import __version__
from synap.disk import bytes_left
from synap.errors import DiskFull, Recovering
from synap.place import Reigns
from synap.replication.rules.lag import lag_entries
from synap.replication.rules.progress import LinkState
from synap.service.local_node import LocalNode
from synap.shared.board import (
    BoardView,
    ReplicaFacts,
    StoreHealth,
    lease_left_ms,
    owner_silence_ms,
    silent_owner,
    unacknowledged,
)
from synap.shared.series import FAILED_HANDSHAKES, PUT_ASIDE, VIOLATIONS, Sums, sum_of

_HOLDING = frozenset({LinkState.CATCHING_UP, LinkState.IN_SYNC, LinkState.LAGGING})
_UNHEARD = frozenset({"", LinkState.CONNECTING, LinkState.DISCONNECTED})
# States of a replica in which its log is not known to be a beginning of its master's.
_ELSEWHERE = frozenset({LinkState.DIVERGED, LinkState.SYNCING})

Facts = dict[str, object]


def replication_is_open(node: LocalNode) -> bool:
    """Whether this node serves, or as a master would serve, whoever reaches its ports."""
    return node.role != "standalone" and node.config.replication.is_open


def replication_facts(node: LocalNode, sums: Sums) -> Facts:
    """Return the form of `/health/replication`, by role."""
    view, details = node.view, node.details
    offset = node.applied_offset()
    facts: Facts = {
        "role": node.role,
        "node_id": node.config.server.node_id,
        "url": node.config.server.own_url,
        "replica_listen_address": node.config.replication.replica_listen_address,
        "sync_listen_address": node.config.replication.sync_listen_address,
        "history": view.history.hex(),
        "epoch": view.epoch,
        "read_only": view.read_only or None,
        "acknowledges_no_writes": unacknowledged(view) or None,
        "encrypted": node.config.replication.proves_membership,
        "open": replication_is_open(node),
        "handshakes_failed_total": sum_of(sums, FAILED_HANDSHAKES),
    }
    facts["put_aside_total"] = sum_of(sums, PUT_ASIDE)
    facts["rank"] = details.rank
    facts["sealed_epoch"] = details.sealed_epoch
    facts["sealed_for"] = details.sealed_for or None
    facts["min_replicas_to_write"] = node.config.replication.min_replicas_to_write
    damage = details.store_health.damage
    facts["damaged_records"] = damage.records
    facts["store_note"] = store_note(details.store_health)
    if node.role == "replica":
        return facts | {
            "master_address": details.master_address or node.config.replication.master_address,
            "master_url": node.master_url,
            "voters": details.voters,
            "hops": view.hops or None,
            "upstream_address": details.upstream or details.master_address or None,
            "path": details.path,
            "replicas": msgspec.to_builtins(details.replicas),
            "master_offset": view.master_offset,
            "last_contact_ms": _ms_since(view.last_contact_ns),
            "local_offset": offset,
            "lag_entries": lag_entries(view.master_offset, offset),
            "lag_ms": node.lag_ms(),
            "status": "disconnected" if silent_owner(view) else view.status or "connecting",
            "last_sync": details.last_sync_ms or None,
            "note": _silence_note(view) or details.link_note or None,
        }
    facts["current_offset"] = offset
    if node.role == "master":
        facts["violations_total"] = sum_of(sums, VIOLATIONS)
        facts["waiting_for"] = msgspec.to_builtins(details.awaited)
        facts["replicas"] = msgspec.to_builtins(details.replicas)
    return facts


def _own_state(view: BoardView, *, is_replica: bool) -> str:
    return (view.status or "connecting") if is_replica else _master_state(view)


def _silence_note(view: BoardView) -> str:
    """Say that what the board shows is old, where it is; else nothing."""
    silence_ms = owner_silence_ms(view)
    if not silence_ms:
        return ""
    return f"the process that owns the log has shown no life for {silence_ms // 1000} s"


def store_note(health: StoreHealth) -> str | None:
    """Return what an operator should know of the store, without keys; None for nothing."""
    damage = health.damage
    notes = [health.note] if health.note else []
    if damage.records:
        notes.append(
            f"{damage.records} records are damaged and answer record_corrupt: "
            f"{damage.note or 'they are being mended'}"
        )
    return "; ".join(notes) or None


def _own_note(node: LocalNode, put_aside: int) -> str | None:
    """Return what an operator should know of this node; None for nothing."""
    silence = _silence_note(node.view)
    notes = [silence] if silence else []
    if node.view.read_only == Recovering.reason:
        awaited = ", ".join(each.id for each in node.details.awaited)
        notes.append(f"waits for {awaited or 'its replicas'}")
    if node.view.read_only == DiskFull.reason:
        notes.append(bytes_left(node.paths.wal_dir, node.paths.store_dir))
    damage = store_note(node.details.store_health)
    if damage:
        notes.append(damage)
    if put_aside:
        notes.append(f"has put {put_aside} entries aside that its master's log lacked")
    return "; ".join(filter(None, notes)) or None


def _master_state(view: BoardView) -> str:
    return view.read_only or unacknowledged(view) or "writable"


def cluster_facts(node: LocalNode, put_aside: int) -> Facts:
    """Return the form of `/cluster`: every member that this node knows, itself first.

    Args:
        node: Its worker.
        put_aside: Entries of its own log that this node put aside for a master's, ever.
    """
    view, name = node.view, node.config.server.node_id
    is_replica = node.role == "replica"
    followers = {"hops": view.hops + 1, "upstream": name}
    reigns = node.reigns(view.history)
    agent = node.failover()
    return {
        "node_id": name,
        "role": node.role,
        "members": [
            _own_row(node, put_aside),
            *([_heard_master(node, reigns)] if is_replica else []),
            *(_known_replica(facts, reigns) | followers for facts in node.details.replicas),
        ],
        **({} if agent is None else {"failover": agent}),
        "unknown": "other replicas of the master, which knows them" if is_replica else None,
    }


def _own_row(node: LocalNode, put_aside: int) -> Facts:
    view, server, details = node.view, node.config.server, node.details
    is_replica = node.role == "replica"
    end = node.applied_end()
    own = _member(server.node_id, server.own_url, node.role) | {
        "state": silent_owner(view) or _own_state(view, is_replica=is_replica),
        "epoch": view.epoch,
        "offset": end.offset,
        "open": replication_is_open(node),
        "note": _own_note(node, put_aside),
        "version": __version__,
        "position": node.reigns(end.history).token(end.offset),
        "snapshot_at_ms": details.snapshots.last_ms or None,
        "lease_ms": lease_left_ms(view),
    }
    if not is_replica:
        return own | {"read_only": view.read_only or unacknowledged(view) or None}
    return own | {
        "lag_entries": lag_entries(view.master_offset, end.offset),
        "lag_ms": node.lag_ms(),
        "contact_ms": _ms_since(view.last_contact_ns),
        "hops": view.hops or None,
        "upstream": details.path[-1] if details.path else None,
    }


def _heard_master(node: LocalNode, reigns: Reigns) -> Facts:
    """Return the row of the master that this replica follows, as it was heard last."""
    view, told = node.view, node.details.master
    contact_ns = view.fresh_ns if view.hops > 1 else view.last_contact_ns
    is_followed = view.status in _HOLDING
    return _member(told.id or None, node.master_url, "master") | {
        "state": "disconnected" if view.status in _UNHEARD else "heard",
        "epoch": view.epoch,
        "offset": view.master_offset,
        "contact_ms": _ms_since(contact_ns),
        "read_only": told.read_only or None,
        "version": told.version or None,
        "position": reigns.token(view.master_offset) if is_followed else None,
        "snapshot_at_ms": told.snapshot_at_ms or None,
        "lease_ms": _ms_until(told.lease_until_ns),
    }


def _known_replica(facts: ReplicaFacts, reigns: Reigns) -> Facts:
    # One that is elsewhere has entries of its own at these offsets; one unheard has none.
    is_heard = facts.epoch > 0 and facts.status not in _ELSEWHERE
    is_own = is_heard and reigns.epoch_of(facts.offset) == facts.epoch
    return _member(facts.id, facts.url, "replica") | {
        "state": facts.status,
        "epoch": facts.epoch or None,
        "offset": facts.offset,
        "lag_entries": facts.lag_entries,
        "lag_ms": facts.lag_ms,
        "contact_ms": max(0, time.time_ns() // 1_000_000 - facts.last_ack),
        "version": facts.version or None,
        "position": reigns.token(facts.offset) if is_own else None,
        "snapshot_at_ms": facts.snapshot_at_ms or None,
    }


def _member(node_id: str | None, url: str | None, role: str) -> Facts:
    empty = dict.fromkeys(
        (
            "epoch", "offset", "lag_entries", "lag_ms", "contact_ms", "open", "read_only", "note",
            "hops", "upstream", "version", "position", "snapshot_at_ms", "lease_ms",
        )
    )  # fmt: skip
    return {"node_id": node_id, "url": url or None, "role": role, "state": "", **empty}


def _ms_since(at_ns: int) -> int | None:
    return (time.monotonic_ns() - at_ns) // 1_000_000 if at_ns else None


def _ms_until(at_ns: int | None) -> int | None:
    return None if at_ns is None else max(0, (at_ns - time.monotonic_ns()) // 1_000_000)
