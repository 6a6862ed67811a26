"""Reading the log from any offset, also while another thread appends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from synap.errors import OffsetNotRetained, OffsetUnknown, WalCorrupt
from synap.frame import Frame, decode_frame
from synap.position import START, Position
from synap.wal.wal import Wal, WalCursor
from tests.integration.wal_logs import (
    REIGN,
    append_frames,
    build_log,
    no_failure,
    open_wal,
    segments_in,
    wal_options,
)


def decode_all(chunk: bytes) -> list[Frame]:
    frames = []
    at = 0
    while at < len(chunk):
        frames.append(decode_frame(chunk, at))
        at += len(frames[-1].encoded)
    return frames


def read_to_end(cursor: WalCursor, limit_bytes: int) -> list[Frame]:
    frames: list[Frame] = []
    while chunk := cursor.next(limit_bytes):
        frames += decode_all(chunk)
        assert cursor.offset == frames[-1].last_offset
    return frames


@pytest.mark.parametrize("limit", [0, 1, 56, 150, 151, 500, 1 << 20])
def test_cursor_with_any_limit_reads_whole_frames_in_order(tmp_path: Path, limit: int) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 30)
    with wal.cursor(0) as cursor:
        assert read_to_end(cursor, limit) == frames
    wal.close()


def test_cursor_chunk_stays_within_its_limit(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 100)
    limit = 3 * len(frames[0].encoded) + 10
    with wal.cursor(0) as cursor:
        assert len(decode_all(cursor.next(limit))) == 3
    wal.close()


def test_cursor_gives_a_frame_longer_than_the_limit_alone(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 3, value=b"x" * 10_000)
    with wal.cursor(0) as cursor:
        assert cursor.next(100) == frames[0].encoded
        assert cursor.next(100) == frames[1].encoded
    wal.close()


def test_cursor_from_every_border_reads_the_rest(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 20)
    for number, frame in enumerate(frames):
        assert list(wal.frames_after(frame.last_offset)) == frames[number + 1 :]
        with wal.cursor(frame.first_offset - 1) as cursor:
            assert decode_all(cursor.next(1)) == [frame]
    wal.close()


def test_cursor_at_the_end_sees_what_comes_later(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    with wal.cursor(0) as cursor:
        for _ in range(20):
            assert cursor.next(1000) == b""
            assert append_frames(wal, 2) == read_to_end(cursor, 1000)
    wal.close()


def test_cursor_on_a_log_without_segments_waits_for_the_first(tmp_path: Path) -> None:
    wal = Wal.open(wal_options(tmp_path), on_sync_failure=no_failure)
    cursor = wal.cursor(0)
    wal.begin_reign(REIGN)
    frames = append_frames(wal, 1)
    assert cursor.next(1000) == frames[0].encoded
    cursor.close()
    wal.close()


def test_cursor_inside_a_frame_is_refused(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    for frame in append_frames(wal, 20, entries=3):
        for offset in (frame.first_offset, frame.first_offset + 1):
            with pytest.raises(OffsetUnknown):
                wal.cursor(offset)
            assert wal.position_at(offset) is None
    wal.close()


def test_cursor_behind_the_end_is_refused(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 3)
    with pytest.raises(OffsetUnknown):
        wal.cursor(7)
    assert wal.position_at(7) is None
    wal.close()


def test_cursor_before_the_oldest_segment_is_refused(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 30, segment_bytes=1000)
    segments_in(tmp_path)[0].unlink()
    wal = open_wal(tmp_path)
    base = wal.first_offset - 1
    for read in (wal.cursor, wal.position_at):
        with pytest.raises(OffsetNotRetained) as refused:
            read(base - 2)
        assert refused.value.first_offset == wal.first_offset
    assert wal.position_at(base) in [frame.position for frame in frames]
    wal.close()


def test_position_at_every_offset_is_the_frames_or_none(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 20)
    positions: dict[int, Position] = {frame.last_offset: frame.position for frame in frames}
    expected = [START] + [positions.get(offset) for offset in range(1, 45)]
    assert [wal.position_at(offset) for offset in range(45)] == expected
    wal.close()


@pytest.mark.parametrize("is_resumed", [False, True])
def test_position_in_a_long_segment_is_found_in_any_order(tmp_path: Path, is_resumed: bool) -> None:
    """The segment is longer than the distance of the borders kept in memory, many times."""
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 200, value=b"x" * 2000)
    resume = (wal.position, wal.mark) if is_resumed else None
    wal.close()
    reopened = open_wal(tmp_path, resume)
    for frame in (*frames[::-7], *frames[::11]):
        assert reopened.position_at(frame.last_offset) == frame.position
        assert next(reopened.frames_after(frame.first_offset - 1)) == frame
    reopened.close()


def test_position_is_found_after_what_was_retracted(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 3)
    append_frames(wal, 1, value=b"x" * 200_000)
    wal.retract(frames[-1].position)
    frames += append_frames(wal, 50, value=b"x" * 3000)
    assert [wal.position_at(f.last_offset) for f in frames] == [f.position for f in frames]
    wal.close()


def test_frames_after_a_damaged_frame_names_the_place(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 3)
    path = segments_in(tmp_path)[0]
    data = bytearray(path.read_bytes())
    at = len(data) - len(frames[2].encoded) - len(frames[1].encoded)
    data[at + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(WalCorrupt) as refused:
        list(wal.frames_after(0))
    assert (refused.value.path, refused.value.byte_position) == (str(path), at)
    wal.close()


def test_cursor_of_a_file_cut_by_somebody_names_the_place(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 2)
    path = segments_in(tmp_path)[0]
    at = path.stat().st_size - len(frames[1].encoded)
    path.write_bytes(path.read_bytes()[:-1])
    with wal.cursor(0) as cursor:
        assert cursor.next(1 << 20) == frames[0].encoded
        with pytest.raises(WalCorrupt, match=f"damaged at byte {at}"):
            cursor.next(1 << 20)
    wal.close()


@pytest.mark.parametrize("harm", ["a bit", "the end", "the file"])
def test_damage_in_an_older_segment_ends_what_is_given_out_before_the_next_one(
    tmp_path: Path, harm: str
) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 30)
    assert wal.damage == ""
    path = segments_in(tmp_path)[1]
    first, following = wal.histories()[1].first_offset, wal.histories()[2].first_offset
    inside = next(frame for frame in frames if frame.first_offset > first)
    do_harm(path, harm)
    with wal.cursor(0) as cursor:
        with pytest.raises(WalCorrupt) as found:
            read_to_end(cursor, 500)
        assert first - 1 <= cursor.offset < following - 1
        with pytest.raises(OffsetNotRetained):
            cursor.next(500)
    assert (found.value.path, wal.damage) == (str(path), found.value.message)
    assert wal.first_offset == following
    with pytest.raises(OffsetNotRetained):
        wal.position_at(inside.last_offset)
    with wal.cursor(following - 1) as cursor:
        rest = [frame for frame in frames if frame.first_offset >= following]
        assert read_to_end(cursor, 500) == rest
    wal.retire(following - 1, 0)
    assert wal.damage == ""
    wal.close()


def test_position_in_a_hole_of_the_log_is_damage_and_no_unknown_offset(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 30)
    first = wal.histories()[1].first_offset
    inside = next(frame for frame in frames if frame.first_offset > first)
    base = Position(1, first - 1, wal.histories()[1].rolling)
    wal.close()
    segments_in(tmp_path)[1].unlink()
    mark = wal.mark
    wal = Wal.open(wal_options(tmp_path), resume=(wal.position, mark), on_sync_failure=no_failure)
    with pytest.raises(WalCorrupt):
        wal.position_at(inside.last_offset)
    assert wal.first_offset == wal.histories()[1].first_offset
    assert wal.first_offset > base.offset + 1
    wal.close()


def test_damage_in_the_active_segment_leaves_what_comes_next(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    end = append_frames(wal, 30)[-1].position
    do_harm(segments_in(tmp_path)[0], "a bit")
    with wal.cursor(0) as cursor, pytest.raises(WalCorrupt):
        read_to_end(cursor, 500)
    assert wal.first_offset == end.offset + 1
    later = append_frames(wal, 3)
    assert wal.position_at(end.offset) == end
    with wal.cursor(end.offset) as cursor:
        assert read_to_end(cursor, 500) == later
    wal.close()


def do_harm(path: Path, harm: str) -> None:
    """Damage a segment behind its first frame; `the file` takes it away."""
    if harm == "the file":
        path.unlink()
        return
    size = path.stat().st_size
    with path.open("r+b") as file:
        if harm == "the end":
            file.truncate(size // 2)
        else:
            # A byte of a value: the frame's header stays sound.
            at = path.read_bytes().index(b"value", size // 2)
            file.seek(at)
            file.write(b"V")


def test_cursors_reading_while_another_thread_appends_see_every_frame(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=20_000, fsync_mode="periodic")
    count, read, has_begun = 1500, [], threading.Event()

    def follow() -> None:
        cursors = [wal.cursor(0) for _ in range(2)]
        has_begun.set()
        seen: list[list[Frame]] = [[], []]
        while min(map(len, seen)) < count:
            for frames, cursor, limit in zip(seen, cursors, (300, 5000), strict=True):
                frames += decode_all(cursor.next(limit))
            latest = seen[0][-1:] and wal.position_at(seen[0][-1].last_offset)
            assert not latest or latest == seen[0][-1].position
        for cursor in cursors:
            cursor.close()
        read.extend(seen)

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    assert has_begun.wait(10)
    appended = append_frames(wal, count)
    reader.join(30)
    assert read == [appended, appended]
    wal.close()
