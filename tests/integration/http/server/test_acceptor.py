"""How workers that wait on one accept queue share what comes."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from contextlib import ExitStack
from itertools import chain

import pytest
import uvloop

from synap.http.server import acceptor
from synap.http.server.acceptor import Acceptor
from synap.shared.connection_counts import ConnectionCounts

CONNECTIONS = 20
DEADLINE_SECONDS = 5


class Counting(asyncio.Protocol):
    """Counts the connections of one worker."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


def run(coroutine: object) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)  # type: ignore[arg-type]


def listening() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0), backlog=2 * CONNECTIONS)
    server.settimeout(DEADLINE_SECONDS)
    return server


async def reached(made: list[list[asyncio.BaseTransport]], count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while sum(map(len, made)) < count:
            await asyncio.sleep(0.001)


def connect(stack: ExitStack, server: socket.socket) -> None:
    """Open many connections at once, until the stack ends."""
    for _ in range(CONNECTIONS):
        stack.enter_context(socket.create_connection(server.getsockname()))


def worker(
    server: socket.socket,
    made: list[asyncio.BaseTransport],
    *,
    connections: int = 0,
    others: int = 0,
) -> Acceptor:
    """Return what accepts for a worker with so many connections, beside one with so many."""
    counts = ConnectionCounts()
    worker_slot = counts.worker_slot(1)
    worker_slot.connections = connections
    counts.worker_slot(2).connections = others
    return Acceptor(server, lambda client: Counting(made), None, 1, worker_slot, 16)


async def close_all(*made: list[asyncio.BaseTransport]) -> None:
    for transport in chain(*made):
        transport.close()
    await asyncio.sleep(0)


def test_accept_many_at_once_are_shared_evenly() -> None:
    async def share() -> None:
        first = listening()
        made: list[list[asyncio.BaseTransport]] = [[], []]
        with ExitStack() as stack:
            connect(stack, first)
            workers = [worker(first.dup(), made[1]), worker(first, made[0])]
            await reached(made, CONNECTIONS)
            assert min(map(len, made)) >= CONNECTIONS // 4
            for each in workers:
                each.close()
            await close_all(*made)

    run(share())


def test_accept_is_left_to_another_worker_by_one_that_is_ahead() -> None:
    async def share() -> None:
        first = listening()
        made: list[list[asyncio.BaseTransport]] = [[], []]
        with ExitStack() as stack:
            ahead = worker(first, made[0], connections=2)
            behind = worker(first.dup(), made[1], others=2)
            connect(stack, first)
            await reached(made, CONNECTIONS)
            assert len(made[1]) >= CONNECTIONS // 2
            behind.close()
            taken = len(made[0])
            # Nobody else takes them.
            connect(stack, first)
            await reached(made[:1], taken + CONNECTIONS)
            ahead.close()
            await close_all(*made)

    run(share())


def test_accept_takes_a_part_more_of_what_is_open_in_one_turn() -> None:
    async def take_once() -> None:
        server = listening()
        made: list[asyncio.BaseTransport] = []
        with ExitStack() as stack:
            connect(stack, server)
            busy = worker(server, made, connections=40, others=40)
            busy.accept_share()
            busy.close()
            await reached([made], 6)
            await asyncio.sleep(0)
            assert len(made) == 6
            await close_all(made)

    run(take_once())


def test_accept_without_descriptors_goes_on_when_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_SECONDS", 0.05)

    async def run_out() -> None:
        server = listening()
        made: list[asyncio.BaseTransport] = []
        accepting = worker(server, made)
        client = socket.socket()
        client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (_next_descriptor(), hard))
        try:
            await asyncio.get_running_loop().sock_connect(client, server.getsockname())
            await asyncio.sleep(0.1)
            assert not made
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await reached([made], 1)
        accepting.close()
        made[0].close()
        client.close()
        await asyncio.sleep(0)

    run(run_out())


def _next_descriptor() -> int:
    spare = os.dup(0)
    os.close(spare)
    return spare
