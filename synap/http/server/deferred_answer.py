"""The place of an answer that comes later, on a connection where no cycle runs.

To the connection it is what a cycle is, a request that the next one waits for; it needs no task,
and nothing of ASGI.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

import msgspec

from synap.http.server import framing
from synap.http.server.connection_state import State
from synap.http.server.exchange import COMPLETE, UNANSWERED, Common


class Output(Protocol):
    """What a held place needs of its connection."""

    loop: asyncio.AbstractEventLoop
    state: State

    @property
    def server(self) -> Common:
        """Return what knows the date."""

    def expects_more(self) -> bool:
        """Return whether a request that follows is here already, in whole or in part."""

    def end_deferred(
        self, deferred: DeferredAnswer, head: bytes, last_line: bytes, body: bytes
    ) -> None:
        """Write a head, with the worker's own last line, and its body; go on with what follows."""


class DeferredAnswer(msgspec.Struct):
    """One answer that is still to come. The request's body is whole.

    Attributes:
        output: Where it goes.
        keep_alive: The connection stays open after the answer.
        stage: COMPLETE once it was sent.
        is_disconnected: The client is gone.
    """

    output: Output
    stage: int = UNANSWERED
    keep_alive: bool = True
    is_disconnected: bool = False

    has_more_body: ClassVar[bool] = False

    def send(self, head: bytes, body: bytes) -> None:
        """Send the whole answer; one to a client that is gone is dropped.

        Args:
            head: Status line and headers, each with its line end; without Date and Connection.
            body: As long as the head says.
        """
        self.stage = COMPLETE
        output = self.output
        if self.is_disconnected:
            return
        line = output.server.date_line
        if output.state.is_leaving and not output.expects_more():
            self.keep_alive = False
            line += b"\r\n" + framing.CLOSE_LINE
        output.end_deferred(self, head, line, body)

    def lose_client(self) -> None:
        """Learn that the connection is gone."""
        self.is_disconnected = True

    def end_input(self) -> None:
        """Learn that the client sends no more, though it may still read."""
