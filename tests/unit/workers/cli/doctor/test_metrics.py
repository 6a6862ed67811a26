"""What a node's metrics show to be wrong, and that no alert was forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workers.cli.doctor.findings import Finding, Level
from workers.cli.doctor.metrics import ALERTS, Samples, metric_findings

NOW = 1_800_000_000.0
WELL = "synap_log_owner_tick_age_seconds 0.1\n"
# What only time shows, or only the whole cluster: `asking` and `cluster` look at the latter.
ELSEWHERE = {
    "SynapNodeDown", "SynapNoMaster", "SynapTwoMasters", "SynapMasterFenced", "SynapReadOnly",
    "SynapReplicationLinkDown", "SynapReplicaLagging", "SynapWatchersReset", "SynapFullResyncs",
    "SynapFsyncSlow", "SynapErrors", "SynapSlow", "SynapRestarting",
}  # fmt: skip


def findings(text: str) -> list[Finding]:
    return list(metric_findings("n", Samples(WELL + text), NOW))


def test_every_alert_is_looked_at_or_needs_history() -> None:
    file = Path(__file__).parents[5] / "ops/prometheus/alerts.yml"
    names = set(re.findall(r"- alert: (\w+)", file.read_text()))
    assert names == ALERTS | ELSEWHERE
    assert not ALERTS & ELSEWHERE


def test_replicas_that_another_master_has_now_are_not_missed() -> None:
    missing = 'synap_replication_replicas{status="disconnected"} 2\n'
    assert findings(missing + 'synap_read_only{reason="stale_epoch"} 1') == []
    assert len(findings(missing + 'synap_read_only{reason="stale_epoch"} 0')) == 1


def test_metrics_of_a_sound_node_show_nothing() -> None:
    assert findings('synap_replication_replicas{status="in_sync"} 3\n# HELP x y\nrubbish') == []


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("synap_failover_engine_age_seconds 31", Level.FAULT, "no engine has answered for 31 s"),
        ("synap_failover_can_replace 0", Level.WARNING, "nobody who could take"),
        ("synap_failover_paused 1", Level.WARNING, "maintenance"),
        ("synap_replication_entries_put_aside_total 7", Level.WARNING, "put 7 entries aside"),
        ("synap_clock_held_seconds -3.5", Level.FAULT, "jump by -3.5 s"),
        ("synap_replication_clock_skew_seconds -2", Level.WARNING, "which is -2.0 s from it"),
        ('synap_replication_replicas{status="diverged"} 1', Level.FAULT, "another history"),
        ('synap_replication_replicas{status="disconnected"} 2', Level.WARNING, "2 of its"),
        ("synap_replication_open 1", Level.WARNING, "whoever reaches"),
        ("synap_records_damaged 4", Level.FAULT, "4 damaged records"),
        ("synap_store_damaged 1", Level.FAULT, "damaged live store"),
        ("synap_wal_damaged 1", Level.FAULT, "damaged place in its log"),
        ("synap_snapshot_failing 1", Level.FAULT, "last snapshot"),
        ("synap_replication_restart_waiting_for 2", Level.FAULT, "waits for 2 replicas"),
        (
            'synap_store_bytes{kind="used"} 95\nsynap_store_bytes{kind="limit"} 100',
            Level.WARNING, "95% of its memory limit",
        ),
        (
            "synap_idempotency_records 50\nsynap_idempotency_max_records 100",
            Level.WARNING, "50% of the requests",
        ),
        (
            f"synap_wal_batch_entries_sum 20000\n"
            f"synap_snapshot_last_success_timestamp_seconds {NOW - 7200}",
            Level.NOTE, "2 h ago",
        ),
        (
            f"synap_tls_certificate_expires_timestamp_seconds {NOW - 86400}",
            Level.FAULT, "expired 1.0 days ago",
        ),
        (
            f"synap_tls_certificate_expires_timestamp_seconds {NOW + 86400}",
            Level.WARNING, "expires in 1.0 days",
        ),
        (
            'synap_process_open_fds{pid="1",process="http"} 40000',
            Level.WARNING, "open in its process http",
        ),
    ],
)  # fmt: skip
def test_metric_that_is_not_as_it_should_be_is_told(text: str, level: Level, words: str) -> None:
    (told,) = findings(text)
    assert (told.level, told.about) == (level, "n")
    assert words in told.what
    assert told.remedy


def test_node_without_a_logs_owner_is_told() -> None:
    (told,) = metric_findings("n", Samples("synap_keys 1"), NOW)
    assert "without a log's owner" in told.what


def test_labels_that_no_node_has_do_no_harm() -> None:
    (told,) = findings('synap_process_open_fds{value="x",pid="1"} 1e400')
    assert told.what == "has inf files open in its process process"
