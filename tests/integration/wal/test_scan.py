"""Opening a log that a crash tore or that something damaged, byte by byte."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from synap.errors import WalCorrupt
from synap.frame import SET, Entry, Frame, encode_frame
from synap.position import START, Position, Reign
from synap.wal.segment import SEGMENT_HEADER_BYTES
from synap.wal.wal import Mark
from tests.integration.wal_logs import (
    append_frames,
    build_log,
    contents,
    next_frames,
    open_wal,
    segments_in,
)


def frames_in(directory: Path, resume: tuple[Position, Mark] | None = None) -> list[Frame]:
    wal = open_wal(directory, resume)
    try:
        return list(wal.frames_after(0))
    finally:
        wal.close()


def test_open_log_cut_at_every_byte_gives_the_whole_frames_before(tmp_path: Path) -> None:
    frames = build_log(tmp_path / "log", 4)
    whole = segments_in(tmp_path / "log")[0].read_bytes()
    borders = [SEGMENT_HEADER_BYTES]
    for frame in frames:
        borders.append(borders[-1] + len(frame.encoded))
    for length in range(SEGMENT_HEADER_BYTES, len(whole)):
        torn = tmp_path / "log" / segments_in(tmp_path / "log")[0].name
        torn.write_bytes(whole[:length])
        wal = open_wal(tmp_path / "log")
        kept = sum(border <= length for border in borders) - 1
        assert list(wal.frames_after(0)) == frames[:kept]
        assert wal.report.cut_bytes == length - borders[kept]
        assert wal.report.cut_path == (str(torn) if wal.report.cut_bytes else "")
        assert torn.stat().st_size == borders[kept]
        wal.close()


def test_open_log_cut_inside_the_header_of_its_only_segment_is_empty(tmp_path: Path) -> None:
    build_log(tmp_path / "log", 1)
    path = segments_in(tmp_path / "log")[0]
    whole = path.read_bytes()
    for length in range(SEGMENT_HEADER_BYTES):
        path.write_bytes(whole[:length])
        wal = open_wal(tmp_path / "log")
        assert wal.position == START
        assert (wal.report.cut_bytes, wal.report.cut_path) == (length, str(path))
        wal.close()


def test_open_log_torn_goes_on_behind_the_cut(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 3)
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-5])
    wal = open_wal(tmp_path)
    frames = frames[:2] + append_frames(wal, 2, value=b"after the crash")
    wal.close()
    assert frames_in(tmp_path) == frames


def test_open_log_with_one_flipped_bit_gives_a_prefix_or_names_the_place(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 3)
    path = segments_in(tmp_path)[0]
    whole = path.read_bytes()
    refusals = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        found = frames_or_refusal(tmp_path)
        if isinstance(found, WalCorrupt):
            refusals += 1
            assert (found.path, path.read_bytes()) == (str(path), damaged)
            assert found.byte_position <= at
        else:
            assert found == frames[: len(found)] != frames
    assert refusals == len(whole) - len(frames[-1].encoded)


def frames_or_refusal(directory: Path) -> list[Frame] | WalCorrupt:
    try:
        return frames_in(directory)
    except WalCorrupt as error:
        return error


@pytest.mark.parametrize("number", [0, 1, 2])
def test_open_log_with_a_bad_frame_names_where_it_begins(tmp_path: Path, number: int) -> None:
    frames = build_log(tmp_path, 4)
    at = SEGMENT_HEADER_BYTES + sum(len(frame.encoded) for frame in frames[:number])
    flip(segments_in(tmp_path)[0], at + len(frames[number].encoded) - 1)
    with pytest.raises(WalCorrupt, match=f"damaged at byte {at}:"):
        open_wal(tmp_path)


def test_open_log_with_a_bad_last_frame_cuts_it(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 4)
    flip(segments_in(tmp_path)[0], -1)
    assert frames_in(tmp_path) == frames[:3]


@pytest.mark.parametrize("zeros", [1, 56, 4096, 3 * 1024 * 1024])
def test_open_log_with_a_tail_of_zeros_cuts_them(tmp_path: Path, zeros: int) -> None:
    frames = build_log(tmp_path, 3)
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes() + bytes(zeros))
    wal = open_wal(tmp_path)
    assert list(wal.frames_after(0)) == frames
    assert wal.report.cut_bytes == zeros
    wal.close()


@pytest.mark.parametrize("distance", [1, 1024 * 1024 - 60, 1024 * 1024 - 1, 1024 * 1024 + 30])
def test_open_log_with_a_frame_behind_garbage_is_refused(tmp_path: Path, distance: int) -> None:
    frames = build_log(tmp_path, 4)
    path = segments_in(tmp_path)[0]
    data = path.read_bytes()
    at = len(data) - len(frames[-1].encoded)
    path.write_bytes(data[:at] + bytes(distance) + frames[-1].encoded)
    with pytest.raises(WalCorrupt, match=f"a whole frame at byte {at + distance}"):
        open_wal(tmp_path)


def test_open_log_with_a_frame_missing_is_refused(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 4)
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(frames[1].encoded, b""))
    with pytest.raises(WalCorrupt, match="does not follow"):
        open_wal(tmp_path)


def test_open_log_torn_inside_a_value_that_holds_a_frame_is_cut(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 2)
    stored = next_frames(Position(1, 1000, 5), 1)[0].encoded
    append_frames(wal, 1, entries=1, value=stored + b"tail")
    wal.close()
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert frames_in(tmp_path) == frames


def test_open_log_torn_behind_many_magic_words_is_cut(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 2)
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes() + b"SYNF" * 20_000)
    assert frames_in(tmp_path) == frames


def test_open_log_of_one_frame_longer_than_a_read_is_whole(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1 << 24)
    frames = []
    for size in (100, 3_000_000, 100, 300_000, 700_000, 100):
        frames += append_frames(wal, 1, entries=1, value=b"x" * size)
    wal.close()
    assert frames_in(tmp_path) == frames


def test_open_log_bad_before_a_later_segment_is_refused(tmp_path: Path) -> None:
    build_log(tmp_path, 20, segment_bytes=1000)
    path = segments_in(tmp_path)[-2]
    path.write_bytes(path.read_bytes()[:-5])
    before = contents(tmp_path)
    with pytest.raises(WalCorrupt, match="later segment") as refused:
        open_wal(tmp_path)
    assert refused.value.path == str(path)
    assert contents(tmp_path) == before


def test_open_log_without_a_middle_segment_is_refused(tmp_path: Path) -> None:
    build_log(tmp_path, 30, segment_bytes=1000)
    paths = segments_in(tmp_path)
    paths[1].unlink()
    with pytest.raises(WalCorrupt, match="the log before it ends") as refused:
        open_wal(tmp_path)
    assert refused.value.path == str(paths[2])


def test_open_log_without_its_oldest_segments_begins_later(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 30, segment_bytes=1000)
    for path in segments_in(tmp_path)[:2]:
        path.unlink()
    wal = open_wal(tmp_path)
    assert wal.first_offset == wal.histories()[0].first_offset > 1
    retained = [frame for frame in frames if frame.first_offset >= wal.first_offset]
    assert list(wal.frames_after(wal.first_offset - 1)) == retained
    wal.close()


@pytest.mark.parametrize("length", [0, 1, SEGMENT_HEADER_BYTES - 1])
def test_open_log_with_a_torn_last_header_removes_that_segment(tmp_path: Path, length: int) -> None:
    frames = build_log(tmp_path, 20, segment_bytes=1000)
    name = f"synap-{frames[-1].last_offset + 1:020d}.wal"
    (tmp_path / name).write_bytes(segments_in(tmp_path)[0].read_bytes()[:length])
    wal = open_wal(tmp_path)
    assert wal.report.cut_path == str(tmp_path / name)
    assert not (tmp_path / name).exists()
    assert list(wal.frames_after(0)) == frames
    wal.close()


def test_open_log_with_a_zeroed_last_header_and_frames_is_refused(tmp_path: Path) -> None:
    build_log(tmp_path, 20, segment_bytes=1000)
    path = segments_in(tmp_path)[-1]
    path.write_bytes(bytes(SEGMENT_HEADER_BYTES) + path.read_bytes()[SEGMENT_HEADER_BYTES:])
    with pytest.raises(WalCorrupt, match="damaged at byte 0: the header is damaged"):
        open_wal(tmp_path)
    assert path.exists()


def test_open_log_with_a_damaged_first_header_is_refused(tmp_path: Path) -> None:
    build_log(tmp_path, 20, segment_bytes=1000)
    flip(segments_in(tmp_path)[0], 20)
    with pytest.raises(WalCorrupt, match="damaged at byte 0"):
        open_wal(tmp_path)


def test_open_log_with_only_a_torn_later_segment_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"synap-{77:020d}.wal").write_bytes(b"")
    with pytest.raises(WalCorrupt, match="header"):
        open_wal(tmp_path)


def test_open_segment_of_a_newer_version_is_refused_not_cut(tmp_path: Path) -> None:
    build_log(tmp_path, 1)
    path = segments_in(tmp_path)[0]
    header = struct.pack("<4sBBH", b"SYNW", 2, 0, 100) + bytes(88)
    path.write_bytes(header + struct.pack("<I", crc32(header)) + b"what comes in that version")
    with pytest.raises(WalCorrupt, match="newer program"):
        open_wal(tmp_path)


def test_open_segment_under_another_name_is_refused(tmp_path: Path) -> None:
    build_log(tmp_path, 2)
    segments_in(tmp_path)[0].rename(tmp_path / f"synap-{9:020d}.wal")
    with pytest.raises(WalCorrupt, match="begins at offset 1"):
        open_wal(tmp_path)


def test_open_log_with_a_frame_of_another_reign_is_refused(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 2)
    entry = Entry(SET, b"key", b"value")
    stranger = encode_frame([entry], previous=frames[-1].position, epoch=9, time_ms=0)
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes() + stranger.encoded)
    with pytest.raises(WalCorrupt, match="does not follow"):
        open_wal(tmp_path)


def test_open_ignores_files_of_other_names(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 2)
    for name in ("owner.lock", "synap-1.wal", "other-00000000000000000001.wal", "synap.wal.tmp"):
        (tmp_path / name).write_bytes(b"not a segment")
    assert frames_in(tmp_path) == frames


def test_resume_reads_only_what_follows_the_mark(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    frames = append_frames(wal, 20)
    resume = (wal.position, wal.mark)
    frames += append_frames(wal, 15)
    wal.close()
    reopened = open_wal(tmp_path, resume)
    assert reopened.position == frames[-1].position
    assert reopened.report.scanned_frames == 15
    assert list(reopened.frames_after(resume[0].offset)) == frames[20:]
    assert list(reopened.frames_after(0)) == frames
    reopened.close()


def test_resume_at_every_border_ends_where_the_log_does(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    borders = []
    for _ in range(20):
        append_frames(wal, 1)
        borders.append((wal.position, wal.mark))
    wal.close()
    for number, border in enumerate(borders):
        reopened = open_wal(tmp_path, border)
        assert reopened.position == borders[-1][0]
        assert reopened.report.scanned_frames == 19 - number
        reopened.close()


def test_resume_at_an_empty_last_segment_fits(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 3)
    wal.begin_reign(Reign(2, b"second history i", 7))
    resume = (wal.position, wal.mark)
    wal.close()
    reopened = open_wal(tmp_path, resume)
    assert (reopened.position, reopened.report.scanned_frames) == (resume[0], 0)
    reopened.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda position, mark: (position, Mark(999, mark.byte_position)),
        lambda position, mark: (position, Mark(mark.segment, mark.byte_position + 1)),
        lambda position, mark: (position, Mark(mark.segment, mark.byte_position - 1)),
        lambda position, mark: (position, Mark(mark.segment, 10**9)),
        lambda position, mark: (position, Mark(mark.segment, 0)),
        lambda position, mark: (position, Mark(0, 0)),
        lambda position, mark: (Position(1, position.offset + 1, position.rolling), mark),
        lambda position, mark: (Position(1, position.offset, 1), mark),
        lambda position, mark: (Position(2, position.offset, position.rolling), mark),
    ],
)
def test_resume_with_a_mark_that_does_not_fit_reads_everything(
    tmp_path: Path, change: Callable[[Position, Mark], tuple[Position, Mark]]
) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 4)
    resume = (wal.position, wal.mark)
    frames += append_frames(wal, 4)
    wal.close()
    reopened = open_wal(tmp_path, change(*resume))
    assert reopened.position == frames[-1].position
    assert reopened.report.scanned_frames == 8
    reopened.close()


def test_resume_behind_a_log_that_lost_its_end_tells_the_shorter_position(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    frames = append_frames(wal, 4)
    resume = (wal.position, wal.mark)
    wal.close()
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    reopened = open_wal(tmp_path, resume)
    assert reopened.position == frames[2].position
    reopened.close()


def test_resume_cuts_a_torn_tail_behind_the_mark(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 4)
    resume = (wal.position, wal.mark)
    frames = append_frames(wal, 2)
    wal.close()
    path = segments_in(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    reopened = open_wal(tmp_path, resume)
    assert (reopened.position, reopened.report.scanned_frames) == (frames[0].position, 1)
    assert reopened.report.cut_bytes == len(frames[1].encoded) - 1
    reopened.close()


def test_open_a_copy_taken_while_the_log_is_open_gives_a_prefix(tmp_path: Path) -> None:
    wal = open_wal(tmp_path / "log", segment_bytes=2000)
    frames = append_frames(wal, 30)
    shutil.copytree(tmp_path / "log", tmp_path / "copy", symlinks=True)
    append_frames(wal, 30)
    wal.close()
    assert frames_in(tmp_path / "copy") == frames


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
