"""Bringing a store to the log's end, while the log is checked and after."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from synap.disk import DISK, Files
from synap.node.replay import Replay
from synap.position import Position
from synap.store import Applied, Bulk, Store
from synap.wal.wal import Wal
from tests.integration.wal_logs import REIGN, build_log, no_failure, wal_options

MAP_BYTES = 16 * 1024 * 1024
FRAMES = 200


class CountingFiles(Files):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read(self, file: int, count: int, at: int) -> bytes:
        data = super().read(file, count, at)
        self.read_bytes += len(data)
        return data


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.prepare(tmp_path / "store", MAP_BYTES)
    yield store
    store.close(clean=False)


def open_wal(directory: Path, replay: Replay, files: Files = DISK) -> Wal:
    return Wal.open(
        wal_options(directory),
        on_sync_failure=no_failure,
        on_frame=replay.see,
        files=files,
    )


@pytest.mark.parametrize("bulk_bytes", [1, 1000, 1 << 20])
def test_rebuilt_store_stands_at_the_log_s_end(
    tmp_path: Path, store: Store, bulk_bytes: int
) -> None:
    frames = build_log(tmp_path / "wal", FRAMES, segment_bytes=4096)
    replay = Replay(store, bulk_bytes)
    wal = open_wal(tmp_path / "wal", replay)
    replay.finish(wal)
    mark = wal.mark
    assert replay.frames == FRAMES
    assert store.applied == Applied(
        frames[-1].position, mark.segment, mark.byte_position, frames[-1].time_ms, REIGN.history
    )
    assert store.facts().keys == len({e.key for frame in frames for e in frame.entries()})
    wal.close()


def test_log_is_read_once_while_it_is_checked(tmp_path: Path, store: Store) -> None:
    build_log(tmp_path / "wal", FRAMES)
    files, replay = CountingFiles(), Replay(store)
    wal = open_wal(tmp_path / "wal", replay, files)
    replay.finish(wal)
    # The header is looked for by itself.
    assert files.read_bytes < wal.size_bytes + 8192
    wal.close()


def test_store_takes_only_what_follows_it(tmp_path: Path, store: Store) -> None:
    frames = build_log(tmp_path / "wal", FRAMES)
    transaction = store.begin()
    transaction.apply_many(Bulk(frames[:50]))
    transaction.set_applied(Applied(frames[49].position, 0, 0, 1))
    transaction.commit()
    replay = Replay(store)
    wal = open_wal(tmp_path / "wal", replay)
    replay.finish(wal)
    assert replay.frames == FRAMES - 50
    assert store.applied.position == frames[-1].position
    wal.close()


def test_store_of_another_log_takes_nothing(tmp_path: Path, store: Store) -> None:
    frames = build_log(tmp_path / "wal", FRAMES)
    before = frames[49].position
    elsewhere = Position(before.epoch, before.offset, before.rolling ^ 1)
    transaction = store.begin()
    transaction.set_applied(Applied(elsewhere, 0, 0, 1))
    transaction.commit()
    replay = Replay(store, bulk_bytes=1)
    wal = open_wal(tmp_path / "wal", replay)
    assert (replay.frames, store.applied.position) == (0, elsewhere)
    wal.close()
