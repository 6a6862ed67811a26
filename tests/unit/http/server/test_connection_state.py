"""The states of a connection, and that a transition forgets what its state must not keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from synap.http.server.connection import Connection
from synap.http.server.connection_state import (
    CLOSED,
    DEAF,
    DEAF_LEAVING,
    LEAVING,
    LINGERING,
    OPEN,
    State,
)
from synap.http.server.flow_control import MAX_PIPELINED
from synap.http.server.limits import HttpLimits
from synap.http.server.server import HttpServer
from tests.unit.http.server.memory_transport import App, Client, run, settle

HOLD = b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /hold HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
MALFORMED = b"\x00\r\n\r\n"


def scenario(steps: Callable[[HttpServer, Client], Any]) -> Any:
    """Return what `steps` return for a new connection of a new server."""

    async def play() -> Any:
        server = HttpServer(App(), HttpLimits())
        try:
            return await steps(server, Client(server))
        finally:
            server.close()

    return run(play)


@pytest.mark.parametrize(
    ("reads", "is_draining", "has_ended", "state"),
    [
        ([], False, False, OPEN),
        ([HOLD], False, False, OPEN),
        ([HOLD], True, False, LEAVING),
        ([LAST], False, False, DEAF),
        ([HOLD, MALFORMED], False, False, DEAF),
        ([LAST], True, False, DEAF_LEAVING),
        ([HOLD], False, True, DEAF_LEAVING),
        ([HOLD], True, True, DEAF_LEAVING),
        ([MALFORMED], False, False, LINGERING),
        ([MALFORMED], True, False, LINGERING),
        ([], False, True, CLOSED),
    ],
)
def test_connection_is_in_the_state_that_its_input_and_a_drain_lead_to(
    reads: list[bytes], is_draining: bool, has_ended: bool, state: State
) -> None:
    async def steps(server: HttpServer, client: Client) -> State:
        await client.send(*reads)
        if is_draining:
            client.connection.start_leaving()
        await client.send(eof=has_ended)
        return client.connection.state

    assert scenario(steps) is state


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (Connection.eof_received, DEAF_LEAVING),
        (Connection.close, CLOSED),
        (Connection.abort, CLOSED),
    ],
)
def test_connection_that_reads_no_more_forgets_what_waited_to_be_read(
    end: Callable[[Connection], Any], state: State
) -> None:
    async def steps(server: HttpServer, client: Client) -> tuple[bool, bytes, State]:
        await client.send(HOLD * (2 * MAX_PIPELINED + 200))
        had_input = bool(client.connection._unread)
        end(client.connection)
        return had_input, client.connection._unread, client.connection.state

    assert scenario(steps) == (True, b"", state)


def test_closed_connection_stays_closed_whatever_comes() -> None:
    async def steps(server: HttpServer, client: Client) -> State:
        connection = client.connection
        connection.close()
        connection.data_received(HOLD)
        connection.start_leaving()
        connection.eof_received()
        connection.advance()
        await settle()
        return connection.state

    assert scenario(steps) is CLOSED
