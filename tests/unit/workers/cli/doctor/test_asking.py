"""What nodes tell together: versions, clocks, and how many replicas writes wait for."""

from __future__ import annotations

import msgspec

from workers.cli.doctor.asking import (
    Replication,
    Seen,
    clock_findings,
    quorum_findings,
    version_findings,
)
from workers.cli.doctor.findings import Level


def seen(*ahead: float, version: str = "1.0") -> list[Seen]:
    return [Seen(f"n{number}", "", version, each) for number, each in enumerate(ahead)]


def master(quorum: int, *statuses: str) -> Replication:
    facts = {
        "role": "master", "node_id": "m", "min_replicas_to_write": quorum,
        "replicas": [{"status": each} for each in statuses],
    }  # fmt: skip
    return msgspec.convert(facts, Replication)


def test_nodes_of_different_versions_are_named_by_version() -> None:
    (told,) = version_findings([*seen(0, version="1.0"), *seen(0, version="1.1")])
    assert "1.0: n0; 1.1: n0" in told.what
    assert not list(version_findings(seen(0, 0)))


def test_clocks_that_agree_are_no_finding() -> None:
    assert list(clock_findings(seen(0.4, -1.2, 2.0))) == []


def test_clock_of_one_node_that_differs_is_that_nodes() -> None:
    (told,) = clock_findings(seen(0.1, 7200.0))
    assert (told.about, "+7200 s" in told.what) == ("n1", True)


def test_clocks_that_all_differ_alike_make_it_this_machines() -> None:
    (told,) = clock_findings(seen(60.1, 59.5))
    assert (told.about, told.what[:8]) == ("this machine's clock", "is -60 s")


def test_quorum_above_the_replicas_that_follow_is_a_fault() -> None:
    (told,) = quorum_findings([master(2, "in_sync", "disconnected")])
    assert told.level is Level.FAULT
    assert "for 2 replicas, and 1 follow" in told.what


def test_master_with_replicas_and_no_quorum_is_a_note() -> None:
    (told,) = quorum_findings([master(0, "in_sync")])
    assert told.level is Level.NOTE
    assert not list(quorum_findings([master(0), master(1, "in_sync")][:1]))


def test_master_whose_reign_is_over_waits_for_nobody() -> None:
    over = msgspec.structs.replace(master(2, "disconnected"), read_only="stale_epoch")
    assert not list(quorum_findings([over]))


def test_quorums_that_differ_are_named() -> None:
    replica = Replication("replica", "r")
    (told,) = quorum_findings([master(1, "in_sync"), replica])
    assert "m: 1, r: 0" in told.what
