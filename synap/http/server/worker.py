"""The Gunicorn worker class: one process that serves an ASGI application by `HttpServer`.

Gunicorn forks it, gives it the listening sockets and its configuration, and watches its heartbeat.
Here are the process's life, its signals and TLS; nothing of HTTP. Chosen by
`worker_class = "synap.http.server.worker.SynapWorker"`; it runs any ASGI application.

What it takes of Gunicorn's settings: `worker_connections`, `keepalive`, `graceful_timeout`,
`timeout`, `max_requests`, `asgi_lifespan`, and those of TLS. The rest of its limits are
`SynapWorker.limits`, which a configuration file sets on the worker in `post_fork`.

With `reuse_port` each worker has its own accept queue, and what waits there when a worker leaves is
reset by the kernel; without it all workers share one, and nothing is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

import msgspec
import uvloop
from gunicorn import sock
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from synap.http.server.lifespan import Lifespan, StartupFailed
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from synap.shared.connection_counts import ConnectionCounts

# Often enough for any `timeout` of whole seconds.
HEARTBEAT_SECONDS = 0.5

# The arbiter kills what is left when `graceful_timeout` is over; the application's own shutdown
# gets this part of it.
SHUTDOWN_PART = 0.1

# CPython keeps the frames of calls in chunks of 16 KiB, and gives a chunk back when its last frame
# ends. Where the loop happens to stand near the border of one, each call across it maps and unmaps
# memory: of 22 depths over one chunk, 2 had 1 and 11 page faults a GET and up to 5 times the CPU,
# and any change of the code may move the loop there. A frame of this many slots (of 8 bytes) gets
# a chunk of 512 KiB, whose other half has room for all that the loop calls.
ROOMY_SLOTS = 33_000


def _call(function: Callable[[], int]) -> int:
    return function()


_call_with_room = FunctionType(_call.__code__.replace(co_stacksize=ROOMY_SLOTS), globals())


# The arbiter imports this module before it forks the first worker.
_counts = ConnectionCounts()


class SynapWorker(Worker):  # type: ignore[misc]
    """Serves an ASGI application until the arbiter says stop.

    Attributes:
        limits: The limits that Gunicorn has no setting for.
    """

    limits = HttpLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._should_exit: asyncio.Event | None = None
        self._server: HttpServer | None = None
        self._is_quick = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn of settings that cost what this worker promises. Called by the arbiter."""
        if cfg.reuse_port:
            log.warning("reuse_port: connections that wait for a worker that leaves are reset")

    def init_signals(self) -> None:
        """Install the handlers that hold until the loop runs, and the one that must not need it."""
        super().init_signals()
        # The loop has its own way to wake on a signal.
        signal.set_wakeup_fd(-1)

    def run(self) -> None:
        """Serve until told to stop. Called by Gunicorn, in the worker's process."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = _call_with_room(lambda: runner.run(self._serve()))
        if code:
            sys.exit(code)

    async def _serve(self) -> int:
        """Start, serve, drain, stop; return the exit code."""
        self._should_exit = asyncio.Event()
        self._take_signals()
        heartbeat = asyncio.create_task(self._beat())
        lifespan = Lifespan(self.wsgi, is_required=self.cfg.asgi_lifespan == "on")
        try:
            if self.cfg.asgi_lifespan != "off":
                await lifespan.startup()
            await self._serve_requests(lifespan)
            if not self._is_quick:
                await self._stop_within_time(lifespan)
        except StartupFailed as error:
            self.log.error("The application could not start: %s", error)
            return int(Arbiter.WORKER_BOOT_ERROR)
        finally:
            heartbeat.cancel()
        return 0

    async def _serve_requests(self, lifespan: Lifespan) -> None:
        """Accept and answer until it is time to go, then drain."""
        self._server = server = HttpServer(
            self.wsgi,
            self._limits(),
            state=lifespan.state,
            worker_slot=_counts.worker_slot(self.age),
        )
        tls = sock.ssl_context(self.cfg) if self.cfg.is_ssl else None
        for listening in self.sockets:
            # Whoever reaches a socket in the file system is on this machine, and may.
            is_local = listening.sock.family == socket.AF_UNIX
            await server.listen(listening.sock, None if is_local else tls)
        await self._wait_for_exit(server)
        cut = await server.drain(self.cfg.graceful_timeout * (1 - SHUTDOWN_PART))
        if cut and not self._is_quick:
            self.log.warning("Cut %d connections: graceful_timeout is over", cut)

    def _limits(self) -> HttpLimits:
        return msgspec.structs.replace(
            self.limits,
            max_connections=self.cfg.worker_connections,
            idle_seconds=self.cfg.keepalive,
        )

    async def _stop_within_time(self, lifespan: Lifespan) -> None:
        try:
            await asyncio.wait_for(lifespan.shutdown(), self.cfg.graceful_timeout * SHUTDOWN_PART)
        except TimeoutError:
            self.log.warning("The application did not stop in time")

    # Signals and the arbiter

    def _take_signals(self) -> None:
        """Let the loop have the signals; SIGABRT stays with Python, for a loop that hangs."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        loop.add_signal_handler(signal.SIGINT, self._leave_quickly)
        loop.add_signal_handler(signal.SIGQUIT, self._leave_quickly)
        loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        if not self.alive:
            self._leave()

    def _leave(self) -> None:
        self.alive = False
        assert self._should_exit is not None
        self._should_exit.set()

    def _leave_quickly(self) -> None:
        """Cut what is open; a drain that runs already ends by that."""
        self._is_quick = True
        self._leave()
        if self._server is not None:
            self._server.close()
        self.cfg.worker_int(self)

    async def _beat(self) -> None:
        """Tell the arbiter that the loop turns; leave when the arbiter is gone."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                self.log.info("The arbiter is gone; worker %s leaves", self.pid)
                self._leave()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _wait_for_exit(self, server: HttpServer) -> None:
        """Wait for a signal, or for `max_requests`."""
        assert self._should_exit is not None
        while not self._should_exit.is_set() and server.requests < self.max_requests:
            try:
                await asyncio.wait_for(self._should_exit.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                continue
