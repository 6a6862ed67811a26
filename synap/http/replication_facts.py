"""Where a node stands in its replication, in the form of `/health/replication`."""

from __future__ import annotations

import time

import msgspec

from synap.http.local import LocalNode
from synap.replication.lag import lag_entries


def replication_facts(node: LocalNode) -> dict[str, object]:
    """Return the form of `/health/replication`, by role."""
    view, details = node.view, node.details
    offset = node.applied_offset()
    facts: dict[str, object] = {
        "role": node.role,
        "node_id": node.config.server.node_id,
        "url": node.config.server.own_url,
        "replica_listen_address": node.config.replication.replica_listen_address,
        "sync_listen_address": node.config.replication.sync_listen_address,
        "history": view.history.hex(),
        "epoch": view.epoch,
        "read_only": view.read_only or None,
        "encrypted": node.config.replication.curve.enabled,
        "handshakes_failed_total": details.handshakes_failed_total,
    }
    if node.role == "replica":
        return facts | {
            "master_address": details.master_address or node.config.replication.master_address,
            "master_url": node.master_url,
            "master_offset": view.master_offset,
            "last_contact_ms": _ms_since(view.last_contact_ns),
            "local_offset": offset,
            "lag_entries": lag_entries(view.master_offset, offset),
            "lag_ms": node.lag_ms(),
            "status": view.status or "connecting",
            "last_sync": details.last_sync_ms or None,
            "note": details.link_note or None,
        }
    facts["current_offset"] = offset
    if node.role == "master":
        facts["violations_total"] = details.violations_total
        facts["replicas"] = msgspec.to_builtins(details.replicas)
    return facts


def _ms_since(at_ns: int) -> int | None:
    return (time.monotonic_ns() - at_ns) // 1_000_000 if at_ns else None
