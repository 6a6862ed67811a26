"""How workers that wait on one accept queue share what comes."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from contextlib import ExitStack

import pytest
import uvloop

from synap.http import acceptor
from synap.http.acceptor import Acceptor

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


def test_accept_many_at_once_are_shared_evenly() -> None:
    async def share() -> None:
        first = listening()
        second = first.dup()
        made: list[list[asyncio.BaseTransport]] = [[], []]
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(socket.create_connection(first.getsockname()))
            workers = [
                Acceptor(
                    each,
                    lambda mine=mine: Counting(mine),
                    None,
                    1,
                    lambda mine=mine: len(mine),
                    lambda: False,
                )  # type: ignore[misc]
                for each, mine in zip((first, second), made, strict=True)
            ]
            await reached(made, CONNECTIONS)
            assert min(map(len, made)) >= CONNECTIONS // 4
            for worker in workers:
                worker.close()
            for transport in made[0] + made[1]:
                transport.close()
            await asyncio.sleep(0)

    run(share())


def test_accept_is_left_to_another_worker_by_one_that_is_ahead() -> None:
    async def share() -> None:
        first = listening()
        second = first.dup()
        made: list[list[asyncio.BaseTransport]] = [[], []]
        with ExitStack() as stack:
            ahead = Acceptor(first, lambda: Counting(made[0]), None, 1, lambda: 0, lambda: True)
            behind = Acceptor(second, lambda: Counting(made[1]), None, 1, lambda: 0, lambda: False)
            for _ in range(CONNECTIONS):
                stack.enter_context(socket.create_connection(first.getsockname()))
            await reached(made, CONNECTIONS)
            assert len(made[1]) >= CONNECTIONS // 2
            behind.close()
            taken = len(made[0])
            # Nobody else takes them.
            for _ in range(CONNECTIONS):
                stack.enter_context(socket.create_connection(first.getsockname()))
            await reached(made[:1], taken + CONNECTIONS)
            ahead.close()
            for transport in made[0] + made[1]:
                transport.close()
            await asyncio.sleep(0)

    run(share())


def test_accept_takes_a_part_more_of_what_is_open_in_one_turn() -> None:
    async def take_once() -> None:
        server = listening()
        made: list[asyncio.BaseTransport] = []
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(socket.create_connection(server.getsockname()))
            worker = Acceptor(server, lambda: Counting(made), None, 1, lambda: 40, lambda: False)
            worker.accept_share()
            worker.close()
            await reached([made], 6)
            await asyncio.sleep(0)
            assert len(made) == 6
            for transport in made:
                transport.close()
            await asyncio.sleep(0)

    run(take_once())


def test_accept_without_descriptors_goes_on_when_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_SECONDS", 0.05)

    async def run_out() -> None:
        server = listening()
        made: list[asyncio.BaseTransport] = []
        worker = Acceptor(server, lambda: Counting(made), None, 1, lambda: 0, lambda: False)
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
        worker.close()
        made[0].close()
        client.close()
        await asyncio.sleep(0)

    run(run_out())


def _next_descriptor() -> int:
    spare = os.dup(0)
    os.close(spare)
    return spare
