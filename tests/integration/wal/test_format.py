"""docs/wal-format.md is true: its program reads what the log writes."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

from synap.frame import DEL, FLUSH, SET, Entry, encode_frame
from synap.position import Reign
from synap.wal.segment import SEGMENT_HEADER_BYTES
from tests.integration.wal_logs import append_frames, open_wal, segments_in

DOCUMENT = Path(__file__).parents[3] / "docs" / "wal-format.md"


def read_by_the_documents_program(directory: Path) -> list[str]:
    program = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert program
    command = [sys.executable, "-I", "-c", program[1], str(directory)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return answer.stdout.splitlines()


def test_documents_program_prints_every_entry(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1000)
    append_frames(wal, 20)
    wal.begin_reign(Reign(3, os.urandom(16), 41))
    entries = [Entry(SET, b"a", b"1", 123), Entry(DEL, b"a"), Entry(FLUSH)]
    wal.append([encode_frame(entries, previous=wal.position, epoch=3, time_ms=5)])
    wal.close()
    lines = read_by_the_documents_program(tmp_path)
    assert [int(line.split()[1]) for line in lines] == list(range(1, 44))
    assert lines[-3:] == [
        "3 41 1 0 b'a' b'1' 123",
        "3 42 2 0 b'a' b'' 0",
        "3 43 3 0 b'' b'' 0",
    ]


def test_segment_header_has_its_fields_where_the_document_says(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    append_frames(wal, 2)
    before = wal.position
    wal.begin_reign(Reign(7, b"0123456789abcdef", 5))
    wal.close()
    data = segments_in(tmp_path)[1].read_bytes()
    assert len(data) == SEGMENT_HEADER_BYTES == 68
    assert data[:8] == b"SYNW\x02\x00\x44\x00"
    assert data[8:24] == b"0123456789abcdef"
    assert struct.unpack_from("<4Q", data, 24) == (7, 5, before.epoch, before.rolling)
