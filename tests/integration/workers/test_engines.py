"""The engines of both roles: what they answer to what an owner is asked, and their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.errors import NothingToAccept, RoleError
from synap.ipc.admin_messages import AcceptMaster, PauseWrites
from synap.owner.own_clock import OwnClock
from synap.replication.following.freshness import Freshness
from synap.shared.node_clock import ClockWord
from tests.integration.linked_nodes import Bench, Replica, on_loop
from tests.integration.writers import WritingMaster
from workers.replica import ReplicaEngine
from workers.writer import WriterEngine

pytestmark = pytest.mark.usefixtures("run_dir")


def writer_engine(master: WritingMaster) -> WriterEngine:
    clock = OwnClock(ClockWord(memoryview(bytearray(8)).cast("q")), master.counted.count)
    return WriterEngine(
        master.paths, master.writer, master.publisher, None, None, clock, pytest.fail,
        data_dir=master.data_dir, quorum=0,
    )  # fmt: skip


def replica_engine(replica: Replica) -> ReplicaEngine:
    paths = replica.paths
    freshness = Freshness(paths.fresh_file)
    return ReplicaEngine(
        replica.subscriber, paths.diverged_dir, pytest.fail, freshness, replica.data_dir, relay=None
    )


@on_loop
async def test_writer_has_nothing_to_accept_and_pauses(tmp_path: Path) -> None:
    master = WritingMaster(tmp_path / "m")
    async with master.running():
        engine = writer_engine(master)
        with pytest.raises(NothingToAccept):
            engine.handle(AcceptMaster())
        assert engine.handle(PauseWrites(10)).epoch == 1
        assert master.view().read_only == "writes_paused"
        assert engine.held_offset() == 0


@on_loop
async def test_replica_takes_no_pause_and_accepts_only_where_it_diverged(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        replica = await bench.replica(await bench.master())
        engine = replica_engine(replica)
        with pytest.raises(RoleError, match="takes no writes; ask its master"):
            engine.handle(PauseWrites(1))
        with pytest.raises(NothingToAccept):
            engine.handle(AcceptMaster())


@on_loop
async def test_engine_that_was_never_started_stops(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        replica = await bench.replica(await bench.master())
        await replica_engine(replica).stop()
        assert not replica.running.done()
    unstarted = WritingMaster(tmp_path / "m")
    await writer_engine(unstarted).stop()
    unstarted.close_log()
