"""When appended frames are forced to the disk: the log's fsync mode.

A sync that failed once is never tried again: the kernel may have dropped the pages that it could
not write, and a second call would then report success ("Can Applications Recover from fsync
Failures?", ATC 2020). From then on the log refuses everything and the process is to end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from synap.disk import Files
from synap.errors import WalFailed

logger = logging.getLogger(__name__)

ALWAYS = "always"
PERIODIC = "periodic"
NEVER = "never"

# How long close waits for a sync that is under way on a slow disk.
_STOP_SECONDS = 30.0


class Syncer:
    """Syncs the active segment.

    Attributes:
        durable_offset: Last offset that is known to be on the disk.
        last_sync_ms: Wall clock at the end of the last sync; 0 before the first.
        last_sync_seconds: How long it took.
    """

    def __init__(
        self,
        files: Files,
        mode: str,
        interval_ms: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._files = files
        self._is_always = mode == ALWAYS
        self._interval_seconds = interval_ms / 1000
        self._on_failure = on_failure
        self._failure = ""
        self._file = -1
        self._written_offset = 0
        # Held over each sync, so that the segment is not switched and closed under one.
        self._lock = threading.Lock()
        self._should_stop = threading.Event()
        self._thread: threading.Thread | None = None
        if mode == PERIODIC:
            self._thread = threading.Thread(target=self._run, name="wal-sync", daemon=True)
        self.durable_offset = 0
        self.last_sync_ms = 0
        self.last_sync_seconds = 0.0

    def start(self, file: int, offset: int) -> None:
        """Begin with the active segment `file`, which holds the log up to `offset`.

        Raises:
            WalFailed: it can't be synced.
        """
        self._written_offset = offset
        self.switch(file)
        self.sync()

    def check(self) -> None:
        """Raise WalFailed where something failed for good before."""
        if self._failure:
            raise WalFailed(self._failure)

    def fail(self, error: BaseException, what: str) -> WalFailed:
        """Refuse everything from now on; return the error to raise."""
        if not self._failure:
            self._failure = f"{what}: {error}; the log takes no more writes, restart the node"
        return WalFailed(self._failure)

    def written(self, offset: int) -> None:
        """Take note that the active segment holds the log up to `offset`.

        Raises:
            WalFailed: the sync failed, in mode `always`.
        """
        self._written_offset = offset
        if self._is_always:
            self.sync()

    def retracted(self, offset: int) -> None:
        """Take note that the log ends at `offset` again."""
        with self._lock:
            self._written_offset = offset
            self.durable_offset = min(self.durable_offset, offset)

    def sync(self) -> None:
        """Sync the active segment if it holds more than is durable.

        Raises:
            WalFailed: the sync failed, now or before.
        """
        with self._lock:
            self.check()
            offset = self._written_offset
            if offset == self.durable_offset:
                return
            began = time.monotonic()
            self.sync_file(self._file)
            self.last_sync_seconds = time.monotonic() - began
            self.last_sync_ms = time.time_ns() // 1_000_000
            self.durable_offset = offset

    def sync_file(self, file: int) -> None:
        """Sync any file of the log.

        Raises:
            WalFailed: it failed.
        """
        try:
            self._files.sync(file)
        except OSError as error:
            raise self.fail(error, "fdatasync of the log failed") from error

    def sync_directory(self, path: Path) -> None:
        """Sync the log's folder.

        Raises:
            WalFailed: it failed.
        """
        try:
            self._files.sync_directory(path)
        except OSError as error:
            raise self.fail(error, "fsync of the log's folder failed") from error

    def switch(self, file: int) -> None:
        """Go on with the segment `file`; the caller has synced the finished one."""
        with self._lock:
            self._file = file
        if self._thread and not self._thread.ident:
            self._thread.start()

    def finish(self) -> None:
        """End the thread, sync what is not durable and refuse everything from now on.

        Raises:
            WalFailed: that sync failed; after an earlier failure none is tried.
        """
        self._should_stop.set()
        if self._thread and self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        if not self._failure:
            self.sync()
            self._failure = "the log is closed"

    def _run(self) -> None:
        while not self._should_stop.wait(self._interval_seconds):
            try:
                self.sync()
            except WalFailed as error:
                logger.critical("%s", error, extra={"action": "wal_sync"})
                self._on_failure(error)
                return
