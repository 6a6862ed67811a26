"""The replicas that a master knew, kept over its restarts: whom it asks before it takes writes.

`replicas.json` in the data directory has the address of the ROUTER socket that each would have as a
master, by name. It is written when that changes, in a thread, so that no commit waits for it; one
that is lost costs no more than not asking.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from synap.disk import DISK, Files, write_file

logger = logging.getLogger(__name__)

# The one that joined first makes room.
_MAX_REPLICAS = 64


def load_replicas(path: Path) -> dict[str, str]:
    """Return the addresses by name; none where the file is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        logger.debug("%s: %s", path, error)
        return {}


class KnownReplicas:
    """The file, on a master. All methods belong to one event loop."""

    def __init__(self, path: Path, files: Files = DISK) -> None:
        self._path = path
        self._files = files
        self._addresses = load_replicas(path)
        self._is_changed = False
        self._saving: asyncio.Task[None] | None = None

    def note(self, name: str, address: str) -> None:
        """Remember where a replica would be as a master; returns at once."""
        if self._addresses.get(name) == address:
            return
        self._addresses.pop(name, None)
        self._addresses[name] = address
        if len(self._addresses) > _MAX_REPLICAS:
            del self._addresses[next(iter(self._addresses))]
        self._is_changed = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save())

    async def stop(self) -> None:
        """Wait for what is being written."""
        if self._saving is not None:
            await self._saving

    async def _save(self) -> None:
        while self._is_changed:
            self._is_changed = False
            content = msgspec.json.format(msgspec.json.encode(self._addresses), indent=2) + b"\n"
            try:
                await asyncio.to_thread(write_file, self._path, content, files=self._files)
            except OSError as error:
                logger.warning(
                    "%s can't be written: %s", self._path, error, extra={"action": "replicas"}
                )
