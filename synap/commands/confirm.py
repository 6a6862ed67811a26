"""What asks whether replicas hold what was read, and changes nothing."""

from __future__ import annotations

from synap.commands.keyspace import BaseCommand, Keyspace, Limits


class Confirm(BaseCommand, frozen=True, tag=20):
    """Have the answer wait until as many replicas as are asked for hold `offset`.

    The result is True. It is told at once where they hold it already, and else when they hold all
    that the log has by now. No client asks for it by name: it is part of a read.
    """

    offset: int

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Change nothing; see BaseCommand."""
        return True
