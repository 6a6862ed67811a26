"""Keyspaces: what commands read and change."""

from __future__ import annotations

from collections.abc import Sequence

from synap.commands.commands import Keyspace
from synap.commands.records import NEVER, Record


class Trial:
    """Keys on which a command is tried without an effect, to see whether it makes them larger."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._changed: dict[bytes, Record | None] = {}
        self.growth_bytes = 0

    def get(self, key: bytes) -> Record | None:
        """Return what the command would find."""
        return self._changed[key] if key in self._changed else self._keyspace.get(key)

    def put(self, key: bytes, value: bytes, expiry_ms: int) -> int:
        """Note a write; there is no version to tell."""
        self._replace(key, Record(0, expiry_ms, value))
        return 0

    def put_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> int:
        """Note writes; see `put`."""
        for key, value in pairs:
            self.put(key, value, NEVER)
        return 0

    def remove(self, key: bytes) -> None:
        """Note a removal."""
        self._replace(key, None)

    def clear(self, now_ms: int) -> int:
        """Note that everything goes, which is never a growth; later writes are not looked at."""
        self.growth_bytes = -(1 << 62)
        return 0

    def get_account(self, key: bytes) -> Record | None:
        """Return what the command would find."""
        return self._keyspace.get_account(key)

    def put_account(self, key: bytes, value: bytes) -> None:
        """Note nothing: accounts are few, and one must be stopped also where memory is full."""

    def remove_account(self, key: bytes) -> None:
        """Note nothing."""

    def _replace(self, key: bytes, record: Record | None) -> None:
        self.growth_bytes += _bytes_of(key, record) - _bytes_of(key, self.get(key))
        self._changed[key] = record


def _bytes_of(key: bytes, record: Record | None) -> int:
    return 0 if record is None else len(key) + len(record.value)
