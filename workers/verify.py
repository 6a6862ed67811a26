"""The verifying process: looks at the live store, or makes records anew, and ends.

Thin: it takes a job from its standard input, carries it out and tells of it on its standard output.
The log's owner starts it, `python -m workers.verify`, and it dies with the owner. Whatever else
runs on the machine comes first, at the processor and at the disk.
"""

from __future__ import annotations

import ctypes
import os
import sys

from synap.owner.verification import carry_out
from workers.process import EXIT_CLEAN, die_with_parent, keep_private

_NICENESS = 19
# ioprio_set(2): of a process, the lowest priority of the best-effort class.
_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS = 1
_BEST_EFFORT_LAST = 2 << 13 | 7


def main() -> int:
    """Run the process and return its exit code."""
    die_with_parent()
    keep_private()
    os.nice(_NICENESS)
    call = _SYS_IOPRIO_SET.get(os.uname().machine)
    if call is not None:
        ctypes.CDLL(None).syscall(call, _IOPRIO_WHO_PROCESS, 0, _BEST_EFFORT_LAST)
    carry_out(sys.stdin.buffer.read(), _tell)
    return EXIT_CLEAN


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
