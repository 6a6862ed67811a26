"""The engines of both roles: what they answer to what an owner is asked, and their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.errors import NothingToAccept, RoleError
from synap.ipc.admin_messages import AcceptMaster, PauseWrites
from tests.integration.linked_nodes import Bench, on_loop
from tests.integration.writers import WritingMaster
from workers.replica import ReplicaEngine
from workers.writer import WriterEngine

pytestmark = pytest.mark.usefixtures("run_dir")


@on_loop
async def test_writer_has_nothing_to_accept_and_pauses(tmp_path: Path) -> None:
    master = WritingMaster(tmp_path / "m")
    async with master.running():
        engine = WriterEngine(master.paths, master.writer, master.publisher, None, pytest.fail)
        with pytest.raises(NothingToAccept):
            engine.handle(AcceptMaster())
        assert engine.handle(PauseWrites(10)).epoch == 1
        assert master.view().read_only == "writes_paused"
        assert engine.held_offset() == 0


@on_loop
async def test_replica_takes_no_pause_and_accepts_only_where_it_diverged(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        replica = await bench.replica(await bench.master())
        engine = ReplicaEngine(replica.subscriber, replica.paths.diverged_dir, pytest.fail)
        with pytest.raises(RoleError, match="takes no writes; ask its master"):
            engine.handle(PauseWrites(1))
        with pytest.raises(NothingToAccept):
            engine.handle(AcceptMaster())


@on_loop
async def test_engine_that_was_never_started_stops(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        replica = await bench.replica(await bench.master())
        await ReplicaEngine(replica.subscriber, tmp_path, pytest.fail).stop()
        assert not replica.running.done()
    unstarted = WritingMaster(tmp_path / "m")
    await WriterEngine(
        unstarted.paths, unstarted.writer, unstarted.publisher, None, pytest.fail
    ).stop()
    unstarted.close_log()
