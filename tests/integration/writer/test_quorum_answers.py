"""Writes that wait for replicas: writer, publisher and subscribers over real sockets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import uvloop

from synap.commands.strings import Set
from synap.commands.transactions import Exec, Multi, Queue, Queued
from synap.errors import QuorumTimeout, ReignEnded
from synap.node.data_dir import DataDir
from synap.node.identity import new_reign, read_identity
from synap.replication.publishing.predecessor_notice import PredecessorNotice
from tests.integration.linked_nodes import eventually
from tests.integration.writers import TIMEOUT_MS, WritingMaster, following

pytestmark = pytest.mark.usefixtures("run_dir")


def test_answer_comes_when_the_replica_has_logged_the_write(tmp_path: Path) -> None:
    """Q1."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m", min_replicas=1)
        async with master.running() as client, following(tmp_path / "r", master) as replica:
            for number in range(50):
                done = await client.execute(Set(b"%d" % number, b"v"))
                assert replica.data_dir.position.offset >= done.offset

    uvloop.run(test())


def test_answers_of_many_writes_wait_together(tmp_path: Path) -> None:
    """Q4."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m", min_replicas=1)
        async with master.running() as client, following(tmp_path / "r", master):
            done = await asyncio.gather(
                *(client.execute(Set(b"%d" % number, b"v")) for number in range(500))
            )
            assert len({each.offset for each in done}) == 500

    uvloop.run(test())


def test_write_for_more_replicas_than_there_are_times_out_and_stays_logged(tmp_path: Path) -> None:
    """Q3."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client, following(tmp_path / "r", master):
            began = time.monotonic()
            with pytest.raises(QuorumTimeout, match="logged on the master"):
                await client.execute(Set(b"k", b"v"), min_replicas=2)
            assert time.monotonic() - began >= TIMEOUT_MS / 1000 - 0.01
            assert master.data_dir.position.offset == 1
            assert (await client.execute(Set(b"k", b"w"), min_replicas=1)).offset == 2

    uvloop.run(test())


def test_transaction_waits_for_replicas_when_it_is_carried_out(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m", min_replicas=1)
        async with master.running() as client:
            assert (await client.execute(Multi("c"))).result is True
            assert (await client.execute(Queue("c", Set(b"k", b"v")))).result == Queued()
            with pytest.raises(QuorumTimeout):
                await client.execute(Exec("c"))

    uvloop.run(test())


def test_write_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    """Q4."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            waiting = asyncio.ensure_future(client.execute(Set(b"slow", b"v"), min_replicas=1))
            for number in range(20):
                await client.execute(Set(b"%d" % number, b"v"))
            assert not waiting.done()
            with pytest.raises(QuorumTimeout):
                await waiting

    uvloop.run(test())


def test_write_that_waits_when_the_writer_stops_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            waiting = asyncio.ensure_future(client.execute(Set(b"slow", b"v"), min_replicas=1))
            await client.execute(Set(b"other", b"v"))
            await master.writer.stop()
            with pytest.raises(QuorumTimeout):
                await waiting

    uvloop.run(test())


def test_herald_ends_the_reign_of_the_master_before_it(tmp_path: Path) -> None:
    """E2, E3."""

    class Promoted:
        def __init__(self, data_dir: DataDir) -> None:
            self.position = data_dir.position
            self.lineage = (*data_dir.lineage, new_reign(2, data_dir.position.offset + 1))

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"k", b"v"))
            notice = PredecessorNotice(
                Promoted(master.data_dir), "new", "http://new:1", master.addresses[1], None
            )
            notice.start()
            await eventually(lambda: master.data_dir.node.identity.ended_by_epoch == 2)
            await notice.stop()
            with pytest.raises(ReignEnded):
                await client.execute(Set(b"k", b"w"))
            assert master.data_dir.position.offset == 1
            assert master.publisher.replicas() == ()
        assert read_identity(master.paths.node_file).ended_by_epoch == 2

    uvloop.run(test())


def test_reign_that_ends_on_a_full_disk_takes_no_writes_and_is_kept_later(tmp_path: Path) -> None:
    """E2."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        node_file = master.paths.node_file
        async with master.running() as client:
            await client.execute(Set(b"k", b"v"))
            # A folder in the place of the temporary file stands for a disk that refuses.
            obstacle = node_file.with_name(f"{node_file.name}.tmp")
            obstacle.mkdir()
            master.writer.end_reign(7)
            assert master.view().read_only == "stale_epoch"
            with pytest.raises(ReignEnded):
                await client.execute(Set(b"k", b"w"))
            assert read_identity(node_file).ended_by_epoch == 0
            obstacle.rmdir()
            await eventually(lambda: read_identity(node_file).ended_by_epoch == 7)

    uvloop.run(test())
