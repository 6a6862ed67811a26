"""A master that comes back without the end of its log, and replicas that hold it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.integration.linked_nodes import Bench, Master, eventually, on_loop, until_level


async def cut_power(master: Master, kept: Path, *known: str) -> None:
    """Have the master come back with the files of `kept`, on a machine that was restarted."""
    await master.stop()
    master.close_log()
    identity = master.paths.node_file.read_bytes()
    shutil.rmtree(master.paths.data_dir)
    shutil.copytree(kept, master.paths.data_dir, symlinks=True)
    master.paths.node_file.write_bytes(identity)
    shutil.rmtree(master.paths.store_dir)
    master.paths.create()
    master.awaited = known
    master.open_log()
    await master.start()


@on_loop
async def test_masters_lost_entries_come_back_from_a_replica(tmp_path: Path) -> None:
    """Cites T1, T3, T4, T7."""
    async with Bench(tmp_path) as bench:
        master = await bench.master()
        replica = await bench.replica(master)
        master.set_many(20)
        await until_level(master, replica)
        kept = tmp_path / "kept"
        shutil.copytree(master.paths.data_dir, kept, symlinks=True)
        for number in range(5):
            master.set(b"acknowledged %d" % number, b"x" * 100_000)
        await until_level(master, replica)

        await cut_power(master, kept, "replica")
        assert (master.data_dir.position.offset, master.data_dir.is_recovering) == (20, True)
        await eventually(lambda: not master.data_dir.is_recovering)
        await until_level(master, replica)

        assert master.value(b"acknowledged 4") == b"x" * 100_000
        assert [reign.first_offset for reign in replica.data_dir.lineage] == [1, 26]
        assert not replica.paths.diverged_dir.exists()


@on_loop
async def test_master_that_knows_nobody_begins_a_reign_at_once(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        master = await bench.master()
        master.set_many(20)
        kept = tmp_path / "kept"
        shutil.copytree(master.paths.data_dir, kept, symlinks=True)
        await cut_power(master, kept)
        assert [reign.first_offset for reign in master.data_dir.lineage] == [1, 21]


@on_loop
async def test_recovering_master_waits_on_after_another_start(tmp_path: Path) -> None:
    """Cites T1, T2."""
    async with Bench(tmp_path) as bench:
        master = await bench.master(replication__min_replicas_to_write=1)
        master.set_many(20)
        kept = tmp_path / "kept"
        shutil.copytree(master.paths.data_dir, kept, symlinks=True)
        await cut_power(master, kept, "replica")
        await master.restart()
        assert [reign.first_offset for reign in master.data_dir.lineage] == [1]
        assert master.data_dir.is_recovering
