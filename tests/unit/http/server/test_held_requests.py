"""A request whose head the short way knows, and whose body comes in later reads: it is timed,
bounded and ended as any other."""

from __future__ import annotations

from typing import Any

import pytest

from synap.http.server import framing
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from tests.unit.http.server.memory_transport import App, Client, answers, pass_seconds, run

HEAD = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"


class Holding:
    """A short way that has requests held until they are whole, and then takes none."""

    def take(self, data: bytes, client: Any) -> bool:
        head, _, body = data.partition(b"\r\n\r\n")
        missing_bytes = int(head.rpartition(b" ")[2]) - len(body)
        if missing_bytes > 0:
            client.hold(data, missing_bytes)
        return missing_bytes > 0

    def pause(self, is_paused: bool) -> None:
        """Take nothing in any case."""


def serve(scenario: Any, **limits: Any) -> None:
    """Run a scenario with a server that has requests held, and with a client of it."""

    async def served() -> None:
        app = App()
        app.fast_path = Holding()  # type: ignore[attr-defined]
        server = HttpServer(app, HttpLimits(**limits))
        await scenario(server, Client(server))
        server.close()

    run(served)


@pytest.mark.parametrize("cuts", [[0], [1], [3], [1, 2], [0, 1, 2]])
def test_body_in_later_reads_comes_to_one_request(cuts: list[int]) -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 4 + b"abcd"[: cuts[0]])
        for start, end in zip(cuts, [*cuts[1:], 4], strict=True):
            assert client.received == b""
            await client.send(b"abcd"[start:end])
        assert client.received == answers(b"POST /a 4")

    serve(scenario)


def test_request_after_a_held_one_is_read() -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 2)
        await client.send(b"ab" + HEAD % 1 + b"c" + HEAD % 1)
        await client.send(b"d")
        assert client.received == answers(b"POST /a 2", b"POST /a 1", b"POST /a 1")

    serve(scenario)


def test_client_that_owes_the_body_is_refused_in_time() -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 9 + b"a")
        await pass_seconds(server, 0.75)
        await client.send(b"b")
        await pass_seconds(server, 0.75)
        assert client.received.startswith(framing.STATUS_LINES[408])
        assert client.transport.state == "ended"

    serve(scenario, body_seconds=1)


def test_body_that_grows_is_waited_for_but_not_for_ever() -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 60_000)
        for number in range(6):
            assert (client.received == b"") == (number < 5)
            await client.send(b"x" * 1024)
            await pass_seconds(server, 0.75)

    serve(scenario, body_seconds=1, request_seconds=3)


def test_end_of_the_client_before_the_body_is_refused() -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 9, b"ab", eof=True)
        assert client.received.startswith(framing.STATUS_LINES[400])
        assert client.transport.state == "ended"

    serve(scenario)


def test_held_request_is_answered_by_a_server_that_drains() -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 2)
        client.connection.start_leaving()
        await client.send(b"ab")
        assert client.received == answers(b"POST /a 2", last=[b"connection: close"])

    serve(scenario)


def test_what_is_held_counts_as_memory_and_as_owed() -> None:
    async def scenario(server: HttpServer, client: Client) -> None:
        await client.send(HEAD % 60_000 + b"x" * 40_000)
        await pass_seconds(server, 0.25)
        assert server.memory.held_bytes > 40_000
        assert client.connection.holds_since() is not None
        client.connection.evict()
        await pass_seconds(server, 0.25)
        assert client.transport.state != "open"
        assert server.memory.held_bytes == 0

    serve(scenario)
