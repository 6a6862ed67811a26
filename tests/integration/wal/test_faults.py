"""What the log does when the disk is full or fails."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synap.errors import DiskFull, WalFailed
from synap.position import START, Reign
from synap.wal.wal import Wal
from tests.integration.wal_logs import (
    LINK,
    REIGN,
    FailingFiles,
    append_frames,
    build_log,
    next_frames,
    open_wal,
    segments_in,
    wal_options,
)
from tests.support import eventually

NO_ROOM = [errno.ENOSPC, errno.EDQUOT]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse to make any file of this process longer than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_append_cut_short_by_the_kernel_leaves_no_trace(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 3)
    path = segments_in(tmp_path)[0]
    size = path.stat().st_size
    with file_size_limit(size + 30), pytest.raises(DiskFull):
        append_frames(wal, 1)
    assert path.stat().st_size == size
    frames += append_frames(wal, 2)
    wal.close()
    reopened = open_wal(tmp_path)
    assert list(reopened.frames_after(0)) == frames
    assert reopened.report.cut_bytes == 0
    reopened.close()


@pytest.mark.parametrize("error", NO_ROOM)
@pytest.mark.parametrize("part", [0, 1, 60, 150])
def test_append_without_room_leaves_no_trace(tmp_path: Path, part: int, error: int) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    frames = append_frames(wal, 2)
    before = (wal.position, wal.mark, segments_in(tmp_path)[0].read_bytes())
    files.write_short(part)
    files.fail("write", error)
    with pytest.raises(DiskFull):
        wal.append(next_frames(wal.position, 2))
    assert (wal.position, wal.mark, segments_in(tmp_path)[0].read_bytes()) == before
    files.heal()
    frames += append_frames(wal, 1)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_append_taken_in_two_parts_is_whole(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    files.write_short(77)
    frames = next_frames(START, 3)
    wal.append(frames)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_append_whose_part_cannot_be_cut_ends_the_log(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    frames = append_frames(wal, 2)
    path = segments_in(tmp_path)[0]
    with file_size_limit(path.stat().st_size + 30):
        files.fail("truncate", errno.EIO)
        with pytest.raises(WalFailed):
            append_frames(wal, 1)
    assert_refuses_everything(wal)
    wal.close()
    reopened = open_wal(tmp_path)
    assert list(reopened.frames_after(0)) == frames
    assert reopened.report.cut_bytes == 30
    reopened.close()


def test_append_with_a_disk_error_ends_the_log(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    append_frames(wal, 2)
    files.fail("write", errno.EIO, once=True)
    with pytest.raises(WalFailed):
        append_frames(wal, 1)
    assert wal.position.offset == 4
    assert_refuses_everything(wal)
    wal.close()


def test_always_with_a_failed_sync_ends_the_log_without_a_second_try(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, fsync_mode="always")
    append_frames(wal, 2)
    files.fail("sync", errno.EIO, once=True)
    with pytest.raises(WalFailed, match="fdatasync"):
        append_frames(wal, 1)
    assert (wal.position.offset, wal.durable_offset) == (4, 4)
    assert list(wal.frames_after(4)) == []
    assert_refuses_everything(wal)
    files.calls.clear()
    wal.close()
    assert files.calls == []


def test_sync_without_room_is_a_failed_sync(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, fsync_mode="always")
    files.fail("sync", errno.ENOSPC, once=True)
    with pytest.raises(WalFailed):
        append_frames(wal, 1)
    assert_refuses_everything(wal)
    wal.close()


def test_periodic_with_a_failed_sync_calls_back_once_and_ends_the_log(tmp_path: Path) -> None:
    files, failures = FailingFiles(), []
    options = wal_options(tmp_path, fsync_mode="periodic")
    wal = Wal.open(options, on_sync_failure=failures.append, files=files)
    wal.begin_reign(REIGN)
    files.fail("sync", errno.EIO)
    append_frames(wal, 1)
    eventually(lambda: failures)
    assert_refuses_everything(wal)
    wal.close()
    assert [type(failure) for failure in failures] == [WalFailed]
    assert files.calls.count("sync") == 2  # the first segment's header, and the one that failed


def test_close_with_a_failed_sync_says_so(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    append_frames(wal, 1)
    files.fail("sync", errno.EIO)
    with pytest.raises(WalFailed):
        wal.close()


@pytest.mark.parametrize("call", ["write", "rename"])
def test_next_segment_without_room_is_tried_again(tmp_path: Path, call: str) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, segment_bytes=1000)
    frames = append_frames(wal, 2)
    files.fail(call, errno.ENOSPC)
    for _ in range(2):
        with pytest.raises(DiskFull):
            append_frames(wal, 1, value=b"x" * 1000)
        assert (wal.position, wal.segment_count) == (frames[-1].position, 1)
    files.heal()
    frames += append_frames(wal, 1)
    frames += append_frames(wal, 1, value=b"x" * 1000)
    wal.close()
    reopened = open_wal(tmp_path)
    assert [header.first_offset for header in reopened.histories()] == [1, 7]
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


def test_reign_without_room_changes_nothing(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    frames = append_frames(wal, 2)
    files.fail("write", errno.ENOSPC)
    with pytest.raises(DiskFull):
        wal.begin_reign(Reign(2, b"second history i", 5))
    files.heal()
    assert wal.epoch == 1
    frames += append_frames(wal, 1)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_next_segment_without_room_for_the_link_is_used(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, segment_bytes=1000)
    files.fail("point_link", errno.ENOSPC)
    frames = append_frames(wal, 20)
    assert wal.segment_count > 2
    assert (tmp_path / LINK).resolve() == segments_in(tmp_path)[0]
    wal.close()
    reopened = open_wal(tmp_path)
    assert (tmp_path / LINK).resolve() == segments_in(tmp_path)[-1]
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


@pytest.mark.parametrize("call", ["sync", "sync_directory", "rename", "point_link"])
def test_next_segment_with_a_disk_error_ends_the_log(tmp_path: Path, call: str) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, segment_bytes=1000)
    frames = append_frames(wal, 2)
    files.fail(call, errno.EIO, once=True)
    with pytest.raises(WalFailed):
        append_frames(wal, 1, value=b"x" * 1000)
    assert_refuses_everything(wal)
    wal.close()
    reopened = open_wal(tmp_path)
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


@pytest.mark.parametrize("call", ["read", "sync", "sync_directory"])
def test_open_with_a_disk_error_fails_and_changes_nothing(tmp_path: Path, call: str) -> None:
    frames = build_log(tmp_path, 3)
    files = FailingFiles()
    files.fail(call, errno.EIO)
    with pytest.raises(WalFailed):
        open_wal(tmp_path, files=files)
    reopened = open_wal(tmp_path)
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


@pytest.mark.parametrize("call", ["truncate", "sync"])
def test_open_that_cannot_cut_a_torn_tail_fails(tmp_path: Path, call: str) -> None:
    build_log(tmp_path, 3)
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    files = FailingFiles()
    files.fail(call, errno.EIO)
    with pytest.raises(WalFailed):
        open_wal(tmp_path, files=files)


def test_open_on_a_full_disk_needs_no_room(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 3)
    (tmp_path / LINK).unlink()
    files = FailingFiles()
    files.fail("point_link", errno.ENOSPC)
    wal = open_wal(tmp_path, files=files)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_cursor_with_a_disk_error_fails_and_the_log_goes_on(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    frames = append_frames(wal, 3)
    with wal.cursor(0) as cursor:
        files.fail("read", errno.EIO, once=True)
        with pytest.raises(WalFailed):
            cursor.next(1000)
        assert cursor.next(1 << 20) == b"".join(frame.encoded for frame in frames)
    append_frames(wal, 1)
    wal.close()


def assert_refuses_everything(wal: Wal) -> None:
    position = wal.position
    with pytest.raises(WalFailed):
        append_frames(wal, 1)
    with pytest.raises(WalFailed):
        wal.begin_reign(Reign(9, b"another 16 bytes", position.offset + 1))
    with pytest.raises(WalFailed):
        wal.retract(position)
    assert wal.position == position


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
def test_segment_that_can_not_be_begun_for_want_of_a_file_waits(tmp_path: Path, error: int) -> None:
    """Cites K9: a crowded port takes the descriptors for a while, and nothing is refused."""
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, segment_bytes=500)
    frames = append_frames(wal, 2)
    files.fail("open", error)
    for _ in range(10):
        frames += append_frames(wal, 1)
    assert len(segments_in(tmp_path)) == 1
    files.heal()
    frames += append_frames(wal, 1)
    assert len(segments_in(tmp_path)) == 2
    wal.close()
    reopened = open_wal(tmp_path, segment_bytes=500)
    assert list(reopened.frames_after(0)) == frames
    reopened.close()
