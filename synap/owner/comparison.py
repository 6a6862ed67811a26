"""Compares a replica's records with its master's, range by range, while both go on.

Records that lie where they should and are whole may still be the wrong ones: a page of before, a
record that is missing. Each side sums up the records of a range; where the sums differ, and go on
differing, the range is halved until single keys are left. A key counts where the replica held the
same before and after an offset at which the master held something else: the two logs are the same
there, byte for byte, so one of the two stores does not show what its log says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from synap.frame import ACCOUNTS, KEYS, REQUESTS
from synap.node.data_dir import DataDir
from synap.replication.rules.record_copies import Summed
from synap.store.scrubbing import Suspect

# Small, for the master's loop makes the sum between two turns.
_RANGE_RECORDS = 250
_FEW_RECORDS = 4
# What is written meanwhile comes by itself.
_AGAIN_SECONDS = 0.1
_TRIES = 20
_MOST_SUSPECTS = 1000


class ComparedMaster(Protocol):
    """The master, as it is asked."""

    async def summed(self, space: int, after: bytes, until: bytes, limit: int) -> Summed:
        """Return its sum over a range.

        Raises:
            VerifyFailed: it can't be asked, or does not answer.
        """


class Comparison:
    """One round through all records.

    Attributes:
        suspects: Where the two stores differ at one offset.
    """

    def __init__(
        self,
        data_dir: DataDir,
        master: ComparedMaster,
        share: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            share: Of the time, in which something is asked for.
        """
        self._data_dir = data_dir
        self._master = master
        self._share = share
        self._sleep = sleep
        self.suspects: list[Suspect] = []

    async def run(self) -> list[Suspect]:
        """Go through all records; errors as `ComparedMaster`."""
        for space in (KEYS, ACCOUNTS, REQUESTS):
            after = b""
            while len(self.suspects) < _MOST_SUSPECTS:
                began = time.monotonic()
                own = self._data_dir.summed(space, after, b"", _RANGE_RECORDS)
                until = own.last if own.records == _RANGE_RECORDS else b""
                await self._compare(space, after, until)
                await self._sleep((time.monotonic() - began) * (1 / self._share - 1))
                if not until:
                    break
                after = until
        return self.suspects

    async def _compare(self, space: int, after: bytes, until: bytes) -> None:
        for _ in range(_TRIES):
            own = self._data_dir.summed(space, after, until, 4 * _RANGE_RECORDS)
            other = await self._master.summed(space, after, until, 4 * _RANGE_RECORDS)
            if (own.records, own.sum) == (other.records, other.sum):
                return
            if max(own.records, other.records) > _FEW_RECORDS:
                break
            await self._sleep(_AGAIN_SECONDS)
        if max(own.records, other.records) <= _FEW_RECORDS:
            for key in await self._keys(space, after, until):
                await self._judge(space, key)
            return
        middle = await self._middle(space, after, until, own, other)
        await self._compare(space, after, middle)
        await self._compare(space, middle, until)

    async def _middle(
        self, space: int, after: bytes, until: bytes, own: Summed, other: Summed
    ) -> bytes:
        if own.records >= other.records:
            return self._data_dir.summed(space, after, until, own.records // 2).last
        return (await self._master.summed(space, after, until, other.records // 2)).last

    async def _keys(self, space: int, after: bytes, until: bytes) -> list[bytes]:
        keys: set[bytes] = set()
        at = after
        while (found := self._data_dir.summed(space, at, until, 1)).records:
            keys.add(found.last)
            at = found.last
        at = after
        while (found := await self._master.summed(space, at, until, 1)).records:
            keys.add(found.last)
            at = found.last
        return sorted(keys)

    async def _judge(self, space: int, key: bytes) -> None:
        after = _before(key)
        for _ in range(_TRIES):
            before = self._data_dir.summed(space, after, key, 2)
            other = await self._master.summed(space, after, key, 2)
            behind = self._data_dir.summed(space, after, key, 2)
            if other.sum in (before.sum, behind.sum):
                return
            if before.sum == behind.sum and before.offset <= other.offset <= behind.offset:
                self.suspects.append(Suspect(space, key))
                return
            await self._sleep(_AGAIN_SECONDS)


def _before(key: bytes) -> bytes:
    """Return what only `key` follows, of all keys up to it."""
    if not key[-1]:
        return key[:-1]
    return (key[:-1] + bytes([key[-1] - 1])).ljust(511, b"\xff")
