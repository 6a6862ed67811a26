"""`/health`, `/health/replication`, `/stats`, `/digest`: the node itself.

What the health endpoints say comes from the board, which the log's owner keeps, so they answer also
while the store can't be read.
"""

from __future__ import annotations

import os
import time

import msgspec
import orjson
from falcon.asgi import Response

from synap import __version__
from synap.board import BoardView, SnapshotFacts
from synap.errors import ReadRefused
from synap.http.calls import Calls
from synap.http.local import LocalNode
from synap.http.request import App, Request
from synap.http.resource import Resource
from synap.replication.progress import lag_entries

# The log's owner shows a sign of life ten times a second and is restarted within two seconds.
# Longer silence than this means that it is gone or stuck.
_SILENT_OWNER_NS = 5_000_000_000


def add_routes(app: App, node: LocalNode, calls: Calls) -> None:
    """Add the node's own endpoints."""
    health = Health(node, calls)
    app.add_route("/health", health)
    app.add_route("/health/replication", health, suffix="replication")
    facts = Facts(node, calls)
    app.add_route("/stats", facts, suffix="stats")
    app.add_route("/digest", facts, suffix="digest")


class Health(Resource):
    """Whether the node does what its role promises."""

    async def on_get(self, req: Request, resp: Response) -> None:
        view = self._node.view
        reasons = self._reasons(view)
        answer: dict[str, object] = {
            "status": "unhealthy" if reasons else "healthy",
            "service": "synap",
            "version": __version__,
            "role": self._node.role,
        }
        if reasons:
            resp.status = 503
            answer["reasons"] = reasons
        if view.read_only:
            answer["read_only"] = view.read_only
        resp.data = orjson.dumps(answer)

    async def on_get_replication(self, req: Request, resp: Response) -> None:
        resp.data = orjson.dumps(replication_facts(self._node))

    def _reasons(self, view: BoardView) -> list[str]:
        reasons = []
        try:
            self._node.reader()
        except ReadRefused as error:
            reasons.append(error.reason)
        if view.role and time.monotonic_ns() - view.tick_ns > _SILENT_OWNER_NS:
            reasons.append("replica_silent" if view.role == "replica" else "writer_silent")
        return reasons


class Facts(Resource):
    """What the node holds and does."""

    def __init__(self, node: LocalNode, calls: Calls) -> None:
        super().__init__(node, calls)
        self._started_ns = time.monotonic_ns()

    async def on_get_stats(self, req: Request, resp: Response) -> None:
        await self.await_min_offset(req)
        stats = await self._calls.stats(req.caller)
        config, details = self._node.config, self._node.details
        answer = {
            "server": self._server_facts(),
            "memory": {
                "used_bytes": stats.total_memory_bytes,
                "limit_bytes": config.kv_store.max_memory_mb * 1024 * 1024,
                "policy": config.kv_store.eviction_policy,
                "evicted_total": details.evicted_total,
            },
            "kv": stats.shown() | {"expired_total": details.expired_total},
            "persistence": {
                "wal_bytes": details.wal_bytes,
                "wal_segments": details.wal_segments,
                "wal_first_offset": details.wal_first_offset,
                "fsync_mode": config.persistence.wal.fsync_mode,
                "last_fsync": details.last_fsync_ms or None,
                "snapshots": details.snapshots.count,
                "last_snapshot": _last_snapshot(details.snapshots),
                "snapshot_error": details.snapshots.error or None,
                "read_only": self._node.view.read_only or None,
            },
            "replication": replication_facts(self._node),
        }
        self.answer_read(resp, stats.offset, answer)

    async def on_get_digest(self, req: Request, resp: Response) -> None:
        await self.await_min_offset(req)
        offset, keys, digest = await self._calls.digest(req.caller)
        self.answer_read(resp, offset, {"offset": offset, "keys": keys, "digest": digest})

    def _server_facts(self) -> dict[str, object]:
        config = self._node.config
        return {
            "version": __version__,
            "node_id": config.server.node_id,
            "role": self._node.role,
            "uptime_seconds": (time.monotonic_ns() - self._started_ns) // 1_000_000_000,
            "workers": config.server.workers,
            "pids": {
                "http_worker": os.getpid(),
                "http_server": os.getppid(),
                "log_owner": self._node.view.owner_pid or None,
            },
        }


def _last_snapshot(facts: SnapshotFacts) -> dict[str, object] | None:
    if not facts.last_ms:
        return None
    return {
        "offset": facts.last_offset,
        "time": facts.last_ms,
        "bytes": facts.last_bytes,
        "seconds": round(facts.last_seconds, 3),
    }


def _ms_since(at_ns: int) -> int | None:
    return (time.monotonic_ns() - at_ns) // 1_000_000 if at_ns else None


def replication_facts(node: LocalNode) -> dict[str, object]:
    """Return the form of `/health/replication`, by role."""
    view, details = node.view, node.details
    offset = node.applied_offset()
    facts: dict[str, object] = {
        "role": node.role,
        "node_id": node.config.server.node_id,
        "url": node.config.server.own_url,
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
