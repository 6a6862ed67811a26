"""Looks, as long as a node is a master, whether another one reigns that it has not heard of.

Two replicas that are promoted at once know nothing of each other: neither follows the other, nor
anybody whom that one knows. So a replica keeps where its master's other replicas would be as
masters (`peers.json`, from the welcome), and a master asks those, and its own, every few seconds.
Of two that meet so exactly one outranks the other; the lower one learns it by its own question.

Source: docs/protocol.md, "Reigns", E7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from synap.disk import DISK, Files, write_file
from synap.position import Lineage
from synap.replication.publishing.peer_check import find_rival
from synap.replication.transport.curve import Keys
from synap.sealed import sealed, unsealed

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_ANSWER_SECONDS = 1.0


class _Kept(msgspec.Struct, frozen=True):
    peers: tuple[str, ...]


class WatchedLog(Protocol):
    """What is compared."""

    @property
    def lineage(self) -> Lineage:
        """The reigns of the log."""


def load_peers(path: Path) -> tuple[str, ...]:
    """Return the addresses that a replica kept; none where the file is missing or damaged."""
    try:
        return unsealed(path.read_bytes(), _Kept).peers
    except (OSError, ValueError, msgspec.DecodeError) as error:
        logger.debug("%s: %s", path, error)
        return ()


def save_peers(path: Path, addresses: Collection[str], files: Files = DISK) -> None:
    """Keep the addresses; where the disk refuses, those of before stay."""
    try:
        write_file(path, sealed(_Kept(tuple(addresses))), files=files)
    except OSError as error:
        logger.warning("%s can't be written: %s", path, error, extra={"action": "peers"})


class RivalWatch:
    """The engine, on a master. All methods belong to the loop that `start` was called on."""

    def __init__(
        self,
        log: WatchedLog,
        name: str,
        addresses: Callable[[], Iterable[str]],
        keys: Keys | None,
        on_higher_epoch: Callable[[int, str], None],
    ) -> None:
        """
        Args:
            log: This master's.
            name: Its `server.node_id`.
            addresses: Tells whom to ask.
            keys: What replication is encrypted with; None where it is not.
            on_higher_epoch: Called with the epoch that ends the reign of this master, and with
                where clients reach its master.
        """
        self._log = log
        self._name = name
        self._addresses = addresses
        self._keys = keys
        self._on_higher_epoch = on_higher_epoch
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            rival = await find_rival(
                self._name, self._log.lineage, self._addresses(), _ANSWER_SECONDS, self._keys,
                tells_of_silence=False,
            )  # fmt: skip
            if rival.epoch:
                self._on_higher_epoch(*rival)
                return
            await asyncio.sleep(_LOOK_SECONDS)
