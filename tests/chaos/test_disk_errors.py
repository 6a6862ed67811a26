"""System calls of the real writer process fail, by strace: nothing acknowledged is lost.

`tests/integration/writer/test_io_errors.py` has every write and sync of the log fail by the log's
own seam. Here the kernel seems to fail, so that LMDB's writes are in it too. Every k up to 100
comes with `make chaos`, a few of them with every test run.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from synap.commands.strings import Set
from synap.config.keys import Config
from synap.config.loading import load_config
from synap.errors import DiskFull, OutcomeUnknown, WriterUnavailable
from synap.ipc.writer_client import WriterClient
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from tests.chaos import length
from tests.support import children_of, eventually
from workers.process import (
    EXIT_FAILED,
    EXIT_REFUSED,
    PARENT_VARIABLE,
    child_environment,
    python_command,
)

# Which call fails.
PLACES = range(1, 101) if length.IS_LONG else (9,)
# More than are needed to come to the call that fails.
MORE_WRITES = 12
VALUE = bytes(6000)
WRITE_CALLS = "write,writev,pwrite64,pwritev"
SYNC_CALLS = "fsync,fdatasync"

pytestmark = pytest.mark.timeout(60 + 10 * len(PLACES))


@dataclass
class Written:
    """Keys by what became of their write."""

    acknowledged: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    in_doubt: list[bytes] = field(default_factory=list)


class WriterProcess:
    """A real writer process on a data directory of its own, which strace can be put around."""

    def __init__(self, folder: Path) -> None:
        self._settings = {
            "data_dir": str(folder / "data"),
            "persistence.wal.fsync_mode": "always",
            "persistence.snapshot.enabled": False,
            # Through the map there is no call that could fail.
            "kv_store.writemap": "off",
        }
        self._trace = folder / "trace"
        self._log = folder / "log"
        self.config: Config = load_config(None, self._settings, environ={})
        self.paths = NodePaths.of(self.config)
        self.paths.create()

    @contextmanager
    def running(
        self, calls: str = "", fault: str = "", path: Path | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until it ends or the block does, which kills it.

        What is yielded ends with it and with its exit code.

        Args:
            calls: System calls that get a fault; none where empty.
            fault: As strace's `inject` takes it, such as `error=EIO:when=3`.
            path: Only calls on this file.
        """
        command = python_command("workers.writer")
        if calls:
            on_path = ("-P", str(path)) if path else ()
            command = (
                "strace", "-f", "-qq", "-y", "-o", str(self._trace), *on_path,
                "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}", *command,
            )  # fmt: skip
        environment = child_environment(os.environ, None, self._settings)
        environment[PARENT_VARIABLE] = ""
        self.paths.writer_socket.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: process.poll() is not None or self._listens(), 20)
            yield process
        finally:
            for pid in children_of(process.pid) if calls else [process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait(20)

    def injected(self) -> tuple[int, int]:
        """Return how many calls got the fault, and how many of the traced ones came after that."""
        lines = [line for line in self._trace.read_text().splitlines() if "+++" not in line]
        faulty = [place for place, line in enumerate(lines) if "(INJECTED)" in line]
        return len(faulty), len(lines) - 1 - faulty[0] if faulty else 0

    def _listens(self) -> bool:
        return self.paths.writer_socket.exists()


@pytest.fixture
def writer(tmp_path: Path) -> WriterProcess:
    """A writer process that ran once; strace can be put around its next run."""
    try:
        probe = subprocess.run(
            ["strace", "-o", str(tmp_path / "probe"), "-e", "inject=fsync:error=EIO", "true"],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed here")
    if probe.returncode:
        pytest.skip(f"strace is refused here: {probe.stderr.strip()}")
    writer = WriterProcess(tmp_path)
    with writer.running():
        pass
    return writer


def write(writer: WriterProcess, prefix: str, count: int) -> Written:
    """Write keys one after the other until all are or the writer is gone."""
    written = Written()

    async def go_on() -> None:
        client = WriterClient(writer.paths.writer_socket, 5)
        client.start()
        for number in range(count):
            key = f"{prefix} {number}".encode()
            try:
                await client.execute(Set(key, VALUE + key))
            except DiskFull:
                written.refused.append(key)
            except (OutcomeUnknown, WriterUnavailable):
                written.in_doubt.append(key)
                break
            else:
                written.acknowledged.append(key)
        client.close()

    if writer.paths.writer_socket.exists():
        uvloop.run(go_on())
    return written


def faults(writer: WriterProcess, written: Written) -> list[str]:
    """Open the log as after a crash, and compare."""
    log = DataDir.open(
        writer.config,
        writer.paths,
        Node.load_or_create(writer.config, writer.paths),
        pytest.fail,
    )
    try:
        reader = log.store.reader()
        found = {key: reader.get(key)[0] for key in written.acknowledged + written.refused}
    finally:
        log.close(clean=False)
    lost = [
        f"{key!r} is lost"
        for key in written.acknowledged
        if found[key] is None or found[key].value != VALUE + key  # type: ignore[union-attr]
    ]
    return lost + [f"{key!r} was refused" for key in written.refused if found[key] is not None]


def test_writes_of_the_store_without_room_are_refused(writer: WriterProcess) -> None:
    """Every few of LMDB's writes fail, others in each round."""
    refused = 0
    for k in PLACES:
        data = next(writer.paths.store_dir.glob("*/data.mdb"))
        with writer.running(WRITE_CALLS, f"error=ENOSPC:when={k}+{k % 5 + 3}", data):
            written = write(writer, f"room {k}", k + MORE_WRITES)
        refused += len(written.refused)
        assert faults(writer, written) == []
    assert refused
    print(f"\nENOSPC for LMDB: {len(PLACES)} rounds, {refused} writes refused, 0 lost")


@pytest.mark.parametrize("target", ["store", "log"])
def test_kth_failed_write_ends_the_writer_and_loses_nothing(
    writer: WriterProcess, target: str
) -> None:
    acknowledged = 0
    for k in PLACES:
        found = writer.paths.store_dir.glob("*/data.mdb")
        path = max(found if target == "store" else writer.paths.wal_dir.glob("synap-*.wal"))
        with writer.running(WRITE_CALLS, f"error=EIO:when={k}", path) as process:
            written = write(writer, f"{target} {k}", k + MORE_WRITES)
            assert process.wait(20) == EXIT_FAILED
        assert (writer.injected()[0], written.refused, len(written.in_doubt)) == (1, [], 1)
        acknowledged += len(written.acknowledged)
        assert faults(writer, written) == []
    print(f"\nEIO in the {target}: {len(PLACES)} rounds, {acknowledged} acknowledged, 0 lost")


def test_kth_failed_sync_ends_the_writer_without_another_try(writer: WriterProcess) -> None:
    acknowledged = 0
    for k in PLACES:
        with writer.running(SYNC_CALLS, f"error=EIO:when={k}") as process:
            written = write(writer, f"sync {k}", k + MORE_WRITES)
            assert process.wait(20) in (EXIT_FAILED, EXIT_REFUSED)
        assert writer.injected() == (1, 0)
        assert written.refused == []
        acknowledged += len(written.acknowledged)
        assert faults(writer, written) == []
    print(f"\nEIO for a sync: {len(PLACES)} rounds, {acknowledged} acknowledged, 0 lost")
