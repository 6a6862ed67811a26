"""What a node's processes are started with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workers.process import child_environment

ROOT = Path(__file__).parents[3]

ALLOCATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def test_child_environment_sets_the_allocator_up_unless_the_operator_has() -> None:
    first, second = ALLOCATOR
    environment = child_environment({first: "7"}, None, {})
    assert environment[first] == "7"
    assert int(environment[second]) > 1_048_576


def test_closed_standard_files_lead_to_nowhere() -> None:
    code = (
        "import os; from workers.process import open_standard_files; open_standard_files(); "
        "print('lost'); "
        "os._exit(sum(os.readlink(f'/proc/self/fd/{n}') != '/dev/null' for n in range(3)))"
    )
    shell = 'exec "$@" <&- >&- 2>&-'
    command = ["sh", "-c", shell, "sh", sys.executable, "-P", "-c", code]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 0
