"""A network between a replica and its master that can be listened to, and that can fall silent."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from synap.addresses import split_address
from tests.support import HOST

_CHUNK_BYTES = 65536


class Tap:
    """Passes TCP connections on to a master's two ports.

    Attributes:
        addresses: Where a replica connects instead.
        content: All bytes that came from the master.
        is_silent: Nothing passes any more and no connection is closed, as where a cable is cut.
        accepted: Connections so far.
    """

    def __init__(self, addresses: list[str]) -> None:
        self.addresses: list[str] = []
        self.content = b""
        self.is_silent = False
        self.accepted = 0
        self._targets = addresses
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Tap:
        for target in self._targets:
            server = await asyncio.start_server(lambda r, w, t=target: self._enter(r, w, t), HOST)
            self._servers.append(server)
            self.addresses.append(f"{HOST}:{server.sockets[0].getsockname()[1]}")
        return self

    async def __aexit__(self, *_: object) -> None:
        # A loop does not close while a server of its own still takes connections.
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    async def _enter(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> None:
        self.accepted += 1
        there_reader, there_writer = await asyncio.open_connection(*split_address(target))
        self._writers += [writer, there_writer]
        self._begin(self._pass(reader, there_writer, is_from_master=False))
        self._begin(self._pass(there_reader, writer, is_from_master=True))

    def _begin(self, passing) -> None:
        task = asyncio.create_task(passing)
        self._tasks.add(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_from_master: bool
    ) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(_CHUNK_BYTES):
                    if self.is_silent:
                        continue
                    if is_from_master:
                        self.content += data
                    writer.write(data)
        finally:
            if not self.is_silent:
                writer.close()
