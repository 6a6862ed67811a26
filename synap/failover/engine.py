"""An engine of elections as the agent wants it: leases, and keys that change all together or not.

`etcd` and `kubernetes` are such engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class EngineFailed(OSError):
    """No endpoint answered in time, or what was asked was refused; its effect is unknown."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key's value.

    Attributes:
        value: Bytes.
        created: Revision at which the key came into being: a fencing token.
        changed: Revision of its last change.
        lease: It goes with that one; 0 for none.
    """

    value: bytes
    created: int
    changed: int
    lease: int


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key.

    Attributes:
        lease: It goes with that one; 0 for none.
    """

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key."""

    key: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Holds where a key was last changed at a revision; 0 for one that is absent."""

    key: str
    revision: int


class Engine(Protocol):
    """Calls that block, each for a bounded time, and raise EngineFailed where nobody answers."""

    def grant(self, ttl_seconds: int) -> tuple[int, int]:
        """Return a new lease and for how many seconds it was granted, which may be others."""

    def keep_alive(self, lease: int) -> int:
        """Renew a lease; return for how many seconds, 0 where it is gone."""

    def read(self, *spans: tuple[str, str]) -> dict[str, Item]:
        """Return what is there from each first key up to, and without, the second, of one state."""

    def change(self, conditions: Sequence[Unchanged], effects: Sequence[Put | Delete]) -> bool:
        """Have all effects take place where all conditions hold; say whether they did."""
