"""The log says why a key was removed, and `synap wal show` shows it."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
import uvloop
from typer.testing import CliRunner

from synap.commands.keys import Delete, Rename
from synap.commands.strings import Set
from synap.frame import DEL, Cause
from synap.node.data_dir import DataDir
from tests.integration.eviction.test_evictor import Bench
from tests.integration.linked_nodes import eventually
from tests.integration.writers import WritingMaster
from workers.cli.wal import wal_app

pytestmark = pytest.mark.usefixtures("run_dir")


def causes(data_dir: DataDir) -> dict[bytes, int]:
    """Return the cause of each removal of the log."""
    frames = data_dir.wal.frames_after(0)
    entries = itertools.chain.from_iterable(frame.entries() for frame in frames)
    return {entry.key: entry.cause for entry in entries if entry.operation == DEL}


def test_removals_of_a_client_of_time_and_of_a_rename_differ_in_the_log(tmp_path: Path) -> None:
    async def test() -> None:
        master = WritingMaster(tmp_path / "m")
        async with master.running() as client:
            for key in (b"deleted", b"old"):
                await client.execute(Set(key, b"v"))
            await client.execute(Delete((b"deleted",)))
            await client.execute(Rename(b"old", b"new"))
            await client.execute(Set(b"short", b"v", expiry_ms=int(time.time() * 1000) + 50))
            await eventually(lambda: b"short" in causes(master.data_dir))
            assert causes(master.data_dir) == {
                b"deleted": Cause.CLIENT,
                b"old": Cause.RENAMED,
                b"short": Cause.EXPIRED,
            }
            shown = CliRunner().invoke(wal_app, ["show", str(tmp_path / "m")])
            wanted = ["DEL 'deleted'", "DEL 'old' renamed", "DEL 'short' expired"]
            lines = [" ".join(line.split()[1:]) for line in shown.output.splitlines()]
            assert [line for line in lines if line.startswith("DEL")] == wanted
            told = CliRunner().invoke(wal_app, ["show", str(tmp_path / "m"), "-o", "json"])
            rows = [json.loads(line) for line in told.output.splitlines()]
            found = [row["cause"] for row in rows if row["operation"] == "DEL"]
            assert found == ["client", "renamed", "expired"]

    uvloop.run(test())


def test_removals_for_the_memory_limit_are_told_as_evicted(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Bench(tmp_path, "allkeys-random")
        async with bench.running() as client:
            for number in range(4000):
                await client.execute(Set(b"%d" % number, b"v" * 1000))
                if bench.removed():
                    break
        assert set(causes(bench.data_dir).values()) == {Cause.EVICTED}
        bench.close()

    uvloop.run(test())
