"""CPU time of running processes, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def process_tree(root: int) -> list[int]:
    """Return `root` and every process below it."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _fields(int(folder.name))
        if fields:
            children[int(fields[1])].append(int(folder.name))
    tree = [root]
    for pid in tree:
        tree.extend(children[pid])
    return tree


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time that `pids` and their threads have used, in user and kernel mode.

    The kernel counts it in ticks of 10 ms, so it wants to be taken over seconds.
    """
    ticks = 0
    for pid in pids:
        fields = _fields(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_SECOND


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; nothing for an ended process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name before them stands in brackets and may hold anything.
    return stat.rpartition(")")[2].split()
