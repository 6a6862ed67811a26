"""A writer whose writes pause, and one that steps down, with real clients."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import uvloop

from synap.commands.strings import Set
from synap.errors import NotPaused, ReadOnlyReplica, ReignEnded, WritesPaused
from synap.ipc.admin_messages import PauseWrites, ResumeWrites, StepDown
from synap.ipc.writer_client import WriterClient
from synap.node.identity import read_identity
from tests.integration.linked_nodes import eventually
from tests.integration.writers import WritingMaster

pytestmark = pytest.mark.usefixtures("run_dir")

# Time for what should not happen to happen.
MEANWHILE_SECONDS = 0.05


def test_write_in_a_pause_waits_until_it_is_resumed(tmp_path: Path) -> None:
    """W1."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"k", b"1"))
            paused = master.writer.handle_pause(PauseWrites(10))
            waiting = asyncio.ensure_future(client.execute(Set(b"k", b"2")))
            await asyncio.sleep(MEANWHILE_SECONDS)
            assert not waiting.done()
            assert master.data_dir.position.offset == paused.offset == 1
            master.writer.handle_pause(ResumeWrites())
            assert (await waiting).offset == 2

    uvloop.run(test())


def test_pause_ends_by_itself(tmp_path: Path) -> None:
    """W1: whoever asked for it is gone."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            master.writer.handle_pause(PauseWrites(0.1))
            assert master.view().read_only == "writes_paused"
            assert (await client.execute(Set(b"k", b"1"))).offset == 1
            assert master.view().read_only == ""

    uvloop.run(test())


def test_write_that_waited_too_long_in_a_pause_changed_nothing(tmp_path: Path) -> None:
    """W2: it is refused before its client's own patience ends."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m", hold_seconds=0.1)
        async with master.running() as client:
            master.writer.handle_pause(PauseWrites(60))
            for _ in range(2):
                with pytest.raises(WritesPaused):
                    await client.execute(Set(b"k", b"1"))
            master.writer.handle_pause(ResumeWrites())
            assert (await client.execute(Set(b"k", b"2"))).offset == 1

    uvloop.run(test())


def test_expiry_waits_in_a_pause(tmp_path: Path) -> None:
    """W1: nothing at all is logged."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"k", b"1", expiry_ms=int(time.time() * 1000) + 100))
            master.writer.handle_pause(PauseWrites(10))
            await asyncio.sleep(0.1 + MEANWHILE_SECONDS)
            assert master.data_dir.position.offset == 1
            master.writer.handle_pause(ResumeWrites())
            await eventually(lambda: master.data_dir.position.offset == 2)

    uvloop.run(test())


@pytest.mark.parametrize(("is_paused", "offset"), [(False, 1), (True, 0), (True, 2)])
def test_master_steps_down_only_in_a_pause_at_its_logs_end(
    tmp_path: Path, is_paused: bool, offset: int
) -> None:
    """W3."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            await client.execute(Set(b"k", b"1"))
            if is_paused:
                master.writer.handle_pause(PauseWrites(10))
            with pytest.raises(NotPaused, match="the log ends at 1"):
                master.writer.handle_pause(StepDown(offset))
            master.writer.handle_pause(ResumeWrites())
            await client.execute(Set(b"k", b"2"))

    uvloop.run(test())


def test_master_that_stepped_down_logs_nothing_when_the_pause_is_over(tmp_path: Path) -> None:
    """W3: durable before it is answered; the end of the pause changes nothing."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            master.writer.handle_pause(PauseWrites(0.1))
            master.writer.handle_pause(StepDown(0))
            assert read_identity(master.paths.node_file).ended_by_epoch == 2
            with pytest.raises(ReignEnded):
                await client.execute(Set(b"k", b"1"))
            with pytest.raises(ReignEnded):
                master.writer.handle_pause(PauseWrites(1))
            assert master.data_dir.position.offset == 0

    uvloop.run(test())


def test_write_that_waits_at_a_master_that_hands_over_is_sent_on(tmp_path: Path) -> None:
    """W4: as by a replica, so that clients ask the new master; also one that came too late."""

    def refusal() -> ReadOnlyReplica | None:
        return ReadOnlyReplica() if master.view().master_url == "http://heir:1" else None

    async def test() -> None:
        async with master.running() as client:
            late = WriterClient(master.paths.run_dir / "none.sock", 10, refusal)
            late.start()
            waiting = [
                asyncio.ensure_future(each.execute(Set(b"k", b"1"))) for each in (client, late)
            ]
            master.writer.handle_pause(PauseWrites(10))
            await asyncio.sleep(MEANWHILE_SECONDS)
            master.writer.handle_pause(StepDown(0, "http://heir:1"))
            await asyncio.sleep(0)
            assert not waiting[0].done()
            await master.writer.stop()
            for each in waiting:
                with pytest.raises(ReadOnlyReplica):
                    await each
            late.close()

    master = WritingMaster(tmp_path / "m")
    uvloop.run(test())
