"""The one rule from JSON to stored bytes and back."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.commands.values import byte_list, half_pair, readable, stored_bytes, told, told_all
from synap.request_errors import InvalidRequest

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ('"Alice"', "Alice"),
        ('""', ""),
        ('"42"', "42"),
        ('"\\u00fc\\ud83d\\ude00\\u0000"', "ü😀\0"),
        ("42", "42"),
        ("true", "true"),
        ("null", "null"),
        ('{"b": 1, "a": [ 1, 2 ]}', '{"b":1,"a":[1,2]}'),
        ('[ "a  b", "\\"  \\"" ]', '["a  b","\\"  \\""]'),
    ],
)
def test_stored_bytes_of_json_is_text_without_white_space(text: str, stored: str) -> None:
    assert stored_bytes(msgspec.Raw(text.encode())) == stored.encode()


@pytest.mark.parametrize(
    "number", ["1.10", "-0", "-0.0", "1e400", "1E5", "0.1000000000000000055511", "9" * 50, "1e-999"]
)
def test_stored_bytes_of_number_keeps_its_spelling(number: str) -> None:
    assert stored_bytes(msgspec.Raw(number.encode())) == number.encode()
    assert stored_bytes(msgspec.Raw(f"[{number}]".encode())) == f"[{number}]".encode()


def test_stored_bytes_of_object_keeps_repeated_and_ordered_members() -> None:
    assert stored_bytes(msgspec.Raw(b'{"z":1, "a":2, "z":3}')) == b'{"z":1,"a":2,"z":3}'


@given(json_values.filter(lambda value: not isinstance(value, str)))
def test_stored_bytes_of_any_value_is_its_compact_json(value: object) -> None:
    spread = json.dumps(value, indent=2, ensure_ascii=False).encode()
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert readable(stored_bytes(msgspec.Raw(spread))) == compact


@given(st.text())
def test_stored_bytes_of_string_reads_back_the_same(text: str) -> None:
    assert readable(stored_bytes(msgspec.Raw(json.dumps(text).encode()))) == text


@pytest.mark.parametrize(
    "text", [b'"\xff"', b'["\xff"]', b'{"\xc3":1}', b'"\\ud800"', b"[" * 501 + b"]" * 501]
)
def test_stored_bytes_of_unreadable_text_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        stored_bytes(msgspec.Raw(text))


@pytest.mark.parametrize(
    "text", [b"[" * 500 + b"]" * 500, b'["' + b"[" * 2000 + b'"]', b"[" + b"[],{}," * 900 + b"0]"]
)
def test_stored_bytes_of_many_brackets_within_the_limit_are_stored(text: bytes) -> None:
    assert stored_bytes(msgspec.Raw(text)) == text


def test_readable_of_bytes_that_are_not_utf8_names_their_number() -> None:
    assert readable(b"\xff\x00\x01") == "<binary data: 3 bytes>"


def test_byte_list_of_any_bytes_is_their_numbers() -> None:
    assert byte_list(b"\x00\xffA") == [0, 255, 65]


def test_told_loses_nothing_of_bytes_that_are_not_utf8() -> None:
    assert told("ü".encode()) == "ü"
    assert told(b"\xff\x00") == {"value_base64": "/wA="}


@pytest.mark.parametrize("last", [b"x", b"\xff"])
def test_told_all_tells_each_value_as_told_does(last: bytes) -> None:
    assert told_all(["ü".encode(), None, last]) == ["ü", None, told(last)]


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (rb'"cut \ud83d"', "ud83d"), (rb'"\ude00"', "ude00"), (rb'"\ud83dx\ude00"', "ud83d"),
        (rb'"\ud83d\ud83d\ude00"', "ud83d"), (rb'"\ud83d\ude00"', ""), (rb'"\\ud83d"', ""),
        (b'"plain"', ""),
    ],
)  # fmt: skip
def test_half_pair_names_the_half_that_stands_alone(text: bytes, half: str) -> None:
    assert half in half_pair(text)
    assert bool(half_pair(text)) == bool(half)


def test_stored_bytes_of_half_a_character_says_so() -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        stored_bytes(msgspec.Raw(rb'"cut \ud83d"'))
