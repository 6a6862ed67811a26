"""What a node tells of itself: the contents of `/stats`, `/info`, `/slowlog` and their like.

Apart from the resources, so that the command endpoint gives the same. Plain values, ready for JSON.
"""

from __future__ import annotations

import asyncio
import os
import platform

from synap import __version__
from synap.auth.permissions import Caller
from synap.node.procfs import TcpConnection, connections_on, process_facts
from synap.place import LogEnd
from synap.replication.rules.progress import LinkState
from synap.request_errors import InvalidRequest
from synap.service.cluster_facts import Facts, cluster_facts, replication_facts, store_note
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi, not_found
from synap.service.node_processes import named_pids, supervisor, uptime_seconds, worker_pids
from synap.service.wide_reads import KeyStats
from synap.shared.board import (
    SnapshotFacts,
    StoreHealth,
)
from synap.shared.counters import Counter
from synap.shared.series import (
    CATCH_UPS,
    EVICTED,
    EXPIRED,
    FULL_RESYNCS,
    PUT_ASIDE,
    REQUESTS,
    Sums,
    read_series,
    sum_of,
)
from synap.shared.slow_log import reset_slow_log, slow_entries

SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication", "keyspace")
DEFAULT_SLOW_ENTRIES = 128


class NodeFacts:
    """The facts of one node, as one of its workers sees them.

    Each method takes who asks first, and raises Forbidden where that one may not know.
    """

    def __init__(self, node: LocalNode, api: NodeApi) -> None:
        self._node = node
        self._api = api

    async def stats(self, caller: Caller) -> tuple[Facts, LogEnd]:
        """Return the content of `/stats`, and the end of the log that it belongs to."""
        caller.require("admin", b"node:stats")
        stats = await self._api.stats(caller)
        sums = await self._sums()
        config, view, details = self._node.config, self._node.view, self._node.details
        facts: Facts = {
            "server": self._server(),
            "memory": {
                "used_bytes": stats.total_memory_bytes,
                "limit_bytes": config.kv_store.max_memory_mb * 1024 * 1024,
                "policy": config.kv_store.eviction_policy,
                "evicted_total": sum_of(sums, EVICTED),
            },
            "kv": stats.shown() | {"expired_total": sum_of(sums, EXPIRED), "rates": self._rates()},
            "persistence": {
                "wal_bytes": details.wal_bytes,
                "wal_segments": details.wal_segments,
                "wal_first_offset": details.wal_first_offset,
                "wal_damage": details.wal_damage or None,
                "fsync_mode": config.persistence.wal.fsync_mode,
                "last_fsync": details.last_fsync_ms or None,
                "snapshots": details.snapshots.count,
                "last_snapshot": _last_snapshot(details.snapshots),
                "snapshot_error": details.snapshots.error or None,
                "read_only": view.read_only or None,
                "verification": _verification(details.store_health),
            },
            "replication": replication_facts(self._node, sums),
        }
        return facts, stats.end

    async def info(self, caller: Caller, section: str | None = None) -> tuple[Facts, LogEnd]:
        """Return the same facts by the names that Redis has for them, and the end of the log.

        Args:
            caller: Who asks.
            section: One of `SECTIONS`; None for all.

        Raises:
            InvalidRequest: there is no such section.
        """
        caller.require("admin", b"node:info")
        if section is not None and section.lower() not in SECTIONS:
            raise InvalidRequest(f"parameter 'section' is not one of {', '.join(SECTIONS)}")
        stats = await self._api.stats(caller)
        sections: Facts = {
            "server": self._info_server(),
            "clients": {"connected_clients": len(await self._connections())},
            "memory": self._info_memory(stats),
            "persistence": self._info_persistence(),
            "stats": await self._info_stats(stats),
            "replication": self._info_replication(),
            "keyspace": self._info_keyspace(stats),
        }
        if section is not None:
            sections = {section.lower(): sections[section.lower()]}
        return sections, stats.end

    def slow_log(self, caller: Caller, count: int = DEFAULT_SLOW_ENTRIES) -> Facts:
        """Return the newest entries of the slow log, and how many there are.

        Args:
            caller: Who asks; the entries name keys.
            count: At most so many; below 0 for all.
        """
        caller.require("admin", b"node:slowlog")
        entries = slow_entries(self._node.paths.run_dir)
        shown = [
            {
                "id": entry.id,
                "timestamp": entry.timestamp_ms // 1000,
                "duration_us": entry.duration_us,
                "command": entry.command,
                "args": [entry.argument],
                "request_id": entry.request_id,
            }
            for entry in (entries if count < 0 else entries[:count])
        ]
        return {"entries": shown, "total": len(entries)}

    def reset_slow_log(self, caller: Caller) -> Facts:
        """Forget the slow log's entries, those of all workers."""
        caller.require("admin", b"node:slowlog")
        reset_slow_log(self._node.paths.run_dir)
        return {"success": True}

    async def clients(self, caller: Caller) -> Facts:
        """Return the connections to HTTP's port, in all workers."""
        caller.require("admin", b"node:clients")
        found = await self._connections()
        shown = [
            {
                "id": connection.id,
                "address": connection.address,
                "worker": connection.pid or None,
                "unread_bytes": connection.unread_bytes,
                "unsent_bytes": connection.unsent_bytes,
            }
            for connection in sorted(found, key=lambda connection: connection.id)
        ]
        return {"clients": shown, "count": len(shown)}

    def config(self, caller: Caller) -> Facts:
        """Return the configuration in effect; its secrets are masked."""
        caller.require("admin", b"node:config")
        return self._node.config.shown()

    def memory_usage(self, caller: Caller, key: bytes) -> tuple[Facts, LogEnd]:
        """Return about what a key takes up in the store, and the end of the log.

        Raises:
            KeyInvalid: it is empty or too long.
            KeyNotFound: it does not exist.
        """
        record, end = self._api.look(caller, key)
        if record is None:
            raise not_found(key)
        size = self._node.reader().size_of(key, record).stored_bytes
        return {"key": key.decode(), "bytes": size, "human": human_bytes(size)}, end

    async def replication(self) -> Facts:
        """Return the content of `/health/replication`, which is open to all."""
        return replication_facts(self._node, await self._sums())

    async def cluster(self) -> Facts:
        """Return the content of `/cluster`."""
        return cluster_facts(self._node, sum_of(await self._sums(), PUT_ASIDE))

    async def _sums(self) -> Sums:
        return await asyncio.to_thread(read_series, self._node.paths.run_dir)

    async def _connections(self) -> list[TcpConnection]:
        port = self._node.config.server.port
        return await asyncio.to_thread(connections_on, port, worker_pids())

    def _rates(self) -> Facts:
        rate = self._node.rates.per_second
        return {
            "gets_per_second": round(rate(Counter.GETS), 1),
            "sets_per_second": round(rate(Counter.SETS), 1),
            "dels_per_second": round(rate(Counter.DELS), 1),
        }

    def _server(self) -> Facts:
        config, view = self._node.config, self._node.view
        first = supervisor(view)
        return {
            "version": __version__,
            "node_id": config.server.node_id,
            "role": self._node.role,
            "uptime_seconds": uptime_seconds(view),
            "workers": config.server.workers,
            "worker_pids": worker_pids(),
            "pids": {
                "http_worker": os.getpid(),
                "http_server": os.getppid(),
                "log_owner": view.owner_pid or None,
                "supervisor": first.pid if first is not None else None,
            },
        }

    def _info_server(self) -> Facts:
        config, view = self._node.config, self._node.view
        uptime = uptime_seconds(view)
        return {
            "synap_version": __version__,
            "synap_mode": "standalone" if self._node.role == "standalone" else "replicated",
            "os": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python_version": platform.python_version(),
            "process_id": view.owner_pid,
            "run_id": view.history.hex(),
            "tcp_port": config.server.port,
            "node_id": config.server.node_id,
            "uptime_in_seconds": uptime,
            "uptime_in_days": uptime // 86_400,
        }

    def _info_memory(self, stats: KeyStats) -> Facts:
        kv_store = self._node.config.kv_store
        limit_bytes = kv_store.max_memory_mb * 1024 * 1024
        resident = 0
        for pid in named_pids(self._node.view):
            facts = process_facts(pid)
            resident += facts.resident_bytes if facts is not None else 0
        return {
            "used_memory": stats.total_memory_bytes,
            "used_memory_human": human_bytes(stats.total_memory_bytes),
            "used_memory_rss": resident,
            "used_memory_rss_human": human_bytes(resident),
            "maxmemory": limit_bytes,
            "maxmemory_human": human_bytes(limit_bytes),
            "maxmemory_policy": kv_store.eviction_policy,
        }

    def _info_persistence(self) -> Facts:
        view, details = self._node.view, self._node.details
        snapshots = details.snapshots
        return {
            "loading": int(not view.role),
            "aof_enabled": 1,
            "aof_current_size": details.wal_bytes,
            "aof_last_write_status": "err" if view.read_only == "disk_full" else "ok",
            "rdb_changes_since_last_save": max(0, view.applied_offset - snapshots.last_offset),
            "rdb_last_save_time": snapshots.last_ms // 1000,
            "rdb_last_bgsave_status": "err" if snapshots.error else "ok",
            "rdb_last_bgsave_time_sec": round(snapshots.last_seconds),
        }

    async def _info_stats(self, stats: KeyStats) -> Facts:
        rate, sums = self._node.rates.per_second, await self._sums()
        requests = sum(sum(cells[1:]) for name, cells in sums.items() if name[0] == REQUESTS)
        each_second = rate(Counter.GETS) + rate(Counter.SETS) + rate(Counter.DELS)
        return {
            "total_commands_processed": requests,
            "instantaneous_ops_per_sec": round(each_second),
            "keyspace_hits": stats.hits,
            "keyspace_misses": stats.misses,
            "expired_keys": sum_of(sums, EXPIRED),
            "evicted_keys": sum_of(sums, EVICTED),
            "sync_full": sum_of(sums, FULL_RESYNCS),
            "sync_partial_ok": sum_of(sums, CATCH_UPS),
        }

    def _info_replication(self) -> Facts:
        node, view, details = self._node, self._node.view, self._node.details
        offset = node.applied_offset()
        facts: Facts = {
            "role": node.role,
            "master_replid": view.history.hex(),
            "master_repl_offset": view.master_offset,
            "connected_slaves": 0,
            "epoch": view.epoch,
        }
        if node.role == "replica":
            host, _, port = details.master_address.rpartition(":")
            is_up = view.status in (LinkState.IN_SYNC, LinkState.LAGGING, LinkState.CATCHING_UP)
            return facts | {
                "master_host": host,
                "master_port": int(port) if port else None,
                "master_link_status": "up" if is_up else "down",
                "master_sync_in_progress": int(view.status == LinkState.SYNCING),
                "slave_repl_offset": offset,
                "slave_read_only": 1,
                "slave_lag_ms": node.lag_ms(),
            }
        connected = [r for r in details.replicas if r.status != LinkState.DISCONNECTED]
        facts |= {"master_repl_offset": offset, "connected_slaves": len(connected)}
        for number, replica in enumerate(connected):
            facts[f"slave{number}"] = {
                "id": replica.id,
                "address": replica.address,
                "state": replica.status,
                "offset": replica.offset,
                "lag": replica.lag_ms // 1000,
            }
        return facts

    def _info_keyspace(self, stats: KeyStats) -> Facts:
        store = self._node.reader().facts()
        return {"db0": {"keys": stats.total_keys, "expires": store.expiring}}


def human_bytes(count: float) -> str:
    """Return a size as Redis writes it: `512B`, `1.50K`, `2.00M`."""
    if count < 1024:
        return f"{count:.0f}B"
    for unit in "KMG":
        count /= 1024
        if count < 1024:
            return f"{count:.2f}{unit}"
    return f"{count / 1024:.2f}T"


def _last_snapshot(facts: SnapshotFacts) -> Facts | None:
    if not facts.last_ms:
        return None
    return {
        "offset": facts.last_offset,
        "time": facts.last_ms,
        "bytes": facts.last_bytes,
        "seconds": round(facts.last_seconds, 3),
    }


def _verification(health: StoreHealth) -> Facts:
    """Return what is known of the live store's records."""
    scrub, damage = health.scrub, health.damage
    return {
        "last": scrub.last_ms or None,
        "records": scrub.records,
        "bytes": scrub.bytes,
        "seconds": round(scrub.seconds, 3),
        "found_damaged": scrub.damaged,
        "found_differing": scrub.differing,
        "error": scrub.error or None,
        "damaged_records": damage.records,
        "damaged_keys": damage.keys,
        "note": store_note(health),
    }
