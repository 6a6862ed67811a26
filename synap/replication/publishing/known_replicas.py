"""The replicas that a master knew, kept over its restarts: whom it asks before it takes writes.

`replicas.json` in the data directory has the address of the ROUTER socket that each would have as a
master, by name; empty where it told none. It is written when that changes, in a thread, so that no
commit waits for it. A replica's acks count when it is written: a master that comes back without the
end of its log asks those that are in it. Where the file is damaged, it knows only that there were
some: such a master waits for `UNREADABLE`, a name that nobody has, and the operator decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from synap.disk import DISK, Files, write_file
from synap.errors import DataDirUnusable
from synap.node.aside import Quarantine
from synap.sealed import sealed, unsealed

logger = logging.getLogger(__name__)

# The one that joined first makes room.
_MAX_REPLICAS = 64
_RETRY_SECONDS = 1.0
UNREADABLE = "(whoever stood in replicas.json, which was damaged)"
"""Stands for the replicas that a damaged file named."""


class _Kept(msgspec.Struct, frozen=True):
    replicas: dict[str, str]


def load_replicas(path: Path) -> dict[str, str]:
    """Return the addresses by name; none where the file is missing.

    One that is damaged gives `UNREADABLE`.
    """
    return _load(path)[0]


def _load(path: Path) -> tuple[dict[str, str], str]:
    """Return the addresses, and what is wrong with the file; empty where nothing is."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {UNREADABLE: ""}, str(error)
    try:
        return unsealed(content, _Kept).replicas, ""
    except (ValueError, msgspec.DecodeError) as error:
        fault = str(error)
    try:
        # As versions before wrote it, without a checksum.
        return msgspec.json.decode(content, type=dict[str, str]), ""
    except (ValueError, msgspec.DecodeError):
        return {UNREADABLE: ""}, fault


class KnownReplicas:
    """The file, on a master. All methods belong to one event loop.

    Attributes:
        on_written: Called when `is_written` may have changed.
    """

    def __init__(self, path: Path, aside: Quarantine, files: Files = DISK) -> None:
        """
        Args:
            path: The file.
            aside: Takes it where it is damaged.
        """
        self._path = path
        self._files = files
        self._addresses, fault = _load(path)
        self._written = frozenset(self._addresses)
        if fault:
            self._written = frozenset()
            with suppress(DataDirUnusable):
                aside.take([path], f"it is damaged ({fault}), and the next one begins with nobody")
        self._is_changed = False
        self._stopping = asyncio.Event()
        self.on_written: Callable[[], None] = _nothing
        self._saving: asyncio.Task[None] | None = None

    def note(self, name: str, address: str) -> None:
        """Remember where a replica would be as a master; returns at once."""
        if self._addresses.get(name) == address and name in self._written:
            return
        self._addresses.pop(name, None)
        self._addresses[name] = address
        if len(self._addresses) > _MAX_REPLICAS:
            del self._addresses[next(iter(self._addresses))]
        self._changed()

    def _changed(self) -> None:
        self._is_changed = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save())

    def settle(self, *, is_recovering: bool) -> None:
        """Keep or forget those of a damaged file; to be told when a restart is over, too."""
        if UNREADABLE not in self._addresses:
            return
        if not is_recovering:
            del self._addresses[UNREADABLE]
        self._changed()

    def addresses(self) -> list[str]:
        """Return where they would be as masters, of those that told."""
        return list(filter(None, self._addresses.values()))

    def is_written(self, name: str) -> bool:
        """Say whether the file holds a replica, durably."""
        return name in self._written

    async def stop(self) -> None:
        """Wait for what is being written."""
        self._stopping.set()
        if self._saving is not None:
            await self._saving

    async def _save(self) -> None:
        while self._is_changed:
            self._is_changed = False
            content = sealed(_Kept(dict(self._addresses)))
            names = frozenset(self._addresses)
            # Who made room counts for nothing before the file without it is begun.
            self._written &= names
            try:
                await asyncio.to_thread(write_file, self._path, content, files=self._files)
            except OSError as error:
                logger.warning(
                    "%s can't be written, and quorums lack who is not in it: %s", self._path, error,
                    extra={"action": "replicas"},
                )  # fmt: skip
                self._is_changed = not self._stopping.is_set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _RETRY_SECONDS)
            else:
                self._written = names
                self.on_written()


def _nothing() -> None:
    """Tell nobody."""
