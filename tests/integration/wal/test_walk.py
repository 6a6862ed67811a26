"""Walking through a log finds the bad place that opening it finds, and says the same of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.errors import WalCorrupt
from synap.wal.segment import SEGMENT_HEADER_BYTES
from synap.wal.walk import LogWalk, check_log
from tests.integration.wal_logs import build_log, open_wal, segments_in


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    if kind == "cut":
        path.write_bytes(data[:-5])
    elif kind == "header":
        path.write_bytes(bytes(SEGMENT_HEADER_BYTES) + data[SEGMENT_HEADER_BYTES:])
    elif kind == "garbage":
        path.write_bytes(data[:SEGMENT_HEADER_BYTES] + b"x" * 20 + data[SEGMENT_HEADER_BYTES:])
    else:
        path.unlink()


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("kind", ["cut", "header", "garbage", "missing"])
def test_walk_and_open_agree_on_the_bad_place(tmp_path: Path, number: int, kind: str) -> None:
    build_log(tmp_path, 30, segment_bytes=1000)
    damage(segments_in(tmp_path)[number], kind)
    report = check_log(tmp_path)
    bad = report.bad
    if bad is not None and not bad.is_torn:
        with pytest.raises(WalCorrupt) as refused:
            open_wal(tmp_path)
        error = refused.value
        assert (error.path, error.byte_position) == (str(bad.path), bad.byte_position)
        assert error.detail == bad.detail
        return
    wal = open_wal(tmp_path)
    assert (report.position, bad is not None) == (wal.position, bool(wal.report.cut_bytes))
    wal.close()


def test_walk_alone_judges_the_segment_whatever_lies_before_it(tmp_path: Path) -> None:
    build_log(tmp_path, 30, segment_bytes=1000)
    paths = segments_in(tmp_path)
    damage(paths[0], "header")
    damage(paths[-1], "cut")
    walk = LogWalk(tmp_path)
    seen = walk.walk_alone(paths[-1])
    bad = walk.bad_place()
    assert bad is not None
    assert (bad.path, bad.byte_position, bad.is_torn) == (paths[-1], seen.sound_bytes, True)


def test_walk_from_a_later_offset_ends_where_the_log_does(tmp_path: Path) -> None:
    frames = build_log(tmp_path, 30, segment_bytes=1000)
    damage(segments_in(tmp_path)[0], "header")
    walk = LogWalk(tmp_path)
    walked = [each.frame for each in walk.frames(30)]
    assert walked == frames[-len(walked) :]
    assert (walk.end, walk.bad_place()) == (frames[-1].position, None)
