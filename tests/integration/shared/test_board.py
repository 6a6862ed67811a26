"""The board between real processes."""

import multiprocessing
import os
import signal
import struct
import threading
import time
from pathlib import Path

from synap.shared.board import Board, BoardView, NodeDetails, ReplicaFacts


def test_view_before_the_owner_started_is_empty(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    assert board.view() == BoardView()
    assert board.details() == NodeDetails()
    board.close()


def test_view_unchanged_is_the_same_object(tmp_path: Path) -> None:
    writer, reader = Board(tmp_path / "board"), Board(tmp_path / "board")
    writer.publish(BoardView(role="master", epoch=3))
    first = reader.view()
    assert first == BoardView(role="master", epoch=3)
    assert reader.view() is first
    writer.publish(BoardView(role="replica"))
    assert reader.view().role == "replica"
    writer.close()
    reader.close()


def test_draining_shows_until_the_board_is_cleared(tmp_path: Path) -> None:
    supervisor, worker = Board(tmp_path / "board"), Board(tmp_path / "board")
    supervisor.start_draining()
    assert worker.is_draining
    supervisor.publish(BoardView(role="master"))
    assert worker.is_draining
    supervisor.clear()
    assert not worker.is_draining
    supervisor.close()
    worker.close()


def test_details_cross_whole(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    facts = ReplicaFacts("r1", "127.0.0.1", 5, 1, 2, "in_sync", 3)
    board.publish_details(NodeDetails(wal_bytes=9, replicas=(facts,)))
    assert board.details() == NodeDetails(wal_bytes=9, replicas=(facts,))
    board.close()


def test_first_look_waits_for_a_writer_that_stands_halfway(tmp_path: Path) -> None:
    path = tmp_path / "board"
    writer = Board(path)
    writer.publish(BoardView(role="master", epoch=3))
    begin_writing(path)
    later = threading.Timer(0.2, writer.publish, [BoardView(role="master", epoch=4)])
    later.start()
    reader = Board(path)
    assert reader.view() == BoardView(role="master", epoch=4)
    later.join()
    begin_writing(path)
    assert reader.view().epoch == 4
    reader.close()
    writer.close()


def begin_writing(path: Path) -> None:
    """Leave the view as a writer does that is stopped, or killed, halfway."""
    with path.open("r+b") as file:
        (sequence,) = struct.unpack("<Q", file.read(8))
        file.seek(0)
        file.write(struct.pack("<Q", sequence | 1))


def _publish_for_ever(path: Path) -> None:
    board = Board(path)
    number = 0
    while True:
        number += 1
        board.publish(BoardView(role="x" * (number % 50), epoch=number, applied_offset=number))


def test_view_under_a_killed_writer_is_never_torn(tmp_path: Path) -> None:
    path = tmp_path / "board"
    board = Board(path)
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        writer = context.Process(target=_publish_for_ever, args=(path,), daemon=True)
        writer.start()
        deadline = time.monotonic() + 30
        seen: set[int] = set()
        while len(seen) < 2000 and time.monotonic() < deadline:
            view = board.view()
            assert view.epoch == view.applied_offset
            assert len(view.role) == view.epoch % 50
            seen.add(view.epoch)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(10)
        assert len(seen) >= 2000
        board.view()
    board.publish(BoardView(role="after"))
    assert board.view().role == "after"
    board.close()
