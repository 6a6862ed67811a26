"""Mends records of the live store that are damaged, while the node goes on.

Whoever finds one tells `report`: a read, a command, the scrub. A sound copy is sought in the places
that the role has, in their order: a replica asks its master and then its own snapshot and log, a
master its own snapshot and log and then its replicas. Until there is one, the key answers
`record_corrupt`, and what is asked is asked again. `synap.replication.rules.mending` says when a
copy may be taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from synap.errors import DiskFull, MemoryLimit, StoreError, SynapError
from synap.frame import ACCOUNTS, KEYS, REQUESTS
from synap.node.data_dir import DataDir
from synap.replication.rules.mending import Copy, Damage, Verdict, judge
from synap.shared.board import DamageFacts
from synap.shared.series import RECORDS_DAMAGED, RECORDS_MENDED, Count
from synap.store.scrubbing import DEADLINES, Suspect, is_sound

logger = logging.getLogger(__name__)

_SPACES = (KEYS, ACCOUNTS, REQUESTS)
# What is mended together, and what is known at most; the next scrub finds the others.
_TOGETHER = 500
_MAX_SUSPECTS = 10_000
# A copy that is too old or too new is a matter of the link's lag.
_SOON_SECONDS = 0.2
_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0
_NAMED_KEYS = 10
_MAX_DOUBTS = 1000


class CopySource(Protocol):
    """A place that may have sound copies of records."""

    name: str

    async def find(self, wanted: Sequence[Damage]) -> dict[tuple[int, bytes], Copy]:
        """Return what it has, by space and key; what is missing it can't tell of now.

        Raises:
            SynapError, OSError: it can't tell of any.
        """


class Mender:
    """The engine. All methods belong to the loop that `start` was called on."""

    def __init__(
        self,
        data_dir: DataDir,
        count: Count,
        on_ghosts: Callable[[str, Sequence[Damage]], None],
        on_damaged_page: Callable[[str], None],
    ) -> None:
        """
        Args:
            data_dir: Open, and this process's own.
            count: Counts damaged and mended records.
            on_damaged_page: Told where the store itself can't be read.
            on_ghosts: Told where a damaged record is none, by the name of the source that knows.
        """
        self._data_dir = data_dir
        self._count = count
        self._on_ghosts = on_ghosts
        self._on_damaged_page = on_damaged_page
        self._sources: tuple[CopySource, ...] = ()
        self._suspects: dict[Suspect, bool] = {}
        self._keys: set[bytes] = set()
        self._doubts: set[Suspect] = set()
        self._note = ""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(
        self,
        sources: Sequence[CopySource],
        arbiter: CopySource,
        on_right: Callable[[int, bytes], None],
    ) -> None:
        """Begin.

        Args:
            sources: The places to ask for records that are damaged, the best one first.
            arbiter: Says what the log makes of a record that another node has otherwise.
            on_right: Told of such a record where this node's is what the log makes.
        """
        self._sources = tuple(sources)
        self._arbiter = arbiter
        self._on_right = on_right
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End; what is damaged stays so."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def report_key(self, key: bytes) -> None:
        """Take the key of a record that somebody found damaged, in whatever space."""
        if len(self._keys) < _MAX_SUSPECTS:
            self._keys.add(key)
            self._wake.set()

    def report(self, suspects: Iterable[Suspect]) -> None:
        """Take places of the store that are damaged."""
        for suspect in suspects:
            if len(self._suspects) < _MAX_SUSPECTS:
                self._suspects.setdefault(suspect, False)
        self._wake.set()

    def doubt(self, suspects: Iterable[Suspect]) -> None:
        """Take places where another node of the same log holds something else."""
        for suspect in suspects:
            if len(self._doubts) < _MAX_DOUBTS:
                self._doubts.add(suspect)
        if self._doubts:
            self._wake.set()

    def facts(self) -> DamageFacts:
        """Return what is damaged now."""
        known = [each.key for each, is_known in self._suspects.items() if is_known]
        named = (key.decode(errors="backslashreplace") for key in known[:_NAMED_KEYS])
        return DamageFacts(len(known), tuple(named), self._note if known else "")

    async def _work(self) -> None:
        retry_seconds = _FIRST_RETRY_SECONDS
        wait_seconds: float | None = None
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait_seconds)
            is_new = self._wake.is_set()
            self._wake.clear()
            if is_new:
                retry_seconds = _FIRST_RETRY_SECONDS
            self._add_keys()
            try:
                is_waiting = await self._mend()
            except (DiskFull, MemoryLimit) as error:
                is_waiting = False
                self._note = f"there is no room to mend it: {error}"
            except StoreError as error:
                is_waiting = False
                self._note = error.message
                self._on_damaged_page(error.message)
            if not self._suspects:
                wait_seconds = None
            elif is_waiting:
                wait_seconds = _SOON_SECONDS
            else:
                wait_seconds = retry_seconds
                retry_seconds = min(2 * retry_seconds, _LAST_RETRY_SECONDS)

    def _add_keys(self) -> None:
        keys, self._keys = self._keys, set()
        for key in keys:
            self.report(Suspect(space, key) for space in _SPACES)
        # They are looked at right now.
        self._wake.clear()

    async def _mend(self) -> bool:
        """Mend what can be; return whether a copy was there that fits soon."""
        await self._settle_doubts()
        self._mend_deadlines()
        is_waiting = False
        why: list[str] = []
        left = self._damages()
        for source in self._sources:
            if not left:
                break
            try:
                copies = await source.find(left)
            except (SynapError, OSError) as error:
                why.append(f"{source.name}: {error}")
                continue
            is_waiting |= self._take(source.name, left, copies)
            left = self._damages()
        if left:
            self._note = "; ".join(why) or "no place has a sound copy of it yet"
            logger.error(
                "%d records are damaged and not mended, the first of them %r: %s", len(left),
                left[0].key, self._note, extra={"action": "record_damaged"},
            )  # fmt: skip
        return is_waiting

    def _damages(self) -> list[Damage]:
        """Look at what was reported; forget what is sound."""
        reader = self._data_dir.store.reader()
        found: list[Damage] = []
        for suspect in list(self._suspects):
            if suspect.space == DEADLINES:
                continue
            raw, offset = reader.raw(suspect.space, suspect.key)
            if raw is None or is_sound(suspect.key, raw):
                del self._suspects[suspect]
                continue
            if not self._suspects[suspect]:
                self._suspects[suspect] = True
                self._count(RECORDS_DAMAGED)
                logger.error(
                    "the record of key %r is damaged; it is not given out until it is mended",
                    suspect.key, extra={"action": "record_damaged", "space": suspect.space},
                )  # fmt: skip
            if len(found) < _TOGETHER:
                found.append(Damage(suspect.space, suspect.key, raw, offset))
        return found

    async def _settle_doubts(self) -> None:
        """Put in place what the log makes of records that another node has otherwise."""
        doubts, self._doubts = self._doubts, set()
        if not doubts:
            return
        look = self._data_dir.look
        looks = [(each, look(each.space, each.key)) for each in doubts]
        self.report(suspect for suspect, looked in looks if not looked.is_sound)
        sound = [
            Damage(suspect.space, suspect.key, looked.raw, looked.offset)
            for suspect, looked in looks
            if looked.is_sound
        ]
        try:
            copies = await self._arbiter.find(sound)
        except (SynapError, OSError) as error:
            # The next comparison finds it again.
            logger.error(
                "%d records differ from another node's, and the log can't tell which is right: %s",
                len(sound), error, extra={"action": "record_differs"},
            )  # fmt: skip
            return
        wrong: list[tuple[int, bytes, bytes | None]] = []
        for damage in sound:
            copy = copies[damage.space, damage.key]
            now = look(damage.space, damage.key)
            verdict = judge(damage, copy, now.raw, now.offset)
            if copy.raw == damage.raw:
                self._on_right(damage.space, damage.key)
            elif verdict in (Verdict.TAKE, Verdict.GHOST):
                wrong.append((damage.space, damage.key, copy.raw))
        if wrong:
            self._data_dir.restore(wrong)
            self._count(RECORDS_MENDED, len(wrong))
        logger.error(
            "%d records differ from another node's at one offset: by the log %d of them were wrong "
            "here, and are put right", len(sound), len(wrong), extra={"action": "record_differs"},
        )  # fmt: skip

    def _mend_deadlines(self) -> None:
        entries = [each.key for each in self._suspects if each.space == DEADLINES]
        if entries:
            self._data_dir.restore_deadlines(entries)
            self._count(RECORDS_MENDED, len(entries))
            logger.warning(
                "%d deadlines were put right by their records", len(entries),
                extra={"action": "record_mended"},
            )  # fmt: skip
        for entry in entries:
            del self._suspects[Suspect(DEADLINES, entry)]

    def _take(
        self, name: str, damages: Sequence[Damage], copies: dict[tuple[int, bytes], Copy]
    ) -> bool:
        """Put those copies in place that fit now; return whether others may soon."""
        reader = self._data_dir.store.reader()
        restored: list[tuple[int, bytes, bytes | None]] = []
        ghosts: list[Damage] = []
        is_waiting = False
        for damage in damages:
            copy = copies.get((damage.space, damage.key))
            if copy is None or (copy.raw is not None and not is_sound(damage.key, copy.raw)):
                continue
            verdict = judge(damage, copy, *reader.raw(damage.space, damage.key))
            if verdict is Verdict.TAKE:
                restored.append((damage.space, damage.key, copy.raw))
            elif verdict is Verdict.GHOST:
                ghosts.append(damage)
            is_waiting |= verdict is Verdict.WAIT
        if restored:
            self._data_dir.restore(restored)
            self._count(RECORDS_MENDED, len(restored))
            logger.warning(
                "%d damaged records were mended by %s, the first of them %r", len(restored), name,
                restored[0][1], extra={"action": "record_mended"},
            )  # fmt: skip
        if ghosts:
            self._on_ghosts(name, ghosts)
        return is_waiting
