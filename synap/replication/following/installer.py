"""The disk's part of a replica's full resync, beside the loop: receive, verify, unpack, switch in.

One task takes the follower's jobs in their order and does each in a thread of its own, so that
heartbeats go on. Until the new log and store are entered, the old ones serve; nothing appends to
them meanwhile, which the follower sees to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from synap.errors import DiskFull, SnapshotError, StoreError
from synap.node.data_dir import DataDir, Prepared
from synap.replication.rules.messages import SnapshotOffer
from synap.replication.rules.resync import Install, Job, Receive, Write
from synap.snapshot.folder import Manifest, ReceivedImage
from synap.snapshot.image import put_in_place
from synap.wal.wal import Wal

logger = logging.getLogger(__name__)

# What leaves the old state as it was: the follower tries again.
_REFUSED = (OSError, SnapshotError, StoreError, DiskFull)

Argument = TypeVar("Argument")
Made = TypeVar("Made")
Done = Callable[[Job, bool], None]
Pause = Callable[[], AbstractAsyncContextManager[None]]


class Installer:
    """Carries out the jobs of one replica. All methods belong to the loop of `start`."""

    def __init__(self, data_dir: DataDir, directory: Path, pause: Pause = nullcontext) -> None:
        """
        Args:
            data_dir: Open, and this process's own.
            directory: The node's snapshots.
            pause: Keeps others from the log and the snapshots while both are switched.
        """
        self._data_dir = data_dir
        self._directory = directory
        self._pause = pause
        self._image: ReceivedImage | None = None
        self._task: asyncio.Task[None] | None = None
        self._switching: asyncio.Task[None] | None = None

    def start(self, done: Done, fail: Callable[[BaseException], None]) -> None:
        """Begin to take jobs, on the running loop.

        Args:
            done: Told what became of each job: whether it was done.
            fail: Told an error after which the process must end.
        """
        self._done = done
        self._fail = fail
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="resync")
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End; a job under way is waited for, the others are forgotten."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._switching is not None:
            await asyncio.wait((self._switching,))
        await asyncio.to_thread(self._thread.shutdown)
        if self._image is not None:
            self._image.close()

    def submit(self, jobs: Iterable[Job]) -> None:
        """Take jobs, to be done in their order after those that were taken before."""
        for job in jobs:
            self._jobs.put_nowait(job)

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                is_good = await self._carry_out(job)
            except Exception as error:
                self._fail(error)
                return
            self._done(job, is_good)

    async def _carry_out(self, job: Job) -> bool:
        """Do a job; return False where nothing of the node's state changed."""
        try:
            if isinstance(job, Install):
                await self._install(job)
            elif isinstance(job, Receive):
                await self._in_thread(self._receive, job.offer)
            else:
                await self._in_thread(self._write, job)
        except _Refused as refused:
            if self._image is not None:
                self._image.discard()
                self._image = None
            logger.error(
                "the full resync failed, and will be tried again: %s", refused.cause,
                extra={"action": "full_resync"},
            )  # fmt: skip
            return False
        return True

    async def _in_thread(self, work: Callable[[Argument], Made], argument: Argument) -> Made:
        # Where the task is cancelled, the thread still ends what it began.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, argument)

    def _receive(self, offer: SnapshotOffer) -> None:
        with _refusals():
            if self._image is not None:
                self._image.discard()
            self._image = None
            self._image = ReceivedImage(self._directory, offer.size, self._data_dir.files)
        logger.info(
            "receiving a snapshot of offset %d, %d bytes", offer.position.offset, offer.size,
            extra={"action": "full_resync", "offset": offer.position.offset},
        )  # fmt: skip

    def _write(self, job: Write) -> None:
        with _refusals():
            self._received().write(job.at_byte, job.content)

    async def _install(self, job: Install) -> None:
        began = time.monotonic()
        manifest = manifest_of(job.offer)
        prepared = await self._in_thread(self._prepare, manifest)
        self._switching = asyncio.create_task(self._switch_in(job, prepared))
        # Half a switch is no state to stop in.
        await asyncio.shield(self._switching)
        logger.info(
            "the snapshot of offset %d is in place, %d keys, %.2f s", manifest.position.offset,
            manifest.keys, time.monotonic() - began,
            extra={"action": "full_resync", "offset": manifest.position.offset},
        )  # fmt: skip

    async def _switch_in(self, job: Install, prepared: Prepared) -> None:
        async with self._pause():
            wal = await self._in_thread(partial(self._switch, job), prepared)
            self._data_dir.enter(wal, prepared)

    def _prepare(self, manifest: Manifest) -> Prepared:
        with _refusals():
            image = self._received()
            image.sync()
            prepared = self._data_dir.prepare(image.path, manifest)
            try:
                put_in_place(image.path, manifest, self._data_dir.files)
                image.close()
            except BaseException:
                prepared.store.close(clean=False)
                raise
            self._image = None
            return prepared

    def _switch(self, job: Install, prepared: Prepared) -> Wal:
        switch = job.switch
        with _refusals():
            try:
                begun = self._data_dir.begin_switch(
                    prepared, job.lineage, switch.kept_after, switch.keeps_store
                )
            except BaseException:
                prepared.store.close(clean=False)
                raise
        return self._data_dir.finish_switch(begun)

    def _received(self) -> ReceivedImage:
        if self._image is None:
            raise SnapshotError("the snapshot's file is gone")
        return self._image


class _Refused(Exception):
    """The disk refused, or the file is not what was offered; the old state counts."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what leaves the old state alone into `_Refused`."""
    try:
        yield
    except _REFUSED as error:
        raise _Refused(error) from error


def manifest_of(offer: SnapshotOffer) -> Manifest:
    """Return the manifest of the snapshot that is offered."""
    return Manifest(
        lineage=offer.lineage,
        position=offer.position,
        time_ms=offer.time_ms,
        created_ms=offer.created_ms,
        keys=offer.keys,
        bytes=offer.size,
        sha256=offer.sha256.hex(),
        compression=offer.compression,
        plain_bytes=offer.plain_bytes,
        # It counts only once `walk_apart` has looked at all of it.
        checked=True,
    )
