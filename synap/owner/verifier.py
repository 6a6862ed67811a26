"""Looks at every record of the live store now and then, and has records made anew.

Both are the work of a process of its own (`workers/verify.py`), which reads the store as every HTTP
worker does: neither the owner's loop nor its interpreter lock waits for it. A page that is damaged
may end that process, and so shows without ending the node.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from synap.errors import VerifyFailed
from synap.ipc.admin_messages import StoreVerified
from synap.node.paths import NodePaths
from synap.owner.mender import Mender
from synap.owner.verification import Job, Salvage, Scrub, Told
from synap.replication.rules.mending import Copy, Damage
from synap.shared.board import ScrubFacts
from synap.shared.series import DIGEST_MISMATCHES, RECORDS_VERIFIED, Count
from synap.store.scrubbing import Suspect

logger = logging.getLogger(__name__)

# The first look comes so long after the start, as a part of the time between two.
_FIRST_PART = 24
_SECONDS_PER_HOUR = 3600
# Of one processor, while nobody waits for it; an operator who asks gets all of one.
_SLOW_SHARE = 0.1
# A salvaged record may be as long as a value.
_LONGEST_LINE_BYTES = 1024 * 1024 * 1024
# Signals by which a process ends that reads a damaged page; the others come from outside.
_STRUCTURAL = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


# Returns where another node of the same log has other records, given the share of the time.
Compare = Callable[[float], Awaitable[list[Suspect]]]


class Verifier:
    """The engine. All methods belong to the loop that `start` was called on."""

    name = "its own snapshot and log"

    def __init__(
        self,
        paths: NodePaths,
        mender: Mender,
        every_hours: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        count: Count,
        on_damaged_page: Callable[[str], None],
    ) -> None:
        """
        Args:
            paths: The node's.
            mender: Told what is damaged.
            every_hours: Time between two looks; 0 for none.
            command: Starts the process that takes a job from its input.
            environment: The process's whole environment.
            count: Counts the records that were looked at.
            on_damaged_page: Told where the store itself can't be read.
        """
        self._paths = paths
        self._mender = mender
        self._every_seconds = every_hours * _SECONDS_PER_HOUR
        self._command = command
        self._environment = environment
        self._count = count
        self._on_damaged_page = on_damaged_page
        self._facts = ScrubFacts()
        self._one_at_a_time = asyncio.Lock()
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, compare: Compare) -> None:
        """Begin, on the running loop.

        Args:
            compare: Compares the records with another node's, given the share of the time.
        """
        self._compare = compare
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End; a look under way is given up."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def facts(self) -> ScrubFacts:
        """Return how the last look went."""
        return self._facts

    def look_soon(self) -> None:
        """Look at everything now: something was found."""
        self._soon.set()

    async def verify(self) -> StoreVerified:
        """Look at every record now, as fast as it goes.

        Raises:
            VerifyFailed: it did not come to the end.
        """
        return await self._scrub(1.0)

    async def find(self, wanted: Sequence[Damage]) -> dict[tuple[int, bytes], Copy]:
        """Make records anew from snapshot and log, as `CopySource` tells.

        Raises:
            VerifyFailed: they don't lead to a whole state.
        """
        places = [Suspect(each.space, each.key) for each in wanted]
        paths = self._paths
        job = Salvage(str(paths.snapshots_dir), str(paths.wal_dir), places)
        told = await self._run(job, lambda _: None)
        salvaged = told.salvaged
        if salvaged is None:
            raise VerifyFailed(told.fault)
        return {
            (place.space, place.key): Copy(salvaged.offset, raw, self.name)
            for place, raw in salvaged.records
        }

    async def _watch(self) -> None:
        wait_seconds = self._every_seconds / _FIRST_PART
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._soon.wait(), wait_seconds or None)
            self._soon.clear()
            wait_seconds = self._every_seconds
            # It was logged; the next look comes in time.
            with suppress(VerifyFailed):
                await self._scrub(_SLOW_SHARE)

    async def _scrub(self, share: float) -> StoreVerified:
        async with self._one_at_a_time:
            began = time.monotonic()
            seen, found = 0, 0

            def hear(told: Told) -> None:
                nonlocal seen, found
                self._count(RECORDS_VERIFIED, told.records - seen if told.records > seen else 0)
                seen = max(seen, told.records)
                found += len(told.suspects)
                self._mender.report(told.suspects)

            told = await self._run(Scrub(str(self._paths.store_dir), share), hear)
            differing = await self._look_beside(share)
            seconds = time.monotonic() - began
            if told.fault:
                self._facts = msgspec.structs.replace(self._facts, error=told.fault)
                logger.error("the store was not verified: %s", told.fault,
                             extra={"action": "verify"})  # fmt: skip
                if told.is_structural:
                    self._on_damaged_page(told.fault)
                raise VerifyFailed(told.fault)
            self._facts = ScrubFacts(
                last_ms=time.time_ns() // 1_000_000, records=seen, bytes=told.count,
                seconds=seconds, damaged=found, differing=differing,
            )  # fmt: skip
            logger.log(
                logging.WARNING if found else logging.INFO,
                "%d records were verified, %d of them are damaged, %.1f s", seen, found, seconds,
                extra={"action": "verify", "records": seen, "damaged": found},
            )  # fmt: skip
            return StoreVerified(seen, told.count, found, differing)

    async def _look_beside(self, share: float) -> int:
        """Compare the records with another node's; return how many differ."""
        try:
            suspects = await self._compare(share)
        except VerifyFailed as error:
            logger.warning("the store was not compared: %s", error, extra={"action": "verify"})
            return 0
        if suspects:
            self._count(DIGEST_MISMATCHES, len(suspects))
            self._mender.doubt(suspects)
        return len(suspects)

    async def _run(self, job: Job, hear: Callable[[Told], None]) -> Told:
        """Have a process do a job; return its last line."""
        try:
            process = await self._started()
        except OSError as error:
            return Told(fault=f"the verifying process can't be started: {error.strerror}")
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(job))
            process.stdin.close()
            async for line in process.stdout:
                told = msgspec.json.decode(line, type=Told)
                hear(told)
                if told.is_done:
                    return told
            code = await process.wait()
        finally:
            await _ended(process)
        is_structural = -code in _STRUCTURAL
        return Told(fault=f"the verifying process ended with {code}", is_structural=is_structural)

    async def _started(self) -> Process:
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(self._environment),
                limit=_LONGEST_LINE_BYTES,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It is there all the same: a start that is cancelled leaves it behind.
            await _ended(await starting)
            raise


async def _ended(process: Process) -> None:
    """End a process, if it has not ended; a cancellation takes effect when it has."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    ending = asyncio.create_task(process.wait())
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending
        raise
