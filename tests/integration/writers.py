"""Writers on the test's own loop, with clients, and with replicas that follow them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synap.commands.keyspace import Limits
from synap.eviction.evictor import Evictor
from synap.frame import Frame
from synap.ipc.writer_client import WriterClient
from synap.node.data_dir import DataDir
from synap.replication.publishing.publisher import Publisher
from synap.replication.rules.progress import LinkState
from synap.shared.board import AwaitedFacts, Board, BoardView, ReplicaFacts, SnapshotFacts
from synap.shared.series import Count
from synap.writer.lease import Lease
from synap.writer.quorum_answers import Quorum
from synap.writer.writer import Writer, WriterOptions
from synap.writer.writer_status import FramePublisher, WriterStatus
from tests.integration import linked_nodes
from tests.integration.linked_nodes import Counted, Replica, eventually

# How long a `WritingMaster` waits for replicas.
TIMEOUT_MS = 300


class Listener:
    """A publisher that keeps the frames."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def publish(self, frame: Frame) -> None:
        self.frames.append(frame)

    def replicas(self) -> tuple[ReplicaFacts, ...]:
        return ()

    def holder_count(self) -> int:
        return 0

    def awaited(self) -> tuple[AwaitedFacts, ...]:
        return ()


def build_writer(
    data_dir: DataDir,
    board: Board,
    *,
    publisher: FramePublisher | None = None,
    evictor: Evictor | None = None,
    on_failure: Callable[[BaseException], object] = pytest.fail,
    count: Count | None = None,
    clock: Callable[[], float] = time.time,
    role: str = "master",
    turn_bytes: int = 65536,
    sweep_interval_ms: int = 5,
    lease: Lease | None = None,
    **options: Any,
) -> Writer:
    """Build a writer as its process does, with what a test wants otherwise."""
    status = WriterStatus(
        board, data_dir, BoardView(role=role), publisher, evictor, snapshots=SnapshotFacts
    )
    return Writer(
        data_dir,
        status,
        WriterOptions(Limits(1024 * 1024), turn_bytes, sweep_interval_ms, **options),
        publisher=publisher,
        evictor=evictor,
        on_failure=on_failure,
        count=count or Counted().count,
        clock=clock,
        lease=lease,
    )


@asynccontextmanager
async def running(writer: Writer, path: Path) -> AsyncIterator[WriterClient]:
    """Run the writer on a socket at `path`, with a client of it."""
    await writer.start(path)
    client = WriterClient(path, 10)
    client.start()
    try:
        yield client
    finally:
        client.close()
        await writer.stop()


class WritingMaster(linked_nodes.Master):
    """A writer with its publisher, and a client of it."""

    def __init__(
        self, folder: Path, min_replicas: int = 0, hold_seconds: float = 5.0, **options: Any
    ) -> None:
        super().__init__(folder)
        self._board = Board(self.paths.board_file)
        self.publisher = Publisher(self.config, self.data_dir, count=self.counted.count)
        self.writer = build_writer(
            self.data_dir, self._board, publisher=self.publisher, sweep_interval_ms=50,
            quorum=Quorum(min_replicas, TIMEOUT_MS), hold_seconds=hold_seconds,
            **options,
        )  # fmt: skip

    def view(self) -> BoardView:
        return self._board.view()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WriterClient]:
        writer = self.writer
        await self.publisher.start(
            replace(self.hooks, on_ack=writer.look_at_acks, on_higher_epoch=writer.end_reign)
        )
        try:
            async with running(self.writer, self.paths.writer_socket) as client:
                yield client
        finally:
            await self.publisher.stop()
            self._board.close()
            self.close_log()


@asynccontextmanager
async def following(folder: Path, master: WritingMaster) -> AsyncIterator[Replica]:
    """Run a replica that has all that `master` has."""
    replica = Replica(folder, master)
    await replica.start()
    try:
        await eventually(lambda: replica.has_state(LinkState.IN_SYNC))
        yield replica
    finally:
        await replica.stop()
        replica.close_log()
