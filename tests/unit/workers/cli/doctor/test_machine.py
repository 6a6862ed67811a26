"""What a machine lacks for a node."""

from __future__ import annotations

from pathlib import Path

from synap.config.keys import Config, KvStore
from workers.cli.doctor.findings import Level
from workers.cli.doctor.machine import (
    clock_findings,
    memory_findings,
    memory_limit_bytes,
    open_file_findings,
    run_folder_findings,
    shared_memory_findings,
)

MIB = 1024 * 1024


def test_hard_limit_below_what_a_worker_needs_is_told() -> None:
    (told,) = open_file_findings(Config(), 1024)
    assert "allows 1024 open files" in told.what
    assert list(open_file_findings(Config(), 1_000_000)) == []


def test_shared_memory_that_is_not_there_is_told(tmp_path: Path) -> None:
    (told,) = shared_memory_findings(tmp_path / "none")
    assert told.level is Level.NOTE
    assert list(shared_memory_findings(tmp_path)) == []


def test_run_folder_that_others_may_write_to_is_a_fault(tmp_path: Path) -> None:
    assert list(run_folder_findings(tmp_path)) == []
    tmp_path.chmod(0o777)
    (told,) = run_folder_findings(tmp_path)
    assert told.level is Level.FAULT


def test_memory_limit_above_the_groups_is_told(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{100 * MIB}\n")
    limit = memory_limit_bytes(tmp_path)
    (told,) = memory_findings(Config(kv_store=KvStore(max_memory_mb=200)), limit)
    assert "this control group gets 100 MiB" in told.what
    assert list(memory_findings(Config(kv_store=KvStore(max_memory_mb=50)), limit)) == []


def test_group_without_a_bound_has_none(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit_bytes(tmp_path) is None


def test_clock_that_nothing_keeps_right_is_a_note() -> None:
    (told,) = clock_findings(5)
    assert told.level is Level.NOTE
    assert list(clock_findings(0)) == []
    assert list(clock_findings(None)) == []
