"""What a node's metrics show to be wrong: the conditions of the alerts that need no history.

`ops/prometheus/alerts.yml` has the same conditions over time, for whoever is not there to look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from workers.cli.doctor.findings import Finding, Level, fault, note, warning

_SAMPLE = re.compile(r"([a-z_]+)(?:\{([^}]*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What a node's text has at most: some hundred lines for each worker.
_MOST_SAMPLES = 100_000
_DAY_SECONDS = 86_400
_EXPIRY_DAYS = 14
_SNAPSHOT_SECONDS = 3_600
_MOST_OPEN_FILES = 30_000
_NEAR_LIMIT = 0.9
# A caller alone gets half of the requests that are remembered.
_NEAR_REQUESTS = 0.4


@dataclass(frozen=True, slots=True)
class Sample:
    """One value."""

    name: str
    labels: Mapping[str, str]
    value: float


class Samples:
    """A node's metrics."""

    def __init__(self, text: str) -> None:
        """
        Args:
            text: In the form of Prometheus; lines of another form are left out.
        """
        self._by_name: dict[str, list[Sample]] = {}
        for line in text.splitlines()[:_MOST_SAMPLES]:
            found = _SAMPLE.fullmatch(line)
            if found is None:
                continue
            try:
                value = float(found[3])
            except ValueError:
                continue
            sample = Sample(found[1], dict(_LABEL.findall(found[2] or "")), value)
            self._by_name.setdefault(sample.name, []).append(sample)

    def of(self, name: str, **labels: str) -> list[Sample]:
        """Return the samples of a metric that have these labels."""
        return [
            each
            for each in self._by_name.get(name, ())
            if all(each.labels.get(label) == value for label, value in labels.items())
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the first such value; None where there is none."""
        found = self.of(name, **labels)
        return found[0].value if found else None


@dataclass(frozen=True, slots=True)
class _Rule:
    """A condition on each sample of one metric.

    Attributes:
        alert: Its name in `ops/prometheus/alerts.yml`.
        metric: Of the samples.
        is_bad: Tells by the value.
        level: How bad it is.
        what: With `{value}` and the labels in it.
        remedy: What to do.
        labels: That a sample has.
    """

    alert: str
    metric: str
    is_bad: Callable[[float], bool]
    level: Level
    what: str
    remedy: str
    labels: Mapping[str, str] | None = None


class _Words(dict[str, object]):
    """What stands for names in a sentence; a name that nobody gave for itself."""

    def __missing__(self, name: str) -> str:
        return name


def _is_on(value: float) -> bool:
    return value > 0


_RULES = (
    _Rule(
        "SynapFailoverEngineAway", "synap_failover_engine_age_seconds", lambda value: value > 30,
        Level.FAULT, "has a fail-over agent that no engine has answered for {value:.0f} s",
        "its note in /cluster says why; look at etcd, and at the way there",
    ),
    _Rule(
        "SynapFailoverImpossible", "synap_failover_can_replace", lambda value: value == 0,
        Level.WARNING, "finds nobody who could take a lost master's place now",
        "`synap failover status` names the voters that are missing and who is unfit",
    ),
    _Rule(
        "SynapFailoverPaused", "synap_failover_paused", _is_on, Level.WARNING,
        "is in maintenance: a lost master is replaced by nobody",
        "`synap failover resume` when that is over",
    ),
    _Rule(
        "SynapEntriesPutAside", "synap_replication_entries_put_aside_total", _is_on, Level.WARNING,
        "put {value:.0f} entries aside that its master's log lacks",
        "they are in diverged/ of its data directory; `synap wal show` reads them: look whether "
        "clients were told of them",
    ),
    _Rule(
        "SynapClockJumped", "synap_clock_held_seconds", lambda value: value != 0, Level.FAULT,
        "has seen its machine's clock jump by {value:.1f} s",
        "put the clock right; where it is right now, `synap clock confirm --url URL`",
    ),
    _Rule(
        "SynapClockSkew", "synap_replication_clock_skew_seconds", lambda value: abs(value) >= 1,
        Level.WARNING, "has a clock that is not its master's, which is {value:+.1f} s from it",
        "look whether NTP runs on both machines",
    ),
    _Rule(
        "SynapReplicaDiverged", "synap_replication_replicas", _is_on, Level.FAULT,
        "has {value:.0f} replica that holds another history",
        "see its note; `synap replication accept --url REPLICA` puts its own data aside",
        {"status": "diverged"},
    ),
    _Rule(
        "SynapReplicaMissing", "synap_replication_replicas", _is_on, Level.WARNING,
        "does not hear {value:.0f} of its replicas",
        "start them; where one is gone for good, `synap replication forget NAME --url MASTER`",
        {"status": "disconnected"},
    ),
    _Rule(
        "SynapHandshakesFailed", "synap_replication_handshakes_failed_total", _is_on, Level.NOTE,
        "has seen connections of replication fail, {value:.0f} since its machine was started",
        "its log names the reason: another secret or key, none, a stranger, or a node that hung",
    ),
    _Rule(
        "SynapReplicationOpen", "synap_replication_open", _is_on, Level.WARNING,
        "serves all data to whoever reaches its replication ports",
        "give all nodes one secret: `synap secret FILE`, and replication.secret",
    ),
    _Rule(
        "SynapRecordsDamaged", "synap_records_damaged", _is_on, Level.FAULT,
        "has {value:.0f} damaged records that wait for a sound copy",
        "its note says why; look at memory and disk of the machine",
    ),
    _Rule(
        "SynapDigestMismatch", "synap_replication_digest_mismatches_total", _is_on, Level.WARNING,
        "held {value:.0f} records that were not its master's; they were put right",
        "look at memory and disk of that machine: it changed what it held",
    ),
    _Rule(
        "SynapStoreDamaged", "synap_store_damaged", _is_on, Level.FAULT,
        "has a damaged live store, and can't make it anew",
        "promote a replica that is sound, or restore from a backup",
    ),
    _Rule(
        "SynapLogDamaged", "synap_wal_damaged", _is_on, Level.FAULT,
        "has a damaged place in its log",
        "`synap wal check DATA_DIR` names it; docs/operations.md, \"Repair\". Look at the disk",
    ),
    _Rule(
        "SynapSnapshotFailing", "synap_snapshot_failing", _is_on, Level.FAULT,
        "could not take its last snapshot",
        "mostly room or rights in the snapshots' folder; `synap snapshot --url URL` tries at once",
    ),
    _Rule(
        "SynapLogOwnerSilent", "synap_log_owner_tick_age_seconds", lambda value: value > 5,
        Level.FAULT, "has had no sign of its log's owner for {value:.0f} s",
        "the process hangs, mostly in a sync of a failing disk: see its log and the kernel's",
    ),
    _Rule(
        "SynapStaleReaders", "synap_store_oldest_reader_transactions",
        lambda value: value > 100_000, Level.WARNING,
        "has a reader that keeps pages of {value:.0f} transactions ago: the store grows",
        "a backup or a digest that takes long, or a stopped process; it ends with that",
    ),
    _Rule(
        "SynapManyOpenFiles", "synap_process_open_fds", lambda value: value > _MOST_OPEN_FILES,
        Level.WARNING, "has {value:.0f} files open in its process {process}",
        "lower server.max_connections or server.idle_timeout_secs",
    ),
)  # fmt: skip


def metric_findings(node: str, samples: Samples, now: float) -> Iterator[Finding]:
    """Yield what a node's metrics show to be wrong.

    Args:
        node: Its name.
        samples: Its metrics.
        now: Seconds since 1970.
    """
    # Where another node has taken its place, its replicas are that one's.
    is_over = bool(samples.value("synap_read_only", reason="stale_epoch"))
    for rule in _RULES:
        if is_over and rule.alert == "SynapReplicaMissing":
            continue
        for each in samples.of(rule.metric, **(rule.labels or {})):
            if rule.is_bad(each.value):
                what = rule.what.format_map(_Words(each.labels, value=each.value))
                yield Finding(rule.level, node, what, rule.remedy)
    yield from _waiting(node, samples)
    yield from _near_limits(node, samples)
    yield from _old_snapshot(node, samples, now)
    yield from _expiring(node, samples, now)


def _waiting(node: str, samples: Samples) -> Iterator[Finding]:
    """The log's owner, which may never have shown itself, and whom it waits for."""
    if samples.value("synap_log_owner_tick_age_seconds") is None:
        yield fault(
            node, "answers without a log's owner (SynapMetricsIncomplete)",
            "its log says what it waits for, such as a restore or a damaged log",
        )  # fmt: skip
    awaited = samples.value("synap_replication_restart_waiting_for")
    if awaited:
        yield fault(
            node, f"waits for {awaited:.0f} replicas before it takes writes",
            "start them; `waiting_for` in /health/replication names them",
        )  # fmt: skip


def _near_limits(node: str, samples: Samples) -> Iterator[Finding]:
    used = samples.value("synap_store_bytes", kind="used")
    limit = samples.value("synap_store_bytes", kind="limit")
    if used and limit and used / limit > _NEAR_LIMIT:
        yield warning(
            node, f"has {used / limit:.0%} of its memory limit in use (SynapStoreNearLimit)",
            "raise kv_store.max_memory_mb, remove keys, or choose another eviction policy",
        )  # fmt: skip
    for kind in ("records", "bytes"):
        held = samples.value(f"synap_idempotency_{kind}")
        most = samples.value(f"synap_idempotency_max_{kind}")
        if held and most and held / most > _NEAR_REQUESTS:
            yield warning(
                node, f"remembers {held / most:.0%} of the requests that it may ({kind})",
                "raise idempotency.max_entries or max_bytes, or lower idempotency.ttl_secs",
            )  # fmt: skip


def _old_snapshot(node: str, samples: Samples, now: float) -> Iterator[Finding]:
    """Whether what was written since the newest snapshot has waited for long."""
    written = samples.value("synap_wal_batch_entries_sum")
    taken = samples.value("synap_snapshot_last_success_timestamp_seconds")
    if not written or written <= 10_000:
        return
    if not taken:
        yield warning(node, "has no snapshot", "`synap snapshot --url URL` takes one; see its log")
    elif now - taken > _SNAPSHOT_SECONDS:
        yield note(
            node, f"took its newest snapshot {(now - taken) / 3600:.0f} h ago",
            "that is right where little is written; else see persistence.snapshot and its log",
        )  # fmt: skip


def _expiring(node: str, samples: Samples, now: float) -> Iterator[Finding]:
    ends = samples.of("synap_tls_certificate_expires_timestamp_seconds")
    if not ends:
        return
    yield from expiry_findings(node, min(each.value for each in ends), now)


def expiry_findings(about: str, ends: float, now: float) -> Iterator[Finding]:
    """Yield whether a certificate has expired, or will soon.

    Args:
        about: Whose it is.
        ends: Seconds since 1970.
        now: The same.
    """
    days = (ends - now) / _DAY_SECONDS
    remedy = "put a new one in its place, and send the node's supervisor HUP"
    if days <= 0:
        yield fault(about, f"serves a certificate that expired {-days:.1f} days ago", remedy)
    elif days < _EXPIRY_DAYS:
        yield warning(about, f"serves a certificate that expires in {days:.1f} days", remedy)


ALERTS = frozenset(rule.alert for rule in _RULES) | {
    "SynapMetricsIncomplete", "SynapStoreNearLimit", "SynapRequestsNearLimit", "SynapSnapshotOld",
    "SynapCertificateExpires",
}  # fmt: skip
"""The alerts whose conditions are looked at here."""
