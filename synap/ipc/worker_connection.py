"""The writer's end of its HTTP workers' connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol, cast

from synap.errors import ProtocolViolation
from synap.ipc.messages import Answer, Decoder, Request, encode

logger = logging.getLogger(__name__)

# Answers that wait for one worker; far more than the small ones of a turn have together.
MAX_UNREAD_BYTES = 4 * 1024 * 1024


class TakesRequests(Protocol):
    """What a connection hands its requests to."""

    def connected(self, connection: WriterConnection) -> None:
        """Learn of a new connection."""

    def disconnected(self, connection: WriterConnection) -> None:
        """Learn that one is gone."""

    def submit(self, connection: WriterConnection, requests: list[Request]) -> None:
        """Take requests, to be carried out in their order."""

    def drained(self) -> None:
        """Learn that a connection is full no more."""


class WriterConnection(asyncio.Protocol):
    """One HTTP worker's connection.

    Attributes:
        is_full: The worker does not read its answers as fast as they are made.
    """

    _transport: asyncio.Transport

    def __init__(self, writer: TakesRequests) -> None:
        self.is_full = False
        self._writer = writer
        self._decoder = Decoder(Request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES)
        self._writer.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            requests = self._decoder.feed(data)
        except ProtocolViolation as error:
            logger.error("%s", error, extra={"action": "local_channel"})
            self._transport.abort()
            return
        if requests:
            self._writer.submit(self, requests)

    def connection_lost(self, error: Exception | None) -> None:
        self._writer.disconnected(self)
        # What it asked for is carried out, for nobody.
        self.resume_writing()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        if self.is_full:
            self.is_full = False
            self._writer.drained()

    def send(self, data: bytes) -> None:
        """Send an answer; one to a worker that went away is dropped."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        """Close when what was sent is out."""
        self._transport.close()


def send_each(answers: Iterable[tuple[WriterConnection, Answer]]) -> None:
    """Send answers where they belong, those of one connection in one message."""
    by_connection: dict[WriterConnection, list[Answer]] = {}
    for connection, answer in answers:
        mine = by_connection.get(connection)
        if mine is None:
            by_connection[connection] = [answer]
        else:
            mine.append(answer)
    for connection, mine in by_connection.items():
        connection.send(encode(mine))
