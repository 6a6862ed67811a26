"""`/metrics`: the whole node for Prometheus, whichever worker is asked.

What the owner of the log tells stands on the board, what all processes count in shared memory, what
the kernel knows of them in /proc. Nothing is named after a key. The text is made in a thread.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from falcon.asgi import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from synap import __version__
from synap.errors import ReadRefused
from synap.http.api.endpoints.agent_metrics import AgentCollector
from synap.http.api.endpoints.metric_families import (
    buckets,
    histogram,
    labelled_counter,
    labelled_gauge,
)
from synap.http.api.request import App, Request
from synap.http.api.resource import Resource
from synap.node.procfs import process_facts
from synap.replication.rules.lag import lag_entries
from synap.replication.rules.progress import LinkState
from synap.service.cluster_facts import replication_is_open
from synap.service.local_node import LocalNode
from synap.service.node_api import NodeApi
from synap.service.node_processes import named_pids
from synap.shared.board import BoardView, NodeDetails, ReplicaFacts
from synap.shared.counters import Counter
from synap.shared.series import (
    BATCH,
    CATCH_UPS,
    CLOCK_JUMPS,
    COUNT_BOUNDS,
    DIGEST_MISMATCHES,
    DURATION_BOUNDS_NS,
    EVICTED,
    EXPIRED,
    FAILED_HANDSHAKES,
    FEED_EVENTS,
    FEED_RESETS,
    FSYNC,
    FULL_RESYNCS,
    GAPS,
    PUT_ASIDE,
    RECORDS_DAMAGED,
    RECORDS_MENDED,
    RECORDS_VERIFIED,
    REPLAYS,
    REQUESTS,
    VIOLATIONS,
    Name,
    Sums,
    read_series,
    sum_of,
)
from synap.shared.watcher_counts import WatcherFacts, read_watchers
from synap.store import StoreFacts
from synap.tls import expires_at
from synap.watch.resume import COMPACTED, DIVERGED

_NS_PER_SECOND = 1e9
_ROLES = ("standalone", "master", "replica")
# What stops writes on a master, in the words of the errors. Others appear when they do.
_READ_ONLY_REASONS = (
    "data_dir_lost",
    "disk_full",
    "memory_limit",
    "no_lease",
    "recovering",
    "stale_epoch",
    "writer_unavailable",
)
_LINK_DOWN = frozenset({"", LinkState.CONNECTING, LinkState.DISCONNECTED, LinkState.DIVERGED})


class NodeState(msgspec.Struct, frozen=True):
    """What is looked at on the event loop, where it does not change meanwhile.

    Attributes:
        name: The node's id.
        role: Its role.
        view, details: What the owner tells.
        applied_offset: Last offset in the store.
        lag_ms: How old a replica's data may be.
        limit_bytes: The memory limit; 0 without one.
        request_limits: How many requests are remembered at most, and in how many bytes.
        counts: Operations of all workers, by `Counter`.
        store: What the store takes up; None while it can't be read.
        is_open: Replication serves whoever reaches its ports.
        watchers: Those of the change feed.
    """

    name: str
    role: str
    view: BoardView
    details: NodeDetails
    applied_offset: int
    lag_ms: int
    limit_bytes: int
    request_limits: tuple[int, int]
    counts: Sequence[int]
    store: StoreFacts | None
    is_open: bool
    watchers: WatcherFacts = WatcherFacts()

    @classmethod
    def of(cls, node: LocalNode) -> NodeState:
        """Look at `node`."""
        try:
            store = node.reader().facts()
        except ReadRefused:
            store = None
        return cls(
            name=node.config.server.node_id,
            role=node.role,
            view=node.view,
            details=node.details,
            applied_offset=node.applied_offset(),
            lag_ms=node.lag_ms(),
            limit_bytes=node.config.kv_store.max_memory_mb * 1024 * 1024,
            request_limits=(
                node.config.idempotency.max_entries,
                node.config.idempotency.max_bytes,
            ),
            counts=node.totals(),
            store=store,
            is_open=replication_is_open(node),
            watchers=read_watchers(node.paths.run_dir),
        )


def add_routes(app: App, node: LocalNode, api: NodeApi) -> None:
    """Add the endpoint."""
    app.add_route("/metrics", Metrics(node, api))


class Metrics(Resource):
    """The node's metrics."""

    is_long = True

    def __init__(self, node: LocalNode, api: NodeApi) -> None:
        super().__init__(node, api)
        # This worker serves with what the file holds now, whatever is put there later.
        self._certificate_expires = _expiry_of_certificate(node.config.server.tls.cert_path)

    async def on_get(self, req: Request, resp: Response) -> None:
        state = NodeState.of(self._node)
        agent = self._node.failover()
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = await asyncio.to_thread(self._render, state, agent)

    def _render(self, state: NodeState, agent: dict[str, object] | None) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(NodeCollector(state, read_series(self._node.paths.run_dir)))
        if agent is not None:
            registry.register(AgentCollector(agent, time.time_ns() // 1_000_000))
        if self._certificate_expires is not None:
            registry.register(CertificateCollector(self._certificate_expires))
        return generate_latest(registry)


class NodeCollector(Collector):
    """Yields the metrics of one look at the node."""

    def __init__(self, state: NodeState, sums: Sums) -> None:
        self._state = state
        self._sums = sums

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a value now."""
        yield labelled_gauge(
            "synap_build_info",
            "Version of Synap and of Python; the value is 1.",
            ("version", "python"),
            {(__version__, platform.python_version()): 1},
        )
        yield from _http_families(self._sums)
        yield from self._key_families()
        yield from self._store_families()
        yield from self._log_families()
        yield from self._feed_families()
        yield from self._role_families()
        yield from self._clock_families()
        yield from self._replication_families()
        yield from _process_families(named_pids(self._state.view))

    def _key_families(self) -> Iterator[Metric]:
        counts = self._state.counts
        yield labelled_counter(
            "synap_reads",
            "Keys that were asked for.",
            ("result",),
            {("hit",): counts[Counter.HITS], ("miss",): counts[Counter.MISSES]},
        )
        yield labelled_counter(
            "synap_writes",
            "Keys that clients wrote or removed.",
            ("operation",),
            {("set",): counts[Counter.SETS], ("delete",): counts[Counter.DELS]},
        )
        yield self._counter("synap_expired", "Keys removed because their time had come.", EXPIRED)
        yield self._counter("synap_evicted", "Keys removed to make room.", EVICTED)
        yield self._counter(
            "synap_idempotent_replays",
            "Requests with Idempotency-Key that had been done before, and were not done again.",
            REPLAYS,
        )
        if self._state.role != "replica":
            details = self._state.details
            yield GaugeMetricFamily(
                "synap_idempotency_records",
                "Requests with Idempotency-Key that are remembered.",
                details.request_records,
            )
            yield GaugeMetricFamily(
                "synap_idempotency_bytes",
                "What the records of remembered requests take up.",
                details.request_bytes,
            )
            most_records, most_bytes = self._state.request_limits
            yield GaugeMetricFamily(
                "synap_idempotency_max_records",
                "Requests that are remembered at most, by the configuration.",
                most_records,
            )
            yield GaugeMetricFamily(
                "synap_idempotency_max_bytes",
                "What the records of remembered requests may take up, by the configuration.",
                most_bytes,
            )

    def _store_families(self) -> Iterator[Metric]:
        state, store = self._state, self._state.store
        if store is None:
            return
        yield GaugeMetricFamily(
            "synap_keys", "Keys stored, expired ones that are still to be removed too.", store.keys
        )
        sizes = {
            "used": store.used_bytes,
            "free": store.free_bytes,
            "file": store.file_bytes,
            "limit": state.limit_bytes,
        }
        yield labelled_gauge(
            "synap_store_bytes",
            "Pages with data, free ones, the file; the limit in the configuration, 0 for none.",
            ("kind",),
            {(kind,): size for kind, size in sizes.items()},
        )
        yield GaugeMetricFamily(
            "synap_store_readers", "Read transactions that are open.", store.readers
        )
        yield GaugeMetricFamily(
            "synap_store_oldest_reader_transactions",
            "By how many transactions the oldest reader is behind: pages that can't be used again.",
            store.oldest_reader_age,
        )

    def _log_families(self) -> Iterator[Metric]:
        details = self._state.details
        yield histogram(
            "synap_wal_fsync_duration_seconds",
            "Time that the log's syncs took.",
            self._sums.get(FSYNC),
            DURATION_BOUNDS_NS,
            _NS_PER_SECOND,
        )
        yield histogram(
            "synap_wal_batch_entries",
            "Entries of the frames that were logged.",
            self._sums.get(BATCH),
            COUNT_BOUNDS,
            1,
        )
        yield GaugeMetricFamily("synap_wal_bytes", "Bytes of the log.", details.wal_bytes)
        yield GaugeMetricFamily("synap_wal_segments", "Its segments.", details.wal_segments)
        yield GaugeMetricFamily(
            "synap_wal_damaged",
            "1 where a part of it was found damaged that the live store makes up for.",
            bool(details.wal_damage),
        )
        yield from self._verify_families()
        snapshots = details.snapshots
        yield GaugeMetricFamily("synap_snapshots", "Snapshots that are kept.", snapshots.count)
        yield GaugeMetricFamily(
            "synap_snapshot_last_success_timestamp_seconds",
            "When the newest snapshot was taken; 0 for never.",
            snapshots.last_ms / 1000,
        )
        yield GaugeMetricFamily(
            "synap_snapshot_failing",
            "1 where the last try to take a snapshot failed.",
            bool(snapshots.error),
        )

    def _verify_families(self) -> Iterator[Metric]:
        health = self._state.details.store_health
        yield GaugeMetricFamily(
            "synap_records_damaged",
            "Records of the live store that are damaged and not mended yet.",
            health.damage.records,
        )
        yield GaugeMetricFamily(
            "synap_store_damaged",
            "1 where the live store is damaged and can't be rebuilt from snapshot and log.",
            bool(health.note),
        )
        yield self._counter(
            "synap_records_found_damaged", "Records that were found damaged.", RECORDS_DAMAGED
        )
        yield self._counter(
            "synap_records_mended", "Those of them that were mended.", RECORDS_MENDED
        )
        yield self._counter(
            "synap_replication_digest_mismatches",
            "Records of a replica that were not its master's at one offset.",
            DIGEST_MISMATCHES,
        )
        yield self._counter(
            "synap_records_verified", "Records that were looked at in turn.", RECORDS_VERIFIED
        )
        yield GaugeMetricFamily(
            "synap_verify_last_timestamp_seconds",
            "When all records had last been looked at; 0 for never since the owner's start.",
            health.scrub.last_ms / 1000,
        )

    def _feed_families(self) -> Iterator[Metric]:
        watchers = self._state.watchers
        yield GaugeMetricFamily("synap_watchers", "Watchers of the change feed.", watchers.watchers)
        yield GaugeMetricFamily(
            "synap_watch_lag_entries",
            "Entries that the watcher furthest behind has not been told of.",
            watchers.lag_entries,
        )
        yield self._counter("synap_watch_events", "Events that watchers were told.", FEED_EVENTS)
        yield labelled_counter(
            "synap_watch_resets",
            "Watchers whose position the log does not go on from, by the reason.",
            ("reason",),
            {
                (reason,): sum_of(self._sums, (FEED_RESETS, reason))
                for reason in (COMPACTED, DIVERGED)
            },
        )

    def _role_families(self) -> Iterator[Metric]:
        state, view = self._state, self._state.view
        yield labelled_gauge(
            "synap_role",
            "1 for the node's role.",
            ("role",),
            {(role,): role == state.role for role in _ROLES},
        )
        yield GaugeMetricFamily("synap_epoch", "Number of the reign.", view.epoch)
        reasons = {*_READ_ONLY_REASONS, view.read_only} - {""}
        yield labelled_gauge(
            "synap_read_only",
            "1 for the reason why a master or standalone node refuses writes.",
            ("reason",),
            {(reason,): reason == view.read_only for reason in sorted(reasons)},
        )
        if view.role:
            yield GaugeMetricFamily(
                "synap_log_owner_tick_age_seconds",
                "Time since the owner of the log last showed life.",
                max(0, time.monotonic_ns() - view.tick_ns) / _NS_PER_SECOND,
            )

    def _clock_families(self) -> Iterator[Metric]:
        details = self._state.details
        yield self._counter(
            "synap_clock_jumps", "Jumps of the machine's clock by more than 2 s.", CLOCK_JUMPS
        )
        yield GaugeMetricFamily(
            "synap_clock_held_seconds",
            "How far the clock jumped ahead, where deadlines do not follow it yet; 0 for nothing.",
            details.clock_held_seconds,
        )
        if self._state.role == "replica":
            yield GaugeMetricFamily(
                "synap_replication_clock_skew_seconds",
                "How far the master's clock, by which keys expire here, is ahead of the machine's.",
                details.clock_skew_seconds,
            )

    def _replication_families(self) -> Iterator[Metric]:
        state, view, details = self._state, self._state.view, self._state.details
        yield GaugeMetricFamily(
            "synap_replication_restart_waiting_for",
            "Replicas that this master waits for before it takes writes again.",
            len(details.awaited),
        )
        yield GaugeMetricFamily(
            "synap_replication_open",
            "1 where replication serves whoever reaches its ports, with no proof of membership.",
            state.is_open,
        )
        yield labelled_gauge(
            "synap_replication_offset",
            "Last offset that is applied here, and that the master is known to have.",
            ("kind",),
            {
                ("applied",): state.applied_offset,
                ("master",): view.master_offset,
            },
        )
        lags = {replica.id: (replica.lag_entries, replica.lag_ms) for replica in details.replicas}
        if state.role == "replica":
            entries = lag_entries(view.master_offset, state.applied_offset)
            # Those of a relay's followers are beside it, as it knows them.
            lags[state.name] = (entries, state.lag_ms)
            yield GaugeMetricFamily(
                "synap_replication_hops",
                "Links between this replica and its master; 0 before anything was heard.",
                view.hops,
            )
            yield GaugeMetricFamily(
                "synap_replication_link_up",
                "1 where the replica has its master's stream.",
                view.status not in _LINK_DOWN,
            )
        elif state.role == "master":
            yield _replicas_by_status(details.replicas)
        yield labelled_gauge(
            "synap_replication_lag_entries",
            "Entries that a replica lacks; on a master each replica's, as the master knows it.",
            ("replica",),
            {(name,): entries for name, (entries, _) in lags.items()},
        )
        yield labelled_gauge(
            "synap_replication_lag_seconds",
            "Age of the oldest entry that a replica may lack.",
            ("replica",),
            {(name,): ms / 1000 for name, (_, ms) in lags.items()},
        )
        yield from self._replication_counters()

    def _replication_counters(self) -> Iterator[Metric]:
        yield labelled_counter(
            "synap_replication_resyncs",
            "Snapshots that a replica took in, and times that it fetched from its master's log.",
            ("kind",),
            {(name[1],): sum_of(self._sums, name) for name in (FULL_RESYNCS, CATCH_UPS)},
        )
        yield self._counter(
            "synap_replication_entries_put_aside",
            "Entries of its own log that a replica put aside for its master's.",
            PUT_ASIDE,
        )
        yield self._counter(
            "synap_replication_gaps", "Holes that a replica saw in its master's stream.", GAPS
        )
        yield self._counter(
            "synap_replication_handshakes_failed",
            "Connections of replication that failed.",
            FAILED_HANDSHAKES,
        )
        yield self._counter(
            "synap_replication_violations",
            "Messages to a master's replication ports that it dropped.",
            VIOLATIONS,
        )

    def _counter(self, name: str, meaning: str, series: Name) -> Metric:
        return CounterMetricFamily(name, meaning, sum_of(self._sums, series))


class CertificateCollector(Collector):
    """Yields what is known of the certificate of `server.tls`."""

    def __init__(self, expires: int) -> None:
        self._expires = expires

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the look."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the one family."""
        yield GaugeMetricFamily(
            "synap_tls_certificate_expires_timestamp_seconds",
            "When the certificate that is served expires, or one that comes with it.",
            self._expires,
        )


def _expiry_of_certificate(path: Path | None) -> int | None:
    """Return when it expires; None without TLS, or where the file can't be read."""
    with suppress(OSError, ValueError):
        return None if path is None else expires_at(path)
    return None


def _http_families(sums: Sums) -> Iterator[Metric]:
    requests: dict[tuple[str, ...], float] = {}
    durations: dict[tuple[str, ...], list[int]] = {}
    for name, cells in sums.items():
        if name[0] != REQUESTS:
            continue
        _, method, route, code = name
        requests[route, method, code] = sum(cells[1:])
        known = durations.get((route, method), [0] * len(cells))
        durations[route, method] = [a + b for a, b in zip(known, cells, strict=True)]
    yield labelled_counter(
        "synap_http_requests", "Requests that were answered.", ("route", "method", "code"), requests
    )
    family = HistogramMetricFamily(
        "synap_http_request_duration_seconds",
        "Time from a request's arrival to its answer.",
        labels=("route", "method"),
    )
    for labels, cells in sorted(durations.items()):
        counts, total = buckets(cells, DURATION_BOUNDS_NS, _NS_PER_SECOND)
        family.add_metric(labels, counts, total)
    yield family


def _process_families(pids: dict[int, str]) -> Iterator[Metric]:
    labels = ("process", "pid")
    cpu: dict[tuple[str, ...], float] = {}
    resident: dict[tuple[str, ...], float] = {}
    files: dict[tuple[str, ...], float] = {}
    started: dict[tuple[str, ...], float] = {}
    now = time.time()
    for pid, name in pids.items():
        facts = process_facts(pid)
        if facts is None:
            continue
        label = (name, str(pid))
        cpu[label] = facts.cpu_seconds
        resident[label] = facts.resident_bytes
        started[label] = now - facts.age_seconds
        if facts.open_files is not None:
            files[label] = facts.open_files
    yield labelled_counter(
        "synap_process_cpu_seconds", "CPU time of the node's processes.", labels, cpu
    )
    yield labelled_gauge(
        "synap_process_resident_memory_bytes",
        "Their memory in RAM; the store's pages count in each.",
        labels,
        resident,
    )
    yield labelled_gauge("synap_process_open_fds", "Their open descriptors.", labels, files)
    yield labelled_gauge(
        "synap_process_start_time_seconds", "When they were started.", labels, started
    )


def _replicas_by_status(replicas: Iterable[ReplicaFacts]) -> Metric:
    counts: dict[tuple[str, ...], float] = {(state.value,): 0 for state in LinkState}
    for replica in replicas:
        counts[(replica.status,)] = counts.get((replica.status,), 0) + 1
    return labelled_gauge(
        "synap_replication_replicas", "Replicas that were heard, by status.", ("status",), counts
    )
