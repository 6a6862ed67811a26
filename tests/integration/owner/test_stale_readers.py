"""The slots of dead readers in a real store are freed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from synap.owner.stale_readers import StaleReaders
from tests.integration.node_dirs import open_node, write

HOLDER = """
import sys
from pathlib import Path
from synap.store.environment import Environment
from synap.store.generations import folder_in_use
with Environment(folder_in_use(Path(sys.argv[1]))).reading():
    print("holding", flush=True)
    sys.stdin.read()
"""


def die_reading(store_dir: Path) -> None:
    """Have a process killed inside a read transaction."""
    command = [sys.executable, "-c", HOLDER, str(store_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holding\n"
        process.send_signal(signal.SIGKILL)


def test_slots_of_dead_readers_are_freed_at_the_start_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))

    async def scenario() -> None:
        with open_node(tmp_path / "data") as data_dir:
            write(data_dir, ["a"])
            die_reading(tmp_path / "data" / "store")
            write(data_dir, ["b"])
            assert data_dir.store.facts().oldest_reader_age == 1
            stale_readers = StaleReaders(data_dir, interval_seconds=0.01)
            stale_readers.start()
            assert data_dir.store.facts().oldest_reader_age == 0
            die_reading(tmp_path / "data" / "store")
            write(data_dir, ["c"])
            async with asyncio.timeout(10):
                while data_dir.store.facts().oldest_reader_age:
                    await asyncio.sleep(0.01)
            stale_readers.stop()

    uvloop.run(scenario())
