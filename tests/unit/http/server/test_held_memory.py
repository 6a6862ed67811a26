"""The sum of what connections hold, and what a process does where it is too much."""

from __future__ import annotations

from synap.http.server.held_memory import HeldMemory
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from tests.unit.http.server.memory_transport import App, Client, answers, pass_seconds, run, settle

HEAD = b" HTTP/1.1\r\nHost: h\r\n"
GET = b"GET /a" + HEAD + b"\r\n"


def test_change_is_told_once_when_the_limit_is_passed_and_when_it_is_not_any_more() -> None:
    told: list[bool] = []
    memory = HeldMemory(100, told.append)
    for change in (60, 40, 1, 30, -31, -100):
        memory.change(change)
    assert told == [True, False]
    assert memory.held_bytes == 0


def test_whoever_brings_more_than_anybody_may_hold_is_cut_off() -> None:
    async def scenario() -> None:
        server = HttpServer(App(), HttpLimits(held_bytes=100_000))
        clients = [Client(server) for _ in range(3)]
        for client in clients:
            # As one read of each, in one turn of the loop.
            client.transport.feed(
                b"PUT /hold" + HEAD + b"Content-Length: 900000\r\n\r\n" + b"x" * 55_000
            )
        assert [client.transport.state for client in clients] == ["open", "open", "cut"]
        await settle()
        assert server.memory.is_tight
        server.close()
        await settle()
        assert server.memory.held_bytes == 0

    run(scenario)


def test_no_request_is_begun_while_too_much_is_held_and_all_go_on_after_that() -> None:
    async def scenario() -> None:
        server = HttpServer(App(), HttpLimits(held_bytes=100_000))
        deaf, other = Client(server, is_reading=False), Client(server)
        await deaf.send(b"GET /flood" + HEAD + b"\r\n")
        server.memory.change(100_001 - server.memory.held_bytes)
        await other.send(GET)
        assert other.received == b""
        server.memory.change(-100_001)
        await settle()
        assert other.received == answers(b"GET /a 0")
        server.close()

    run(scenario)


def test_client_that_holds_most_for_nothing_is_evicted_where_too_much_is_held() -> None:
    async def scenario() -> None:
        server = HttpServer(App(), HttpLimits(held_bytes=100_000))
        owing, other = Client(server), Client(server)
        await owing.send(b"PUT /a" + HEAD + b"Content-Length: 900000\r\n\r\n", *[b"x" * 55_000] * 2)
        assert server.memory.is_tight
        await other.send(GET)
        await pass_seconds(server, 0.5)
        assert owing.transport.state != "open"
        assert other.received == answers(b"GET /a 0")
        server.close()

    run(scenario)
