"""Lines of an import: what they come to, and what is wrong with them."""

from __future__ import annotations

import hashlib

import pytest

from synap.commands.keys import SetMany
from synap.request_errors import FieldInvalid, InvalidRequest
from synap.service.exports import MAX_LINES, end_line, end_of, is_head, read_lines

HEAD = b'{"position":"7-9f2c11aa","prefix":""}\n'
ANN = b'{"key":"a","value":"Ann","version":"3-9f2c11aa","expires_at_ms":null}\n'
BYTES = b'{"key":"b","value_base64":"/wA=","expires_at_ms":9}\n'


def whole(*lines: bytes) -> bytes:
    content = b"".join(lines)
    count = len([line for line in lines if not is_head(line)])
    return content + end_line(count, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("data", [whole(HEAD, ANN, BYTES), ANN + BYTES, whole(ANN, BYTES)])
def test_lines_come_to_one_write(data: bytes) -> None:
    pairs = ((b"a", b"Ann"), (b"b", b"\xff\x00"))
    assert read_lines(data) == SetMany(pairs, False, (None, 9))


def test_nothing_to_write_is_no_fault() -> None:
    assert read_lines(whole(HEAD)) == SetMany(())
    assert read_lines(b"") == SetMany(())


def test_first_and_last_line_are_known() -> None:
    assert [is_head(line) for line in (HEAD, ANN)] == [True, False]
    assert end_of(end_line(2, "ab")) == (2, "ab")
    assert end_of(ANN) is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (HEAD + ANN, "was cut"),
        (HEAD, "was cut"),
        (whole(HEAD, ANN)[:-20], "line 3: no JSON"),
        (whole(HEAD, ANN).replace(b"Ann", b"Bob"), "not those that the last one counts"),
        (whole(HEAD, ANN, BYTES).replace(BYTES, b""), "not those that the last one counts"),
        (ANN + b"x\n", "line 2: no JSON"),
        (b"\xff\n", "line 1: no JSON"),
        (ANN + b"\n" + ANN + b"x\n", "line 4: no JSON"),
    ],
)
def test_cut_or_changed_lines_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read_lines(data)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"value":"x"}\n', "line 1: field 'key' is missing"),
        (b'{"key":"a"}\n', "line 1: give one of value or value_base64"),
        (b'{"key":"a","value":"x","value_base64":"eA=="}\n', "give one of"),
        (b'{"key":"a","value_base64":"?"}\n', "no base64"),
        ('{"key":"a","value_base64":"é"}\n'.encode(), "no base64"),
        (b'{"key":"a","value":"x","expires_at_ms":-1}\n', "line 1: no line"),
        (b'{"key":"a","value":"x","expires_at_ms":9223372036854775808}\n', "line 1: no line"),
        (b'{"key":"a","value":"x","expires_at_ms":%d}\n' % 10**30, "line 1: no line"),
        (b'{"key":1,"value":"x"}\n', "line 1: no line of an export"),
        (b'{"key":"a","value":"x","ttl":1}\n', "unknown field `ttl`"),
        (b"[]\n", "line 1: no line"),
    ],
)
def test_line_that_is_none_is_named(line: bytes, told: str) -> None:
    with pytest.raises(FieldInvalid, match=told):
        read_lines(line)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\t"])
def test_too_many_lines_are_refused(end: bytes) -> None:
    """JSON's other blanks part lines, too."""
    with pytest.raises(FieldInvalid, match="send them in parts"):
        read_lines((b'{"key":"a","value":""}' + end) * (MAX_LINES + 3))
