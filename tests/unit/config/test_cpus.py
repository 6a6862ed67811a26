"""The CPUs that a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synap.config.cpus import usable_cpus

BOUND = len(os.sched_getaffinity(0))


def cpus(folder: Path, groups: str, files: dict[str, str]) -> int:
    (folder / "groups").write_text(groups)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return usable_cpus(folder / "groups", folder)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/pod/box\n", {"pod/box/cpu.max": "50000 100000\n"}, 1),
        ("0::/pod/box\n", {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, BOUND),
        (
            "4:cpu,cpuacct:/box\n1:name=systemd:/\n",
            {"cpu/box/cpu.cfs_quota_us": "50000\n", "cpu/box/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        (
            "4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            BOUND,
        ),
        ("0::/gone\n", {}, BOUND),
    ],
)
def test_quota_of_a_control_group_bounds_the_cpus(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    assert cpus(tmp_path, groups, files) == expected


def test_no_word_of_control_groups_leaves_the_cpus_that_are_there(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none", tmp_path) == BOUND
