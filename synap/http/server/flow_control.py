"""Which side of a connection waits for the other: bounds on what waits to be run and to be read.

The socket is not read while enough waits for the application, and no answer is begun while enough
waits for the client. `connection` asks and obeys; an application that streams waits in `drained`.

Source: after uvicorn's `protocols/http/flow_control.py`.
"""

from __future__ import annotations

import asyncio

# Requests that may wait for the one before them; beyond it the socket is not read.
MAX_PIPELINED = 32

# A body of up to this is whole before the application starts; of a longer one it gets parts, and
# no more than about this waits for it.
BODY_BUFFER_BYTES = 64 * 1024


class FlowControl:
    """The brakes of one connection.

    Attributes:
        is_reading_paused: The socket is not read. Whatever is kept of the input is kept then.
        is_writing_paused: The client reads too slowly; no further answer is begun.
    """

    __slots__ = ("_can_write", "_transport", "is_reading_paused", "is_writing_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_reading_paused = False
        # While it is true, a task in `drained` waits for the event, which is made for the first.
        self.is_writing_paused = False
        self._can_write: asyncio.Event | None = None

    def is_full(self, waiting: int, buffered_bytes: int) -> bool:
        """Return whether what is read next would have no place.

        Args:
            waiting: Requests after the one that the application works on.
            buffered_bytes: Of the body that is being read, not yet taken by the application.
        """
        return (
            waiting >= MAX_PIPELINED
            or (self.is_writing_paused and waiting > 0)
            or buffered_bytes >= BODY_BUFFER_BYTES
        )

    def pause_reading(self) -> None:
        """Leave what the client sends in the socket; twice does no harm."""
        if not self.is_reading_paused:
            self.is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the socket again; twice does no harm."""
        if self.is_reading_paused:
            self.is_reading_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Hold answers back: enough waits for the client."""
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        """Go on with them: the client has read enough, or is gone and is waited for no more."""
        self.is_writing_paused = False
        if self._can_write is not None:
            self._can_write.set()

    async def drained(self) -> None:
        """Wait until the client has read enough, or is gone."""
        if self._can_write is None:
            self._can_write = asyncio.Event()
        while self.is_writing_paused:
            self._can_write.clear()
            await self._can_write.wait()
