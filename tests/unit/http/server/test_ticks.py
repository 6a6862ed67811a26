"""A tick comes to all connections, and holds the loop up for few of them at a time."""

from __future__ import annotations

from synap.http.server.connection_state import CLOSED
from synap.http.server.limits import HttpLimits
from synap.http.server.server import CHECKED_AT_ONCE, HttpServer
from tests.unit.http.server.memory_transport import App, Client, run, settle

IDLE_SECONDS = 1
CONNECTIONS = 2 * CHECKED_AT_ONCE + 1
LIMITS = HttpLimits(
    head_seconds=IDLE_SECONDS, max_connections=CONNECTIONS, max_connections_of_address=0
)


def test_tick_checks_many_connections_in_several_turns_of_the_loop() -> None:
    async def scenario() -> None:
        server = HttpServer(App(), LIMITS)
        # On a busy machine a tick of its own would come between.
        server._timer.cancel()
        clients = [Client(server) for _ in range(CONNECTIONS)]
        for _ in range(server.ticks.head):
            server.on_tick()
            await settle()
        assert {each.transport.state for each in clients} == {"open"}
        server.on_tick()
        assert sum(each.state is CLOSED for each in server.connections) == CHECKED_AT_ONCE
        await settle()
        assert "open" not in {each.transport.state for each in clients}
        server.close()

    run(scenario)


def test_tick_passes_over_a_connection_that_was_lost_before_its_turn() -> None:
    async def scenario() -> None:
        server = HttpServer(App(), LIMITS)
        clients = [Client(server) for _ in range(CONNECTIONS)]
        server.on_tick()
        for each in clients:
            each.transport.abort()
        await settle()
        assert not server.connections
        server.on_tick()
        await settle()
        server.close()

    run(scenario)
