"""Writes that wait for replicas: writer, publisher and subscribers over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from synap.board import Board, BoardView
from synap.client import WriterClient
from synap.commands import Limits, Set
from synap.config import Config, load_config
from synap.errors import QuorumTimeout, ReignEnded
from synap.held_answers import Quorum
from synap.log import Log
from synap.node import Node, new_reign, read_identity
from synap.paths import NodePaths
from synap.replication.herald import Herald
from synap.replication.link import FollowerStatus
from synap.replication.publisher import Publisher
from synap.replication.subscriber import Subscriber
from synap.transactions import Exec, Multi, Queue, Queued
from synap.writer import Writer
from tests.support import HOST, free_ports

SETTINGS = {
    "replication.heartbeat_interval_ms": 100,
    "replication.reconnect_delay_ms": 100,
    "persistence.wal.fsync_mode": "never",
}
TIMEOUT_MS = 300
DEADLINE_SECONDS = 15.0


async def eventually(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not predicate():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s"
        await asyncio.sleep(0.005)


def open_node(folder: Path, **settings: object) -> tuple[Config, NodePaths, Log]:
    keys = {key.replace("__", "."): value for key, value in settings.items()}
    config = load_config(None, {**SETTINGS, "data_dir": str(folder), **keys}, environ={})
    paths = NodePaths.of(config)
    paths.create()
    node = Node.load_or_create(config, paths)
    return config, paths, Log.open(config, paths, node, on_sync_failure=pytest.fail)


class Master:
    """A writer with its publisher, and a client of it."""

    def __init__(self, folder: Path, min_replicas: int = 0, hold_seconds: float = 5.0) -> None:
        self.addresses = [f"{HOST}:{port}" for port in free_ports(2)]
        self.config, self.paths, self.log = open_node(
            folder,
            server__node_id="master",
            replication__role="master",
            replication__replica_listen_address=self.addresses[0],
            replication__sync_listen_address=self.addresses[1],
        )
        self._board = Board(self.paths.board_file)
        self.publisher = Publisher(self.config, self.log)
        self.writer = Writer(
            self.log,
            self._board,
            Limits(1024 * 1024),
            publisher=self.publisher,
            turn_bytes=65536,
            sweep_interval_ms=50,
            view=BoardView(role="master"),
            on_failure=pytest.fail,
            quorum=Quorum(min_replicas, TIMEOUT_MS),
            hold_seconds=hold_seconds,
        )

    def view(self) -> BoardView:
        return self._board.view()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WriterClient]:
        self.publisher.watch(self.writer.look_at_acks, self.writer.end_reign)
        await self.publisher.start()
        await self.writer.start(self.paths.writer_socket)
        client = WriterClient(self.paths.writer_socket, 10)
        client.start()
        try:
            yield client
        finally:
            client.close()
            await self.writer.stop()
            await self.publisher.stop()
            self._board.close()
            self.log.close(clean=True)


class Replica:
    """A log that follows a master."""

    def __init__(self, folder: Path, master: Master) -> None:
        config, _, self.log = open_node(
            folder,
            server__node_id=folder.name,
            replication__role="replica",
            replication__master_address=master.addresses[0],
            replication__master_sync_address=master.addresses[1],
        )
        self.status: FollowerStatus | None = None
        self._subscriber = Subscriber(config, self.log, self, applied_time_ms=0, draw=float)

    def show(self, status: FollowerStatus) -> None:
        self.status = status

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self._subscriber.run())
        try:
            await eventually(lambda: self.status is not None and self.status.state == "in_sync")
            yield
        finally:
            self._subscriber.stop()
            await running
            self.log.close(clean=True)


@pytest.fixture(autouse=True)
def short_run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))


def run(test: Awaitable[None]) -> None:
    async def body() -> None:
        await test

    uvloop.run(body())


def test_answer_comes_when_the_replica_has_logged_the_write(tmp_path: Path) -> None:
    """Q1."""

    async def test() -> None:
        master = Master(tmp_path / "m", min_replicas=1)
        async with master.running() as client:
            replica = Replica(tmp_path / "r", master)
            async with replica.following():
                for number in range(50):
                    done = await client.execute(Set(b"%d" % number, b"v"))
                    assert replica.log.position.offset >= done.offset

    run(test())


def test_answers_of_many_writes_wait_together(tmp_path: Path) -> None:
    """Q4."""

    async def test() -> None:
        master = Master(tmp_path / "m", min_replicas=1)
        async with master.running() as client, Replica(tmp_path / "r", master).following():
            done = await asyncio.gather(
                *(client.execute(Set(b"%d" % number, b"v")) for number in range(500))
            )
            assert len({each.offset for each in done}) == 500

    run(test())


def test_write_for_more_replicas_than_there_are_times_out_and_stays_logged(tmp_path: Path) -> None:
    """Q3."""

    async def test() -> None:
        master = Master(tmp_path / "m")
        async with master.running() as client, Replica(tmp_path / "r", master).following():
            began = time.monotonic()
            with pytest.raises(QuorumTimeout, match="logged on the master"):
                await client.execute(Set(b"k", b"v"), min_replicas=2)
            assert time.monotonic() - began >= TIMEOUT_MS / 1000 - 0.01
            assert master.log.position.offset == 1
            assert (await client.execute(Set(b"k", b"w"), min_replicas=1)).offset == 2

    run(test())


def test_transaction_waits_for_replicas_when_it_is_carried_out(tmp_path: Path) -> None:
    async def test() -> None:
        master = Master(tmp_path / "m", min_replicas=1)
        async with master.running() as client:
            assert (await client.execute(Multi("c"))).result is True
            assert (await client.execute(Queue("c", Set(b"k", b"v")))).result == Queued()
            with pytest.raises(QuorumTimeout):
                await client.execute(Exec("c"))

    run(test())


def test_write_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    """Q4."""

    async def test() -> None:
        master = Master(tmp_path / "m")
        async with master.running() as client:
            waiting = asyncio.ensure_future(client.execute(Set(b"slow", b"v"), min_replicas=1))
            for number in range(20):
                await client.execute(Set(b"%d" % number, b"v"))
            assert not waiting.done()
            with pytest.raises(QuorumTimeout):
                await waiting

    run(test())


def test_write_that_waits_when_the_writer_stops_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        master = Master(tmp_path / "m")
        async with master.running() as client:
            waiting = asyncio.ensure_future(client.execute(Set(b"slow", b"v"), min_replicas=1))
            await client.execute(Set(b"other", b"v"))
            await master.writer.stop()
            with pytest.raises(QuorumTimeout):
                await waiting

    run(test())


def test_herald_ends_the_reign_of_the_master_before_it(tmp_path: Path) -> None:
    """E2, E3."""

    class Promoted:
        def __init__(self, log: Log) -> None:
            self.position = log.position
            self.lineage = (*log.lineage, new_reign(2, log.position.offset + 1))

    async def test() -> None:
        master = Master(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"k", b"v"))
            herald = Herald(Promoted(master.log), "new", "http://new:1", master.addresses[1], None)
            herald.start()
            await eventually(lambda: master.log.node.identity.ended_by_epoch == 2)
            await herald.stop()
            with pytest.raises(ReignEnded):
                await client.execute(Set(b"k", b"w"))
            assert master.log.position.offset == 1
            assert master.publisher.replicas() == ()
        assert read_identity(master.paths.node_file).ended_by_epoch == 2

    run(test())
