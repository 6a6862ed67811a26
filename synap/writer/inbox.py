"""The writer's inbox: what arrived, who sent it, and the turn that is due for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from synap.ipc.messages import Request, encode, naming_reign
from synap.ipc.worker_connection import WriterConnection
from synap.writer.turn import Pending

# Above this many waiting commands the workers are not read from, so that theirs wait with them.
MAX_PENDING_COMMANDS = 16_384


class Inbox:
    """What the HTTP workers sent. All methods belong to the writer's loop.

    Attributes:
        pending: What no turn has taken yet.
    """

    def __init__(self, run_turn: Callable[[], None], history: Callable[[], bytes]) -> None:
        """
        Args:
            run_turn: Called once, soon after something arrived; to begin with `begin_turn`.
            history: Tells the reign that the next answers belong to.
        """
        self.pending = Pending()
        self._run_turn = run_turn
        self._history = history
        self._named = history()
        self._connections: set[WriterConnection] = set()
        self._is_turn_due = False
        self._is_reading_paused = False

    def connected(self, connection: WriterConnection) -> None:
        self._connections.add(connection)
        connection.send(encode([naming_reign(self._named)]))
        if self._is_reading_paused:
            connection.pause_reading()

    def disconnected(self, connection: WriterConnection) -> None:
        self._connections.discard(connection)

    def submit(self, connection: WriterConnection, requests: list[Request]) -> None:
        """Take requests for the next turn, which carries them out in their order."""
        self.pending.add(connection, requests)
        self._call_for_turn()
        if len(self.pending) > MAX_PENDING_COMMANDS and not self._is_reading_paused:
            self._is_reading_paused = True
            for each in self._connections:
                each.pause_reading()

    def drained(self) -> None:
        """Go on with what waited for a connection to read its answers."""
        if self.pending:
            self._call_for_turn()

    def begin_turn(self) -> None:
        """Note that the turn which was due is being taken, in a reign that the workers know."""
        self._is_turn_due = False
        if self._named != self._history():
            self._named = self._history()
            for each in self._connections:
                each.send(encode([naming_reign(self._named)]))

    def end_turn(self) -> None:
        """Call for the next turn where something is left, and read on where there is room."""
        if self.pending.is_ready:
            self._call_for_turn()
        if self._is_reading_paused and len(self.pending) < MAX_PENDING_COMMANDS // 2:
            self._is_reading_paused = False
            for each in self._connections:
                each.resume_reading()

    def close(self) -> None:
        """Close every connection when what was sent is out."""
        for connection in tuple(self._connections):
            connection.close()

    def _call_for_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            asyncio.get_running_loop().call_soon(self._run_turn)
