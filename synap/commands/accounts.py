"""The command that changes accounts, which are a space beside the keys."""

from __future__ import annotations

from collections.abc import Iterable

from synap.commands.keyspace import (
    COMMAND_BYTES,
    BaseCommand,
    Keyspace,
    Limits,
    Need,
    check_value,
)
from synap.commands.records import check_key


class ChangeAccounts(BaseCommand, frozen=True, tag=32):
    """Change records of accounts; the result is False, and nothing changes, where one has moved.

    Attributes:
        seen: Keys of records with the version that whoever asks has seen, 0 for an absent one.
        puts: Records to write.
        removes: Records to remove.
    """

    seen: tuple[tuple[bytes, int], ...]
    puts: tuple[tuple[bytes, bytes], ...] = ()
    removes: tuple[bytes, ...] = ()

    def evaluate(self, keyspace: Keyspace, now_ms: int, limits: Limits) -> bool:
        """Carry it out; see BaseCommand."""
        for key in (*[key for key, _ in self.puts], *self.removes):
            check_key(key)
        for key, version in self.seen:
            record = keyspace.get_account(key)
            if version != (0 if record is None else record.version):
                return False
        for _, value in self.puts:
            check_value(len(value), limits)
        for key, value in self.puts:
            keyspace.put_account(key, value)
        for key in self.removes:
            keyspace.remove_account(key)
        return True

    def needs(self) -> Iterable[Need]:
        # Whoever may change their own account only, the resources of accounts let in by rules of
        # their own.
        return (("admin", b"auth:accounts"),)

    @property
    def size(self) -> int:
        return COMMAND_BYTES + sum([len(key) + len(value) for key, value in self.puts])
