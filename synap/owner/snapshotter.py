"""Takes the node's snapshots, and lets the log's old segments go that they cover.

The engine lives on the loop of the log's owner, on a master and on a replica. The work is done by a
process of its own (`workers/snapshot.py`), which reads the store as every HTTP worker does: neither
the owner's loop nor its interpreter lock waits for it.

The log is kept back to the second newest snapshot, so that the newest one may turn out to be
damaged, and so that a copy of the data directory that takes a while has a snapshot and the log
after it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from synap.errors import SnapshotError, SnapshotInvalid, SynapError
from synap.ipc.admin_messages import SnapshotTaken
from synap.ipc.messages import error_named
from synap.node.data_dir import DataDir
from synap.node.paths import NodePaths
from synap.shared.board import SnapshotFacts
from synap.snapshot.folder import Manifest, snapshots
from synap.snapshot.job import SnapshotJob, SnapshotOutcome
from synap.snapshot.schedule import SnapshotPolicy, is_due

if TYPE_CHECKING:
    from synap.config.keys import Config

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
# How many snapshots cover a segment before it goes.
_COVERING_SNAPSHOTS = 2


def _let_pass() -> None:
    """Leave it to whoever reads the store next."""


class Snapshotter:
    """The engine. All methods belong to the loop that `start` was called on.

    Attributes:
        on_unsound: Called where a snapshot was not sound when it was read back.
    """

    def __init__(
        self,
        config: Config,
        paths: NodePaths,
        data_dir: DataDir,
        command: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        """
        Args:
            config: `persistence`.
            paths: The node's.
            data_dir: Open, and this process's own.
            command: Starts the process that takes a job from its input.
            environment: The process's whole environment.
        """
        self._options = config.persistence.snapshot
        self._policy = SnapshotPolicy(
            self._options.interval_secs,
            self._options.operation_threshold,
            self._options.min_interval_secs,
        )
        self._max_wal_bytes = config.persistence.wal.max_size_mb * 1024 * 1024
        self._paths = paths
        self._data_dir = data_dir
        self._command = command
        self._environment = environment
        self._one_at_a_time = asyncio.Lock()
        self._known: list[tuple[Path, Manifest]] = []
        # SHA-256 and time of those that were found damaged; their files stay until they are pruned.
        self._unsound: set[tuple[str, int]] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._tried = time.monotonic()
        self._took_seconds = 0.0
        self._error = ""
        self.on_unsound: Callable[[], None] = _let_pass

    async def start(self) -> None:
        """Look at what is there and begin to watch the log."""
        self._known = self._look()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End; a snapshot under way is given up, and what it wrote is cleared at the next start."""
        if self._task is None:
            return
        self._task.cancel()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
        with suppress(asyncio.CancelledError):
            await self._task

    def facts(self) -> SnapshotFacts:
        """Return how the snapshots stand."""
        if not self._known:
            return SnapshotFacts(error=self._error)
        newest = self._known[0][1]
        return SnapshotFacts(
            count=len(self._known),
            last_offset=newest.position.offset,
            last_ms=newest.created_ms,
            last_bytes=newest.bytes,
            last_seconds=self._took_seconds,
            error=self._error,
        )

    async def take(self) -> SnapshotTaken:
        """Take a snapshot that holds what the log holds now; one that does already is enough.

        Raises:
            SnapshotError, DiskFull: it could not be taken.
        """
        if not self._data_dir.lineage:
            # A master that offered such a one could not say of which reign it is.
            raise SnapshotError(
                "the node has held nothing yet; a replica gets its first state soon"
            )
        wanted = self._data_dir.position.offset
        async with self._one_at_a_time:
            if not self._known or self._known[0][1].position.offset < wanted or self._is_gone():
                await self._write()
            path, manifest = self._known[0]
        return SnapshotTaken(manifest.position.offset, str(path))

    def known(self) -> list[tuple[Path, Manifest]]:
        """Return the snapshots that there are, newest first."""
        return self._known

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Take no snapshot and retire nothing meanwhile; then look again at what is there."""
        async with self._one_at_a_time:
            yield
            self._known = await asyncio.to_thread(self._look)

    def distrust(self, manifest: Manifest) -> None:
        """Forget a snapshot that turned out to be damaged: it covers nothing and goes to nobody."""
        self._unsound.add((manifest.sha256, manifest.created_ms))
        self._known = self._sound(self._known)

    def _look(self) -> list[tuple[Path, Manifest]]:
        return self._sound(snapshots(self._paths.snapshots_dir))

    def _sound(self, held: list[tuple[Path, Manifest]]) -> list[tuple[Path, Manifest]]:
        return [each for each in held if (each[1].sha256, each[1].created_ms) not in self._unsound]

    def _is_gone(self) -> bool:
        path, manifest = self._known[0]
        try:
            return path.stat().st_size != manifest.bytes
        except OSError:
            return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._one_at_a_time.locked():
                async with self._one_at_a_time:
                    await self._retire()
            if self._options.enabled and self._is_due():
                # The error was told; the next try comes when one is due again. Where no file could
                # be opened, that is soon.
                with suppress(SynapError, OSError):
                    await self.take()

    def _is_due(self) -> bool:
        newest = self._known[0][1].position.offset if self._known else 0
        return is_due(
            self._policy,
            entries=self._data_dir.position.offset - newest,
            seconds=time.monotonic() - self._tried,
            last_took_seconds=self._took_seconds,
            # Only the live store makes up for what is damaged, until a snapshot does.
            is_urgent=bool(self._data_dir.wal.damage)
            and newest + 1 < self._data_dir.wal.first_offset,
        )

    async def _retire(self) -> None:
        wal = self._data_dir.wal
        needed = min(_COVERING_SNAPSHOTS, self._options.max_snapshots)
        covering = self._known[:needed]
        if wal.size_bytes <= self._max_wal_bytes or len(covering) < needed:
            return
        count = wal.retire(covering[-1][1].position.offset, self._max_wal_bytes)
        if not count:
            return
        try:
            await asyncio.to_thread(wal.remove_retired)
        except OSError as error:
            logger.error("a segment can't be removed: %s", error, extra={"action": "wal_retire"})
            return
        logger.info(
            "%d segments went, the log begins at offset %d", count, wal.first_offset,
            extra={"action": "wal_retire", "first_offset": wal.first_offset},
        )  # fmt: skip

    async def _write(self) -> None:
        self._tried = time.monotonic()
        outcome = await self._run(
            SnapshotJob(
                store_dir=str(self._paths.store_dir),
                directory=str(self._paths.snapshots_dir),
                lineage=self._data_dir.lineage,
                compress=self._options.compression,
                keep=self._options.max_snapshots,
                now_ms=time.time_ns() // 1_000_000,
            )
        )
        self._took_seconds = outcome.seconds
        self._known = await asyncio.to_thread(self._look)
        self._error = outcome.message
        if outcome.error == SnapshotInvalid.__name__:
            self.on_unsound()
        if outcome.error:
            logger.error("no snapshot: %s", outcome.message, extra={"action": "snapshot"})
            raise error_named(outcome.error, outcome.message)
        if not self._known:
            raise SnapshotError("the snapshot was removed as soon as it was taken")
        offset, size = self._known[0][1].position.offset, self._known[0][1].bytes
        logger.info(
            "snapshot of offset %d, %d bytes, %.2f s", offset, size, self._took_seconds,
            extra={"action": "snapshot", "offset": offset},
        )  # fmt: skip

    async def _run(self, job: SnapshotJob) -> SnapshotOutcome:
        began = time.monotonic()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(self._environment),
            )
        except OSError as error:
            why = f"the process that takes it can't be started: {error.strerror}"
            return SnapshotOutcome("SnapshotError", why, time.monotonic() - began)
        try:
            output, _ = await process.communicate(msgspec.json.encode(job))
        finally:
            self._process = None
        try:
            return msgspec.json.decode(output, type=SnapshotOutcome)
        except msgspec.DecodeError:
            return SnapshotOutcome(
                "SnapshotError",
                f"the process that takes it ended with {process.returncode}",
                time.monotonic() - began,
            )
