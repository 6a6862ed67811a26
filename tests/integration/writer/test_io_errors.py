"""The k-th write and the k-th sync of the log fail, for every k, under the real writer.

The node refuses or ends, as the disk says, and comes back with everything that it acknowledged.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from synap.commands.strings import Set
from synap.config.keys import Config
from synap.config.loading import load_config
from synap.disk import DISK, Files
from synap.errors import DiskFull, OutcomeUnknown, StoreUnusable, WalFailed, WriterUnavailable
from synap.frame import SET, Entry, encode_frame
from synap.ipc.writer_client import WriterClient
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.shared.board import Board
from tests.disks import fill, small_disk
from tests.integration.writers import build_writer

# The log has segments of 1 MiB, so that some of the failing calls belong to a new one.
VALUE_BYTES = 24 * 1024
# Writes behind the one that is to fail.
MORE_WRITES = 3


class NthCallFails(Files):
    """Real files whose call of one name fails at its k-th time, and at no other.

    Attributes:
        syncs_since: Syncs that were asked for after it had failed.
    """

    def __init__(self, call: str, count: int, error: int) -> None:
        self._call = call
        self._count = count
        self._error = error
        # A full disk takes a part first, every other time.
        self._is_short = count % 2 == 0 and call == "write"
        self.has_failed = False
        self.syncs_since = 0

    def write(self, file: int, buffers: Sequence[bytes | memoryview]) -> int:
        if self._is_due("write"):
            if not self._is_short:
                self._fail()
            self._is_short, self._count = False, 1
            whole = b"".join(buffers)
            return super().write(file, [whole[: len(whole) // 2]])
        return super().write(file, buffers)

    def sync(self, file: int) -> None:
        self._before_sync()
        super().sync(file)

    def sync_directory(self, path: Path) -> None:
        self._before_sync()
        super().sync_directory(path)

    def has_room(self, directory: Path, count: int) -> bool:
        return False

    def _before_sync(self) -> None:
        self.syncs_since += self.has_failed
        if self._is_due("sync"):
            self._fail()

    def _is_due(self, call: str) -> bool:
        if call == self._call:
            self._count -= 1
        return call == self._call and self._count == 0

    def _fail(self) -> None:
        self.has_failed = True
        raise OSError(self._error, os.strerror(self._error))


@dataclass
class Run:
    """What became of a run's writes: the keys by outcome, and what ended it."""

    acknowledged: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    in_doubt: list[int] = field(default_factory=list)
    ended_by: list[BaseException] = field(default_factory=list)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """Have a node's folders in memory where that can be: what fails, fails by the seam."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="synap", dir=memory) as folder:
        monkeypatch.setenv("SYNAP_RUN_DIR", f"{folder}/run")
        settings = {
            "data_dir": f"{folder}/data",
            "persistence.wal.fsync_mode": "always",
            "persistence.wal.max_size_mb": 1,
        }
        yield load_config(None, settings, environ={})


def open_log(config: Config, files: Files = DISK) -> DataDir:
    paths = NodePaths.of(config)
    paths.create()
    return DataDir.open(config, paths, Node.load_or_create(config, paths), pytest.fail, files)


def value_of(number: int) -> bytes:
    return b"%d " % number + bytes(VALUE_BYTES)


async def write_all(config: Config, data_dir: DataDir, count: int) -> Run:
    """Run the writer on `data_dir`, and write key after key, as long as it takes them."""
    run = Run()
    paths = NodePaths.of(config)
    board = Board(paths.board_file)
    writer = build_writer(
        data_dir, board, role="standalone", sweep_interval_ms=50, on_failure=run.ended_by.append
    )
    await writer.start(paths.writer_socket)
    client = WriterClient(paths.writer_socket, 5)
    client.start()
    for number in range(count):
        try:
            await client.execute(Set(b"key %d" % number, value_of(number)))
        except DiskFull:
            run.refused.append(number)
        except (OutcomeUnknown, WriterUnavailable):
            run.in_doubt.append(number)
            break
        else:
            run.acknowledged.append(number)
    client.close()
    await writer.stop()
    board.close()
    return run


def check_recovered(config: Config, run: Run) -> None:
    """Open the log as after a crash: it holds what was acknowledged, nothing that was refused."""
    data_dir = open_log(config)
    try:
        reader = data_dir.store.reader()
        for number in run.acknowledged:
            record, _ = reader.get(b"key %d" % number)
            assert record is not None, f"key {number} is lost"
            assert record.value == value_of(number)
        for number in run.refused:
            assert reader.get(b"key %d" % number)[0] is None
        assert data_dir.applied.position == data_dir.position
        assert data_dir.position.offset - len(run.acknowledged) in range(len(run.in_doubt) + 1)
        transaction = data_dir.store.begin()
        transaction.put(b"behind", b"v", 0)
        data_dir.commit(transaction, 1)
    finally:
        data_dir.close(clean=False)


@pytest.mark.parametrize("number", range(1, 101))
def test_kth_write_without_room_is_refused_and_leaves_no_trace(config: Config, number: int) -> None:
    files = NthCallFails("write", number, errno.ENOSPC)
    try:
        data_dir = open_log(config, files)
    except (DiskFull, StoreUnusable):
        check_recovered(config, Run())
        return
    run = uvloop.run(write_all(config, data_dir, number + MORE_WRITES))
    data_dir.close(clean=False)
    assert (len(run.refused), run.in_doubt, run.ended_by) == (1, [], [])
    assert len(run.acknowledged) == number + MORE_WRITES - 1
    check_recovered(config, run)


@pytest.mark.parametrize("number", range(1, 101))
def test_kth_sync_that_fails_ends_the_writer_and_is_not_tried_again(
    config: Config, number: int
) -> None:
    files = NthCallFails("sync", number, errno.EIO)
    try:
        data_dir = open_log(config, files)
    except (WalFailed, StoreUnusable):
        assert (files.has_failed, files.syncs_since) == (True, 0)
        check_recovered(config, Run())
        return
    run = uvloop.run(write_all(config, data_dir, number + MORE_WRITES))
    data_dir.close(clean=False)
    assert (run.refused, len(run.in_doubt)) == ([], 1)
    assert [type(error) for error in run.ended_by] == [WalFailed]
    assert files.syncs_since == 0
    check_recovered(config, run)


def test_start_without_room_for_what_the_store_lacks_serves_reads_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer was killed between the log and the store, and then the disk was full."""
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    with small_disk(tmp_path / "disk", 8 * 1024 * 1024) as disk:
        # With a reserve the store has room.
        given = {"data_dir": str(disk / "data"), "kv_store.writemap": "off"}
        config = load_config(None, given, environ={})
        data_dir = open_log(config)
        lacked = encode_frame(
            [Entry(SET, b"lacked", bytes(100_000))],
            previous=data_dir.wal.position,
            epoch=1,
            time_ms=1,
        )
        data_dir.wal.append([lacked])
        data_dir.close(clean=False)
        ballast = fill(disk)
        data_dir = open_log(config)
        assert (data_dir.recovery.is_behind, data_dir.applied.position.offset) == (True, 0)
        assert data_dir.store.reader().get(b"lacked")[0] is None
        run = uvloop.run(write_all(config, data_dir, 2))
        assert (run.refused, run.ended_by) == ([0, 1], [])
        ballast.unlink()
        run = uvloop.run(write_all(config, data_dir, 2))
        data_dir.close(clean=False)
        assert run.acknowledged == [0, 1]
        data_dir = open_log(config)
        record, end = data_dir.store.reader().get(b"lacked")
        assert (record.version, end.offset) == (1, 3)
        data_dir.close(clean=False)


def test_sweep_of_a_store_without_room_removes_no_key_that_the_log_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due is looked up when the store shows all that the log holds."""
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    with small_disk(tmp_path / "disk", 8 * 1024 * 1024) as disk:
        # With a reserve the store has room.
        given = {"data_dir": str(disk / "data"), "kv_store.writemap": "off"}
        config = load_config(None, given, environ={})
        data_dir = open_log(config)
        transaction = data_dir.store.begin()
        transaction.put(b"renewed", b"old", 1)
        data_dir.commit(transaction, 1)
        lacked = [Entry(SET, b"renewed", b"new"), Entry(SET, b"lacked", bytes(100_000))]
        frame = encode_frame(lacked, previous=data_dir.wal.position, epoch=1, time_ms=1)
        data_dir.wal.append([frame])
        data_dir.close(clean=False)
        ballast = fill(disk)
        data_dir = open_log(config)
        assert data_dir.recovery.is_behind
        ballast.unlink()
        uvloop.run(write_all(config, data_dir, 1))
        record, _ = data_dir.store.reader().get(b"renewed")
        data_dir.close(clean=False)
        assert record is not None
        assert record.value == b"new"
