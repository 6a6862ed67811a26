"""The replicas that a master knew, kept over its restarts: whom it asks before it takes writes.

`replicas.json` in the data directory has the address of the ROUTER socket that each would have as a
master, by name, empty where it told none; and where each came from, which it does not choose. It is
written when that changes, in a thread, so that no commit waits for it. A replica's acks count when
it is written: a master that comes back without the end of its log asks those that are in it. Where
the file is damaged, it knows only that there were some: such a master waits for `UNREADABLE`, a
name that nobody has, and the operator decides.

Names cost a member nothing, so a full file takes another one only where `crowd` finds one that
goes: of an address with more names than others, or one that was away for an hour. A name that finds
no room is served, and counts for no quorum.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from synap.addresses import client_group, plain_address, split_address
from synap.disk import DISK, Files, write_file
from synap.errors import DataDirUnusable
from synap.node.aside import Quarantine
from synap.replication.rules.crowd import Seat, who_makes_room
from synap.sealed import sealed, unsealed

logger = logging.getLogger(__name__)

_MAX_REPLICAS = 64
# A machine that is away for less is being restarted or moved.
_AWAY_NS = 3600 * 1_000_000_000
_RETRY_SECONDS = 1.0
_COMPLAIN_EVERY_NS = 10_000_000_000
_FORGET_SECONDS = 5.0
UNREADABLE = "(whoever stood in replicas.json, which was damaged)"
"""Stands for the replicas that a damaged file named."""


class _Kept(msgspec.Struct, frozen=True):
    replicas: dict[str, str]
    # Where each came from, as `client_group` tells addresses apart; a replica claims its address.
    groups: dict[str, str] = {}


def load_replicas(path: Path) -> dict[str, str]:
    """Return the addresses by name; none where the file is missing.

    One that is damaged gives `UNREADABLE`.
    """
    return _load(path)[0].replicas


def _load(path: Path) -> tuple[_Kept, str]:
    """Return what the file holds, and what is wrong with it; empty where nothing is."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _Kept({}), ""
    except OSError as error:
        return _Kept({UNREADABLE: ""}), str(error)
    try:
        return unsealed(content, _Kept), ""
    except (ValueError, msgspec.DecodeError) as error:
        fault = str(error)
    try:
        # As versions before wrote it, without a checksum.
        return _Kept(msgspec.json.decode(content, type=dict[str, str])), ""
    except (ValueError, msgspec.DecodeError):
        return _Kept({UNREADABLE: ""}), fault


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
        kept, fault = _load(path)
        self._addresses, self._groups = kept.replicas, kept.groups
        self._written = frozenset(self._addresses)
        self._loaded_ns = time.monotonic_ns()
        self._complained_ns = -_COMPLAIN_EVERY_NS
        if fault:
            self._written = frozenset()
            with suppress(DataDirUnusable):
                aside.take([path], f"it is damaged ({fault}), and the next one begins with nobody")
        self._is_changed = False
        self._stopping = asyncio.Event()
        self.on_written: Callable[[], None] = _nothing
        self._saving: asyncio.Task[None] | None = None

    def note(self, name: str, address: str, seats: Mapping[str, Seat]) -> None:
        """Remember where a replica would be as a master; returns at once.

        Args:
            name: The replica's.
            address: Of its ROUTER socket, host:port; empty where it told none.
            seats: Who is behind each name that was heard since the start, this one's too.
        """
        seat = seats.get(name)
        group = self._groups.get(name, "") if seat is None else seat.group
        is_same = self._addresses.get(name) == address and self._groups.get(name, "") == group
        if is_same and name in self._written:
            return
        if name not in self._addresses and not self._has_room(name, seats):
            self._complain(name)
            return
        self._addresses.pop(name, None)
        self._addresses[name] = address
        self._groups[name] = group
        self._changed()

    def __contains__(self, name: str) -> bool:
        """Say whether the file holds a replica, or will."""
        return name in self._addresses

    async def forget(self, name: str) -> None:
        """Forget a replica; returns when the file is written without it, or can't be for now."""
        if self._addresses.pop(name, None) is None:
            return
        self._written -= {name}
        self._changed()
        if self._saving is not None:
            await asyncio.wait((self._saving,), timeout=_FORGET_SECONDS)

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

    def _has_room(self, name: str, seats: Mapping[str, Seat]) -> bool:
        if len(self._addresses) < _MAX_REPLICAS:
            return True
        # Whom a damaged file named is for `settle` to forget.
        names = [each for each in self._addresses if each != UNREADABLE]
        known = {each: seats.get(each) or self._unheard(each) for each in names}
        leaving = who_makes_room(known, seats[name].group, time.monotonic_ns(), _AWAY_NS)
        if leaving is not None:
            del self._addresses[leaving]
        return leaving is not None

    def _unheard(self, name: str) -> Seat:
        """Return who is behind a name that was not heard since the start, as far as is known."""
        if group := self._groups.get(name):
            return Seat(group, is_connected=False, heard_ns=self._loaded_ns)
        # Versions before kept what it claims alone.
        try:
            host = split_address(self._addresses[name])[0]
        except ValueError:
            host = ""
        group = client_group(plain_address(host)) if plain_address(host) else host
        return Seat(group, is_connected=False, heard_ns=self._loaded_ns)

    def _complain(self, name: str) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._complained_ns >= _COMPLAIN_EVERY_NS:
            self._complained_ns = now_ns
            logger.warning(
                "replica %s counts for no quorum: %s holds %d names, and none of them goes for it",
                name, self._path, len(self._addresses),
                extra={"action": "replicas", "replica": name},
            )  # fmt: skip

    async def stop(self) -> None:
        """Wait for what is being written."""
        self._stopping.set()
        if self._saving is not None:
            await self._saving

    async def _save(self) -> None:
        while self._is_changed:
            self._is_changed = False
            self._groups = {name: self._groups.get(name, "") for name in self._addresses}
            content = sealed(_Kept(dict(self._addresses), self._groups))
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
