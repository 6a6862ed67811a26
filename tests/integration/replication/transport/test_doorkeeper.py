"""What is cut off at a listening node's ports, and who stays."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

import zmq

from synap.replication.transport import doorkeeper
from tests.integration.linked_nodes import Stranger, eventually, on_loop, until_level
from tests.support import HOST


def is_cut(connection: socket.socket) -> bool:
    """Whether the other end has closed it."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        while content := connection.recv(4096):
            del content
        return True
    return False


@on_loop
async def test_silent_connections_are_bounded_and_a_replica_still_gets_in(bench):
    """Cites K9: the oldest go first, for the newest may be about to speak."""
    async with bench:
        master = await bench.master()
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection((HOST, port), timeout=5))
                for port in master.ports
                for _ in range(3 * doorkeeper.MAX_SILENT)
            ]
            replica = await bench.replica(master)
            master.set_many(20)
            await until_level(master, replica)
            await eventually(lambda: sum(map(is_cut, connections)) >= 4 * doorkeeper.MAX_SILENT)


@on_loop
async def test_subscriber_to_anything_but_the_whole_stream_is_cut_off(bench):
    """Cites K9 and M6: each topic would cost the master memory for as long as he stays."""
    async with bench:
        master = await bench.master()
        replica = await bench.replica(master)
        await until_level(master, replica)
        with Stranger(master.addresses[0], zmq.XSUB) as stranger:

            def is_counted() -> bool:
                with suppress(zmq.Again):
                    stranger.socket.send(b"\x01topic")
                return master.publisher.violations > 0

            await eventually(is_counted)
        master.set_many(20)
        await until_level(master, replica)


@on_loop
async def test_subscriber_who_takes_nothing_is_cut_off_and_the_others_stay(bench, caplog):
    """Cites K9 and S4."""
    async with bench:
        master = await bench.master(persistence__wal__max_size_mb=256)
        replica = await bench.replica(master, persistence__wal__max_size_mb=256)
        with Stranger(master.addresses[0], zmq.XSUB) as stranger:
            stranger.socket.setsockopt(zmq.RCVHWM, 1)
            stranger.socket.send(b"\x01")
            await eventually(lambda: master.publisher._has_subscribers)

            def is_cut_off() -> bool:
                master.set_many(4, b"v" * 200_000)
                return "bytes behind the stream" in caplog.text

            await eventually(is_cut_off)
            await until_level(master, replica)


def test_ports_of_a_process_with_few_files_have_few_places() -> None:
    assert doorkeeper.places(65536) == (doorkeeper.MAX_CONNECTIONS, doorkeeper.MAX_SILENT)
    assert doorkeeper.places(160) == (24, 8)
    assert doorkeeper.places(20) == (6, 2)
