"""Letting old segments go: what is covered, what a cursor needs, and a log that begins later."""

import errno
from pathlib import Path

import pytest

from synap.disk import DISK, Files
from synap.errors import OffsetNotRetained
from synap.position import START, Position, Reign
from synap.wal.wal import Wal
from tests.integration.wal_logs import (
    REIGN,
    FailingFiles,
    append_frames,
    no_failure,
    open_wal,
    segments_in,
    wal_options,
)


class Removing(FailingFiles):
    """Real files; `remove` can fail too."""

    def remove(self, path: Path) -> None:
        self._call("remove")
        super().remove(path)


def long_log(directory: Path, files: Files = DISK) -> Wal:
    """Return an open log of several segments."""
    wal = open_wal(directory, files=files, segment_bytes=1000)
    append_frames(wal, 60)
    assert wal.segment_count > 4
    return wal


def retire(wal: Wal, covered_offset: int, max_bytes: int = 0) -> int:
    count = wal.retire(covered_offset, max_bytes)
    wal.remove_retired()
    return count


def test_retire_keeps_what_is_not_covered(tmp_path: Path) -> None:
    wal = long_log(tmp_path)
    second = wal.histories()[1].first_offset
    assert retire(wal, second - 2) == 0
    assert retire(wal, second - 1) == 1
    assert (wal.first_offset, len(segments_in(tmp_path))) == (second, wal.segment_count)
    with pytest.raises(OffsetNotRetained):
        wal.cursor(second - 2)
    wal.close()


def test_retire_stops_at_the_size_and_never_takes_the_active_segment(tmp_path: Path) -> None:
    wal = long_log(tmp_path)
    limit = wal.size_bytes - 1
    assert retire(wal, wal.position.offset, limit) == 1
    assert retire(wal, wal.position.offset, limit) == 0
    left = wal.segment_count
    assert (retire(wal, wal.position.offset), wal.segment_count) == (left - 1, 1)
    assert segments_in(tmp_path) == [tmp_path / f"synap-{wal.first_offset:020d}.wal"]
    append_frames(wal, 2)
    wal.close()


def test_retire_leaves_what_an_open_cursor_has_yet_to_read(tmp_path: Path) -> None:
    wal = long_log(tmp_path)
    cursor = wal.cursor(0)
    first_chunk = cursor.next(1)
    assert retire(wal, wal.position.offset) == 0
    frames = [cursor.offset]
    while cursor.next(500):
        retire(wal, wal.position.offset)
        frames.append(cursor.offset)
    assert first_chunk
    assert frames[-1] == wal.position.offset
    cursor.close()
    retire(wal, wal.position.offset)
    assert wal.segment_count == 1
    wal.close()


def test_retire_a_cursor_that_never_opened_pins_nothing(tmp_path: Path) -> None:
    wal = long_log(tmp_path)
    retire(wal, 20)
    with pytest.raises(OffsetNotRetained):
        wal.cursor(0)
    assert retire(wal, wal.position.offset) > 0
    wal.close()


def test_retired_file_that_stays_is_tried_again_in_order(tmp_path: Path) -> None:
    files = Removing()
    wal = long_log(tmp_path, files)
    before = segments_in(tmp_path)
    files.fail("remove", errno.EACCES)
    assert wal.retire(wal.position.offset, 0)
    with pytest.raises(OSError, match="denied"):
        wal.remove_retired()
    assert segments_in(tmp_path) == before
    files.heal()
    wal.remove_retired()
    assert segments_in(tmp_path) == before[-1:]
    wal.close()


@pytest.mark.parametrize("is_resumed", [False, True])
def test_open_log_that_begins_later_knows_where_it_stands(tmp_path: Path, is_resumed: bool) -> None:
    wal = long_log(tmp_path)
    retire(wal, 60)
    resume = (wal.position, wal.mark)
    first_offset = wal.first_offset
    tail = append_frames(wal, 3)
    wal.close()
    wal = open_wal(tmp_path, resume if is_resumed else None)
    assert (wal.first_offset, wal.position) == (first_offset, tail[-1].position)
    assert wal.position_at(first_offset - 1) == wal.histories()[0].base
    assert [frame.position for frame in wal.frames_after(tail[0].last_offset)] == [
        frame.position for frame in tail[1:]
    ]
    wal.close()


def test_open_empty_log_behind_an_image_goes_on_from_there(tmp_path: Path) -> None:
    base = Position(1, 40, 4711)
    options = wal_options(tmp_path)
    wal = Wal.open(options, base=base, on_sync_failure=no_failure)
    assert (wal.position, wal.first_offset) == (base, 41)
    wal.begin_reign(Reign(1, REIGN.history, 1))
    frames = append_frames(wal, 2)
    wal.close()
    wal = Wal.open(options, base=START, on_sync_failure=no_failure)
    assert (wal.position, wal.histories()[0].base) == (frames[-1].position, base)
    wal.close()
