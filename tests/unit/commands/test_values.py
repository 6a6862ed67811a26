"""The one rule from JSON to stored bytes and back."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.commands.values import byte_list, readable, readable_all, stored_bytes
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


@pytest.mark.parametrize("last", [b"x", b"\xff"])
def test_readable_all_reads_each_value_as_readable_does(last: bytes) -> None:
    values = ["ü".encode(), None, last]
    assert readable_all(values) == ["ü", None, readable(last)]
