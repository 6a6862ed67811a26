"""An endpoint that is told to let what comes wait."""

from __future__ import annotations

import asyncio

from synap.replication.transport.sockets import ListeningEndpoint, Sockets
from tests.integration.linked_nodes import on_loop
from tests.support import HOST

_DEADLINE_SECONDS = 10


@on_loop
async def test_paused_endpoint_reads_what_came_when_it_is_asked_and_all_after_it() -> None:
    heard: list[bytes] = []
    settled: list[int] = []
    sockets = Sockets(64 * 1024)
    try:
        subscribed = asyncio.Event()
        stream: ListeningEndpoint = sockets.bind_stream(
            f"{HOST}:0", 5000, lambda parts, _: subscribed.set()
        )
        endpoint = sockets.connect_stream(
            stream.address, lambda parts, _: heard.extend(parts), lambda: settled.append(len(heard))
        )
        async with asyncio.timeout(_DEADLINE_SECONDS):
            await subscribed.wait()
            stream.send([b"1"])
            while not settled:
                await asyncio.sleep(0.001)
            endpoint.pause()
            stream.send([b"2"])
            while len(heard) < 2:
                await asyncio.sleep(0.001)
                endpoint.read()
            assert settled == [1]
            endpoint.resume()
            stream.send([b"3"])
            while len(settled) < 2:
                await asyncio.sleep(0.001)
        assert heard == [b"1", b"2", b"3"]
    finally:
        sockets.close()
