"""Asking the log's owner for work of its own, such as a snapshot, and doing it there.

A UNIX socket beside the one for writes: one request and its answer on each connection, in the
messages of `admin_messages`. Such work takes seconds and must not share deadlines with writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from synap.errors import OutcomeUnknown, ProtocolViolation, SynapError, WriterUnavailable
from synap.ipc.admin_messages import AdminAnswer, AdminCommand, AdminRequest, AdminResult
from synap.ipc.messages import Decoder, Message, encode, error_named

logger = logging.getLogger(__name__)

_READ_BYTES = 65536

Handler = Callable[[AdminCommand], Awaitable[AdminResult]]


class AdminServer:
    """The owner's end. All methods belong to the loop that `start` was called on."""

    def __init__(self, handle: Handler) -> None:
        """
        Args:
            handle: Does the work; a SynapError that it raises is told to whoever asked.
        """
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, socket_path: Path) -> None:
        """Listen; a socket that an earlier owner left behind is replaced."""
        socket_path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(socket_path))

    async def stop(self) -> None:
        """Stop listening and give up what is under way."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            requests = await _receive(reader, Decoder(AdminRequest))
            if requests:
                writer.write(encode([await self._answer(requests[0])]))
                await writer.drain()
        except (ProtocolViolation, OSError) as error:
            logger.warning("a request was dropped: %s", error, extra={"action": "admin"})
        except asyncio.CancelledError:
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, request: AdminRequest) -> AdminAnswer:
        try:
            return AdminAnswer(await self._handle(request.command))
        except SynapError as error:
            return AdminAnswer(None, type(error).__name__, error.message)


async def ask(socket_path: Path, command: AdminCommand, timeout_seconds: float) -> AdminResult:
    """Have the log's owner carry out `command`.

    Raises:
        WriterUnavailable: it does not run; nothing was done.
        OutcomeUnknown: it went away, or did not answer in time.
        SynapError: what it failed with.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket_path))
    except OSError as error:
        raise WriterUnavailable(
            "the owner of the log is not running; nothing was done, try again"
        ) from error
    try:
        async with asyncio.timeout(timeout_seconds):
            writer.write(encode([AdminRequest(command)]))
            answers = await _receive(reader, Decoder(AdminAnswer))
    except TimeoutError as error:
        raise OutcomeUnknown(
            f"the owner of the log did not answer within {timeout_seconds:g} s"
        ) from error
    except OSError:
        answers = []
    finally:
        writer.close()
    if not answers:
        raise OutcomeUnknown("the owner of the log went away before it answered")
    if answers[0].result is None:
        raise error_named(answers[0].error, answers[0].message)
    return answers[0].result


async def _receive(reader: asyncio.StreamReader, decoder: Decoder[Message]) -> list[Message]:
    while data := await reader.read(_READ_BYTES):
        if messages := decoder.feed(data):
            return messages
    return []
