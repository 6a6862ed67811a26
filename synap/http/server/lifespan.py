"""The lifespan protocol of ASGI: tell the application of the process's start and end.

Source: ASGI specification, "Lifespan Protocol" 2.0. Called by `worker`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)


class StartupFailed(Exception):
    """The application could not start."""


class Lifespan:
    """Runs the application's lifespan call in a task of its own.

    Attributes:
        state: What the application left for its requests; empty where it left nothing.
    """

    def __init__(self, app: Any, *, is_required: bool = False) -> None:
        """Prepare; nothing runs yet.

        Args:
            app: The ASGI application.
            is_required: An application that does not know the protocol can't start either.
        """
        self.state: dict[str, Any] = {}
        self._app = app
        self._is_required = is_required
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Start the application.

        Raises:
            StartupFailed: It said so, or it does not know the protocol and has to.
        """
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._run())
        await self._started

    async def shutdown(self) -> None:
        """Let the application end what it began; does nothing where it never joined in."""
        if self._task is None or self._task.done():
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await self._stopped

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        error: Exception | None = None
        try:
            await self._app(scope, self._events.get, self._send)
        except Exception as raised:
            error = raised
        if not self._started.done():
            self._end_unstarted(error)
        elif error is not None:
            logger.error("The application's lifespan failed", exc_info=error)
        if not self._stopped.done():
            self._stopped.set_result(None)

    def _end_unstarted(self, error: Exception | None) -> None:
        """An application that raises at once, or returns, does not know the protocol."""
        if not self._is_required:
            logger.debug("The application takes no lifespan", exc_info=error)
            self._started.set_result(None)
            return
        failed = StartupFailed("The application takes no lifespan")
        failed.__cause__ = error
        self._started.set_exception(failed)

    async def _send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set_result(None)
            case "lifespan.startup.failed":
                self._started.set_exception(StartupFailed(message.get("message", "")))
            case "lifespan.shutdown.complete":
                self._stopped.set_result(None)
            case "lifespan.shutdown.failed":
                logger.error(
                    "The application did not stop cleanly", extra={"detail": message.get("message")}
                )
                self._stopped.set_result(None)
            case other:
                raise RuntimeError(f"unexpected lifespan message {other!r}")
