"""The sweeper with a real log and store, by the writer around it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import uvloop

from synap.commands.commands import Set, SetMany
from synap.errors import ReignEnded
from synap.frame import DEL
from synap.writer.sweeper import SWEEP_KEYS
from tests.integration.linked_nodes import eventually
from tests.integration.writers import WritingMaster

pytestmark = pytest.mark.usefixtures("run_dir")

# Time for what should not happen to happen: some sweeps.
MEANWHILE_SECONDS = 0.2


def soon_ms() -> int:
    return int(time.time() * 1000) + 100


def test_many_keys_that_expire_together_go_in_bites(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            expiry_ms = soon_ms()
            writes = [Set(b"%d" % n, b"v", expiry_ms=expiry_ms) for n in range(2 * SWEEP_KEYS + 1)]
            await asyncio.gather(*(client.execute(write) for write in writes))
            await eventually(lambda: not master.data_dir.store.due(expiry_ms, 1))
            assert master.data_dir.position.offset == 2 * len(writes)
            removals = [
                sum(entry.operation == DEL for entry in frame.entries())
                for frame in master.data_dir.wal.frames_after(0)
            ]
            assert max(removals) <= SWEEP_KEYS

    uvloop.run(test())


def test_master_whose_reign_has_ended_removes_nothing(tmp_path: Path) -> None:
    """E2: a removal is an entry, and nothing is logged any more."""

    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            expiry_ms = soon_ms()
            await client.execute(Set(b"k", b"v", expiry_ms=expiry_ms))
            await client.execute(SetMany(((b"stays", b"v"),)))
            master.writer.end_reign(7)
            await asyncio.sleep(0.1 + MEANWHILE_SECONDS)
            with pytest.raises(ReignEnded):
                await client.execute(Set(b"k", b"v"))
            assert master.data_dir.position.offset == 2
            assert list(master.data_dir.store.due(expiry_ms, 2)) == [b"k"]

    uvloop.run(test())
