"""The snapshot process: writes one snapshot and ends.

Thin: it takes a job from its standard input, carries it out and tells the outcome on its standard
output. The log's owner starts it, `python -m workers.snapshot`, and it dies with the owner.
"""

from __future__ import annotations

import os
import sys

from synap.snapshot.job import carry_out
from workers.process import EXIT_CLEAN, die_with_parent, keep_private

# Requests come first; the process still gets a share of a machine that is fully used, for it
# keeps the store's old pages from being used again as long as it reads.
_NICENESS = 10


def main() -> int:
    """Run the process and return its exit code."""
    die_with_parent()
    keep_private()
    os.nice(_NICENESS)
    sys.stdout.buffer.write(carry_out(sys.stdin.buffer.read()))
    return EXIT_CLEAN


if __name__ == "__main__":
    sys.exit(main())
