"""The write-ahead log on real files: appending, rolling over, reigns, syncing, closing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synap.errors import (
    DataDirUnusable,
    OffsetGap,
    OffsetUnknown,
    StaleEpoch,
    WalFailed,
)
from synap.position import NO_HISTORY, START, Reign
from synap.wal.segment import SEGMENT_HEADER_BYTES
from synap.wal.wal import Mark, Wal
from tests.integration.wal_logs import (
    LINK,
    REIGN,
    FailingFiles,
    append_frames,
    build_log,
    next_frames,
    no_failure,
    open_wal,
    segments_in,
    wal_options,
)
from tests.support import eventually

ROOT = Path(__file__).parents[3]
MODES = ["always", "periodic", "never"]

APPEND_FOR_EVER = """
import sys
from pathlib import Path
from tests.integration.wal_logs import append_frames, open_wal

wal = open_wal(Path(sys.argv[1]), fsync_mode=sys.argv[2], segment_bytes=20_000)
while True:
    append_frames(wal, 1)
    print(wal.position.offset, flush=True)
"""


def test_wal_in_an_empty_folder_is_empty(tmp_path: Path) -> None:
    wal = Wal.open(wal_options(tmp_path / "wal"), on_sync_failure=no_failure)
    assert (wal.position, wal.first_offset, wal.mark) == (START, 1, Mark(0, 0))
    assert (wal.epoch, wal.history, wal.histories()) == (0, NO_HISTORY, ())
    assert list(wal.frames_after(0)) == []
    wal.close()


@pytest.mark.parametrize("mode", MODES)
def test_wal_reopened_holds_what_was_appended(tmp_path: Path, mode: str) -> None:
    frames = build_log(tmp_path, 20, fsync_mode=mode)
    wal = open_wal(tmp_path, fsync_mode=mode)
    assert wal.position == frames[-1].position
    assert list(wal.frames_after(0)) == frames
    assert (wal.report.scanned_frames, wal.report.cut_bytes) == (20, 0)
    wal.close()


def test_wal_reopened_goes_on(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 3)
    for _ in range(3):
        wal = open_wal(tmp_path)
        frames += append_frames(wal, 2)
        wal.close()
    wal = open_wal(tmp_path)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_append_several_frames_is_one_write(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files)
    files.calls.clear()
    wal.append(next_frames(START, 50))
    assert files.calls == ["write"]
    assert len(list(wal.frames_after(0))) == 50
    wal.close()


def test_append_more_frames_than_one_writev_takes_is_whole(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = next_frames(START, 1500, entries=1)
    wal.append(frames)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_append_nothing_changes_nothing(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([])
    assert wal.position == START
    wal.close()


def test_append_beyond_segment_bytes_begins_the_next_segment(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 40)
    assert wal.segment_count > 3
    assert wal.size_bytes == sum(path.stat().st_size for path in segments_in(tmp_path))
    assert all(path.stat().st_size <= 1000 for path in segments_in(tmp_path))
    assert list(wal.frames_after(0)) == frames
    wal.close()
    reopened = open_wal(tmp_path, segment_bytes=1000)
    assert list(reopened.frames_after(0)) == frames
    assert (reopened.report.segments, reopened.report.bytes) == (
        len(segments_in(tmp_path)),
        reopened.size_bytes,
    )
    reopened.close()


def test_append_one_frame_beyond_segment_bytes_is_not_split(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 3, value=b"x" * 5000)
    assert [header.first_offset for header in wal.histories()] == [1, 3, 5]
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_segments_are_headed_by_the_log_before_them(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    positions = {frame.last_offset: frame.position for frame in append_frames(wal, 20)}
    first, *later = wal.histories()
    assert (first.base, first.history, first.epoch) == (START, REIGN.history, REIGN.epoch)
    assert [header.base for header in later] == [positions[h.first_offset - 1] for h in later]
    wal.close()


def test_link_names_the_active_segment(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    for _ in range(4):
        append_frames(wal, 5)
        active = f"synap-{wal.histories()[-1].first_offset:020d}.wal"
        assert os.readlink(tmp_path / LINK) == active
    wal.close()


def test_link_lost_is_put_back_by_open(tmp_path: Path) -> None:
    build_log(tmp_path, 30, segment_bytes=1000)
    (tmp_path / LINK).unlink()
    open_wal(tmp_path).close()
    assert (tmp_path / LINK).resolve() == segments_in(tmp_path)[-1]


def test_open_with_a_file_under_the_links_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / LINK).write_text("somebody's")
    with pytest.raises(DataDirUnusable, match=LINK):
        open_wal(tmp_path)
    assert (tmp_path / LINK).read_text() == "somebody's"


def test_mark_is_just_behind_the_last_frame(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    for _ in range(10):
        append_frames(wal, 1)
        active = segments_in(tmp_path)[-1]
        assert wal.mark == Mark(wal.histories()[-1].first_offset, active.stat().st_size)
    wal.close()


@pytest.mark.parametrize("which", [0, 2], ids=["again", "one too far"])
def test_append_a_frame_that_does_not_follow_is_refused(tmp_path: Path, which: int) -> None:
    wal = open_wal(tmp_path)
    frames = next_frames(START, 3)
    wal.append(frames[:1])
    with pytest.raises(OffsetGap):
        wal.append([frames[which]])
    wal.append(frames[1:])
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_append_with_one_bad_frame_among_good_ones_appends_none(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = next_frames(START, 3)
    with pytest.raises(OffsetGap):
        wal.append([frames[0], frames[2]])
    assert wal.position == START
    wal.close()


def test_append_before_any_reign_is_refused(tmp_path: Path) -> None:
    wal = Wal.open(wal_options(tmp_path), on_sync_failure=no_failure)
    with pytest.raises(OffsetGap, match="reign 1"):
        wal.append(next_frames(START, 1))
    wal.close()


def test_reign_begins_a_segment_with_its_history(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 3)
    wal.begin_reign(Reign(4, b"h" * 16, 7))
    frames += append_frames(wal, 3)
    assert (wal.epoch, wal.history) == (4, b"h" * 16)
    wal.close()
    reopened = open_wal(tmp_path)
    assert [(h.epoch, h.first_offset) for h in reopened.histories()] == [(1, 1), (4, 7)]
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


def test_reign_that_is_the_active_one_changes_nothing(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 3)
    wal.begin_reign(REIGN)
    assert wal.segment_count == 1
    wal.close()


def test_reign_that_wrote_nothing_gives_way_to_the_next(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 1)
    wal.begin_reign(Reign(2, b"2" * 16, 3))
    cursor = wal.cursor(2)
    wal.begin_reign(Reign(3, b"3" * 16, 3))
    frames = append_frames(wal, 1)
    assert cursor.next(1000) == frames[0].encoded
    cursor.close()
    wal.close()
    reopened = open_wal(tmp_path)
    assert [header.epoch for header in reopened.histories()] == [1, 3]
    reopened.close()


def test_reign_that_wrote_nothing_gives_way_to_the_one_before_it(tmp_path: Path) -> None:
    """A promoted master without a write follows one whose log goes on in the reign before."""
    wal = open_wal(tmp_path)
    append_frames(wal, 1)
    wal.begin_reign(Reign(2, b"2" * 16, 3))
    wal.begin_reign(REIGN)
    frames = append_frames(wal, 1)
    wal.close()
    reopened = open_wal(tmp_path)
    assert {header.epoch for header in reopened.histories()} == {1}
    assert list(reopened.frames_after(2)) == frames
    reopened.close()


def test_reign_that_wrote_nothing_gives_way_to_another_of_its_epoch(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 1)
    wal.begin_reign(Reign(2, b"2" * 16, 3))
    wal.begin_reign(Reign(2, b"another 16 bytes", 3))
    assert wal.history == b"another 16 bytes"
    wal.close()


@pytest.mark.parametrize(
    ("reign", "error"),
    [
        (Reign(1, b"another 16 bytes", 7), StaleEpoch),
        (Reign(2, b"another 16 bytes", 6), OffsetGap),
        (Reign(2, b"another 16 bytes", 8), OffsetGap),
    ],
    ids=["same epoch", "inside the log", "behind the log"],
)
def test_reign_that_does_not_continue_the_log_is_refused(
    tmp_path: Path, reign: Reign, error: type[Exception]
) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 3)
    with pytest.raises(error):
        wal.begin_reign(reign)
    assert wal.epoch == 1
    wal.close()


@pytest.mark.parametrize(("epoch", "error"), [(1, StaleEpoch), (3, OffsetGap)])
def test_append_of_another_reign_is_refused(
    tmp_path: Path, epoch: int, error: type[Exception]
) -> None:
    wal = open_wal(tmp_path)
    wal.begin_reign(Reign(2, b"second history i", 1))
    with pytest.raises(error):
        wal.append(next_frames(wal.position, 1, epoch))
    wal.close()


def test_always_is_durable_when_append_returns(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, fsync_mode="always")
    for _ in range(3):
        files.calls.clear()
        append_frames(wal, 1)
        assert files.calls == ["write", "sync"]
        assert wal.durable_offset == wal.position.offset
    assert wal.last_sync_ms > 0
    wal.close()


def test_periodic_becomes_durable_by_itself(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, fsync_mode="periodic", segment_bytes=1000)
    for _ in range(3):
        append_frames(wal, 10)
        eventually(lambda: wal.durable_offset == wal.position.offset)
    wal.close()


def test_never_is_synced_where_a_segment_ends_and_at_close(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, segment_bytes=1000)
    files.calls.clear()
    append_frames(wal, 3)
    assert "sync" not in files.calls
    append_frames(wal, 10)
    durable = [header.first_offset - 1 for header in wal.histories()]
    assert wal.durable_offset == durable[-1]
    wal.close()
    assert wal.durable_offset == wal.position.offset


def test_new_segment_is_durable_before_it_is_used(tmp_path: Path) -> None:
    files = FailingFiles()
    wal = open_wal(tmp_path, files=files, segment_bytes=1000)
    append_frames(wal, 2)
    files.calls.clear()
    append_frames(wal, 1, value=b"x" * 1000)
    finished, created = ["sync"], ["write", "sync", "rename", "point_link", "sync_directory"]
    assert files.calls == [*finished, *created, "write"]
    wal.close()


def test_open_makes_what_a_killed_process_left_durable(tmp_path: Path) -> None:
    files = FailingFiles()
    frames = build_log(tmp_path, 3)
    wal = open_wal(tmp_path, files=files)
    assert files.calls == ["sync_directory", "sync"]
    assert wal.durable_offset == frames[-1].last_offset
    wal.close()


def test_close_twice_does_no_harm_and_ends_appending(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, fsync_mode="periodic")
    append_frames(wal, 1)
    wal.close()
    wal.close()
    with pytest.raises(WalFailed, match="closed"):
        append_frames(wal, 1)


@pytest.mark.parametrize("mode", MODES)
def test_process_killed_while_it_appends_loses_no_append_that_returned(
    tmp_path: Path, mode: str
) -> None:
    command = [sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        told = [int(process.stdout.readline()) for _ in range(200)]
        process.kill()
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    wal = open_wal(tmp_path)
    assert wal.position.offset >= told[-1]
    assert sum(1 for _ in wal.frames_after(0)) == wal.position.offset // 2
    wal.close()


def test_retract_takes_the_last_append_back(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, fsync_mode="always")
    frames = append_frames(wal, 2)
    append_frames(wal, 1, value=b"refused")
    wal.retract(frames[-1].position)
    assert (wal.position, wal.durable_offset) == (frames[-1].position, 4)
    frames += append_frames(wal, 2)
    wal.close()
    reopened = open_wal(tmp_path)
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


def test_retract_of_an_append_that_began_a_segment_leaves_it_empty(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 2)
    append_frames(wal, 1, value=b"x" * 5000)
    wal.retract(frames[-1].position)
    assert wal.mark == Mark(5, SEGMENT_HEADER_BYTES)
    frames += append_frames(wal, 1)
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_retract_of_anything_but_the_last_append_is_refused(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 3)
    with pytest.raises(OffsetUnknown):
        wal.retract(frames[0].position)
    assert wal.position == frames[-1].position
    wal.close()


def test_retract_of_what_a_reader_has_ends_the_log(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 2)
    assert list(wal.frames_after(0)) == frames
    with pytest.raises(WalFailed, match="reader"):
        wal.retract(frames[0].position)
    with pytest.raises(WalFailed):
        append_frames(wal, 1)
    wal.close()
    reopened = open_wal(tmp_path)
    assert list(reopened.frames_after(0)) == frames
    reopened.close()
