"""How many CPUs a process may use: what it is bound to, and what its control group leaves it.

A container's quota is no set of CPUs: each of the machine's is there, for a part of the time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(groups: Path = _GROUPS, root: Path = _ROOT) -> int:
    """Return the number of CPUs, at least 1; a part of one counts as one.

    Args:
        groups: Says which control groups the process is in.
        root: Where their files are.
    """
    bound = len(os.sched_getaffinity(0))
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas(groups, root))]))


def _quotas(groups: Path, root: Path) -> Iterator[float]:
    """Yield the CPUs that each group leaves, of those that bound them."""
    try:
        lines = groups.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _folders(root, path):
                yield from _quota_in(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for folder in _folders(root / "cpu", path):
                yield from _quota_in(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _folders(root: Path, path: str) -> list[Path]:
    """Return a group's folder and those of the groups around it, whose bounds count too."""
    inner = PurePosixPath(path.lstrip("/"))
    return [root / each for each in (inner, *inner.parents)]


def _quota_in(*files: Path) -> Iterator[float]:
    try:
        # "max 100000" or "50000 100000"; in the old form -1 for no bound.
        quota, period = (int(each) for file in files for each in file.read_text("ascii").split())
    except (OSError, ValueError):
        return
    if quota > 0 and period > 0:
        yield quota / period
