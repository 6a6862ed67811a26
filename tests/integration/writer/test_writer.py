"""The writer's engine with a real log, a real store and real clients on one loop."""

import asyncio
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest
import uvloop

from synap.commands.commands import Command
from synap.commands.keys import Delete, Expire, SetMany
from synap.commands.strings import Append, GetSet, Increment, Set, SetResult
from synap.commands.transactions import Exec, Executed, Multi, Queue, Watch
from synap.config.keys import Config
from synap.config.loading import load_config
from synap.disk import Files
from synap.frame import DEL
from synap.ipc.messages import Answer, Decoder, Request, encode, named_reign
from synap.ipc.writer_client import Done, WriterClient
from synap.node.data_dir import DataDir
from synap.node.identity import Node
from synap.node.paths import NodePaths
from synap.request_errors import InvalidRequest, InvalidValue, KeyInvalid, ValueTooLarge
from synap.shared.board import Board
from synap.store import StoreReader
from synap.writer.writer import Writer
from tests.integration.writers import Listener, build_writer, running

TURN_BYTES = 65536


class Bench:
    """A log, a writer on it and a client of it."""

    def __init__(self, data_dir: DataDir, paths: NodePaths, board: Board) -> None:
        self.data_dir = data_dir
        self.paths = paths
        self.board = board
        self.listener = Listener()
        self.is_closed = False
        self.now = 1_000_000.0
        self.failures: list[BaseException] = []
        self.writer = self.build_writer()

    def build_writer(self, **options: float) -> Writer:
        return build_writer(
            self.data_dir, self.board, publisher=self.listener, turn_bytes=TURN_BYTES,
            on_failure=self.failures.append, clock=lambda: self.now, **options,
        )  # fmt: skip

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.board.close()
            self.data_dir.close(clean=True)

    def running(self) -> AbstractAsyncContextManager[WriterClient]:
        return running(self.writer, self.paths.writer_socket)


@pytest.fixture
def config(tmp_path: Path, run_dir: Path) -> Config:
    overrides = {"data_dir": str(tmp_path / "data"), "replication.role": "master"}
    return load_config(None, overrides, environ={})


@pytest.fixture
def bench(config: Config) -> Iterator[Bench]:
    paths = NodePaths.of(config)
    paths.create()
    data_dir = DataDir.open(config, paths, Node.load_or_create(config, paths), _no_failure)
    board = Board(paths.board_file)
    bench = Bench(data_dir, paths, board)
    yield bench
    bench.close()


def _no_failure(error: BaseException) -> None:
    pytest.fail(f"the log failed: {error}")


async def _together(client: WriterClient, *commands: Command) -> list[Done | BaseException]:
    waits = [client.execute(command) for command in commands]
    return await asyncio.gather(*waits, return_exceptions=True)


def test_turn_many_commands_are_one_frame_in_order(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            done = await _together(
                client,
                Set(b"n", b"1"),
                Increment(b"n", 4),
                Append(b"n", b"x"),
                GetSet(b"n", b"z"),
                Delete((b"n", b"none")),
            )
            assert [d.result for d in done] == [SetResult(True, 1), 5, 2, b"5x", 1]
            assert [d.offset for d in done] == [1, 2, 3, 4, 5]
            assert [f.count for f in bench.listener.frames] == [5]

    uvloop.run(scenario())


def test_turn_plain_sets_and_others_keep_their_order(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            done = await _together(
                client,
                Set(b"a", b"1"),
                Set(b"b", b"1"),
                Set(b"a", b"2", nx=True),
                Set(b"a", b"x" * (1024 * 1024 + 1)),
                Set(b"", b"2"),
                Set(b"a", b"3"),
                Append(b"a", b"4"),
                Set(b"b", b"5", get=True),
                Set(b"b", b"6", expiry_ms=10**15),
            )
            results = [d.result if isinstance(d, Done) else type(d) for d in done]
            assert results == [
                SetResult(True, 1), SetResult(True, 2), SetResult(False, 1), ValueTooLarge,
                KeyInvalid, SetResult(True, 3), 2, SetResult(True, 5, b"1"), SetResult(True, 6),
            ]  # fmt: skip
            assert [d.offset for d in done if isinstance(d, Done)] == [1, 2, 2, 3, 4, 5, 6]
            entries = [entry for frame in bench.listener.frames for entry in frame.entries()]
            assert [entry.value for entry in entries] == [b"1", b"1", b"3", b"34", b"5", b"6"]
            assert entries[-1].expiry_ms == 10**15

    uvloop.run(scenario())


def test_turn_ends_at_its_bytes_and_the_next_one_takes_the_rest(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            value = b"v" * (TURN_BYTES // 4)
            commands = [Set(b"k%d" % number, value, nx=number % 3 == 0) for number in range(10)]
            done = await _together(client, *commands)
            assert [d.result for d in done] == [SetResult(True, n) for n in range(1, 11)]
            assert [f.count for f in bench.listener.frames] == [4, 4, 2]

    uvloop.run(scenario())


def test_turn_failed_command_leaves_the_others(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            first, second, third, fourth = await _together(
                client,
                Set(b"s", b"text"),
                Increment(b"s", 1),
                Set(b"big", bytes(1024 * 1024 + 1)),
                Set(b"t", b"2"),
            )
            assert isinstance(first, Done)
            assert isinstance(fourth, Done)
            assert isinstance(second, InvalidValue)
            assert isinstance(third, ValueTooLarge)
            assert fourth.offset == 2

    uvloop.run(scenario())


def test_turn_without_effects_writes_no_frame(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            (done,) = await _together(client, Delete((b"none",)))
            assert (done.offset, done.result) == (0, 0)
            assert bench.listener.frames == []

    uvloop.run(scenario())


def test_published_frame_is_the_bytes_of_the_log(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            for number in range(20):
                await client.execute(Set(b"k%d" % number, b"v"))

    uvloop.run(scenario())
    logged = list(bench.data_dir.wal.frames_after(0))
    assert [f.encoded for f in logged] == [f.encoded for f in bench.listener.frames]


def test_reader_sees_an_acknowledged_write(bench: Bench) -> None:
    async def scenario() -> Done:
        async with bench.running() as client:
            return await client.execute(SetMany(((b"a", b"1"), (b"b", b"2"))))

    done = uvloop.run(scenario())
    assert bench.data_dir.applied.position.offset == done.offset == 2
    bench.close()
    reader = StoreReader.open(bench.paths.store_dir)
    record, end = reader.get(b"b")
    assert record is not None
    assert (record.value, record.version, end) == (b"2", 2, done.end)
    reader.close()


def test_expired_key_is_removed_by_a_logged_entry(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            now_ms = int(bench.now * 1000)
            await client.execute(Set(b"k", b"v", expiry_ms=now_ms + 60_000))
            await client.execute(Set(b"stays", b"v"))
            assert (await client.execute(Expire(b"stays", now_ms + 90_000))).result is True
            bench.now += 61
            deadline = asyncio.get_running_loop().time() + 10
            while len(bench.listener.frames) < 4:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.005)

    uvloop.run(scenario())
    (removal,) = bench.listener.frames[-1].entries()
    assert (removal.operation, removal.key) == (DEL, b"k")


def test_stop_answers_what_arrived(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            await client.execute(Set(b"k", b"v"))
            waits = [asyncio.ensure_future(client.execute(Set(b"k", b"v"))) for _ in range(100)]
            while len(bench.listener.frames) < 2:
                await asyncio.sleep(0)
            await bench.writer.stop()
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(outcome, Done) for outcome in outcomes)

    uvloop.run(scenario())


def test_board_shows_the_writer_at_work(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            await client.execute(Set(b"k", b"v"))

    uvloop.run(scenario())
    view = bench.board.view()
    assert (view.role, view.applied_offset, view.epoch) == ("master", 1, 1)
    assert view.tick_ns > 0


def test_exec_is_one_frame_and_its_commands_are_not_before_it(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            first = await _together(
                client,
                Multi("c"),
                Queue("c", Set(b"a", b"1")),
                Queue("c", Increment(b"a", 1)),
                Set(b"other", b"x"),
            )
            assert [d.offset for d in first] == [0, 0, 0, 1]
            done = await client.execute(Exec("c"))
            assert (done.offset, done.result) == (3, Executed((("ok", 1), ("value", 2))))
            assert [f.count for f in bench.listener.frames] == [1, 2]

    uvloop.run(scenario())


def test_watched_key_that_expired_and_was_swept_aborts(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.running() as client:
            expiry_ms = int(bench.now * 1000) + 60_000
            await client.execute(Set(b"k", b"v", expiry_ms=expiry_ms))
            await client.execute(Set(b"absent", b"v"))
            await client.execute(Delete((b"absent",)))
            await _together(client, Watch("c", (b"k",)), Watch("d", (b"absent",)))
            bench.now += 61
            deadline = asyncio.get_running_loop().time() + 10
            while len(bench.listener.frames) < 4:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.005)
            done = await _together(client, Multi("c"), Exec("c"), Multi("d"), Exec("d"))
            assert [d.result for d in done] == [True, Executed(None), True, Executed(())]

    uvloop.run(scenario())


def test_silent_transaction_is_ended_by_the_writer(bench: Bench) -> None:
    async def scenario() -> None:
        bench.writer = bench.build_writer(transaction_timeout_seconds=0.05)
        async with bench.running() as client:
            await client.execute(Multi("c"))
            deadline = asyncio.get_running_loop().time() + 10
            while len(bench.writer.transactions):
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.005)
            with pytest.raises(InvalidRequest, match="No transaction in progress"):
                await client.execute(Exec("c"))

    uvloop.run(scenario())


class WatchedFiles(Files):
    """Real files that look, at each write and sync of the log, at who knows of it already."""

    def __init__(self) -> None:
        self.look: Callable[[str], None] = _nothing_to_see

    def write(self, file: int, buffers: Sequence[bytes | memoryview]) -> int:
        self.look("write")
        return super().write(file, buffers)

    def sync(self, file: int) -> None:
        self.look("sync")
        super().sync(file)


def _nothing_to_see(call: str) -> None:
    """Look at nothing."""


def test_nobody_learns_of_a_write_before_it_is_durable(config: Config) -> None:
    """In mode `always`: neither readers nor replicas nor whoever asked, for all of a turn."""
    persistence = config.persistence
    wal = msgspec.structs.replace(persistence.wal, fsync_mode="always")
    persistence = msgspec.structs.replace(persistence, wal=wal)
    config = msgspec.structs.replace(config, persistence=persistence)
    paths = NodePaths.of(config)
    paths.create()
    files = WatchedFiles()
    data_dir = DataDir.open(config, paths, Node.load_or_create(config, paths), _no_failure, files)
    bench = Bench(data_dir, paths, Board(paths.board_file))
    seen: list[tuple[str, object]] = []

    async def scenario() -> None:
        async with bench.running():
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                client.connect(str(paths.writer_socket))
                await write(client)

    async def write(client: socket.socket) -> None:
        def look(call: str) -> None:
            is_answered = bool(select.select([client], [], [], 0)[0])
            record, _ = data_dir.store.reader().get(b"k")
            is_told = bool(bench.listener.frames) or data_dir.position.offset > 0
            seen.append((call, is_answered or is_told or record is not None))

        loop = asyncio.get_running_loop()
        (named,) = Decoder(Answer).feed(await asyncio.wait_for(loop.sock_recv(client, 65536), 10))
        assert named_reign(named) == data_dir.reigns.history
        requests = [Request(1, Set(b"k", b"v")), Request(2, Increment(b"n", 1))]
        files.look = look
        client.sendall(encode([*requests, Request(3, Set(b"k", b"w"))]))
        data = await asyncio.wait_for(loop.sock_recv(client, 65536), 10)
        files.look = _nothing_to_see
        assert [answer.offset for answer in Decoder(Answer).feed(data)] == [1, 2, 3]
        assert data_dir.wal.durable_offset == 3

    try:
        uvloop.run(scenario())
    finally:
        bench.close()
    assert seen == [("write", False), ("sync", False)]
