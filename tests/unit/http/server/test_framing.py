"""No answer's head holds what would end a line of it."""

from __future__ import annotations

import pytest

from synap.http.server import framing
from synap.http.server.framing import AnswerInvalid

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F) if chr(code) != "\t"]
DATE = b"date: today"


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_header_with_a_control_character_is_framed_in_no_way(control: str) -> None:
    value = f"http://a{control}X-Evil: 1"
    headers = [(b"x-synap-master", value.encode()), (b"content-length", b"0")]
    assert framing.plain_answer(421, headers, b"", DATE) is None
    with pytest.raises(AnswerInvalid):
        framing.head(421, headers, DATE)
    with pytest.raises(AnswerInvalid):
        framing.header_lines([("X-Synap-Master", value)])
    assert not framing.is_header_value(value)


def test_plain_headers_are_framed_by_every_way() -> None:
    headers = [(b"x-synap-master", b"http://a:1"), (b"content-length", b"0")]
    line = b"\r\nx-synap-master: http://a:1\r\n"
    assert line in (framing.plain_answer(421, headers, b"", DATE) or b"")
    assert line in framing.head(421, headers, DATE)
    assert framing.header_lines([("X-Synap-Master", "http://a:1")]).encode() == line[2:]


def test_part_that_many_are_sent_is_one_chunk() -> None:
    chunks, part = framing.Chunks(), b"v" * 20
    assert chunks.of(part) == b"14\r\n" + part + b"\r\n"
    assert chunks.of(part) is chunks.of(part)
    assert chunks.of(b"w") == b"1\r\nw\r\n"
    assert chunks.of(b"") == b""
