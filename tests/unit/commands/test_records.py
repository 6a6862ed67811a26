"""The rules by which keys are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.commands.records import (
    MAX_KEY_BYTES,
    NEVER,
    Record,
    check_key,
    is_live,
    slice_range,
    ttl_seconds,
)

NOW = 1_000_000
LATER = NOW + 60_000


def test_check_key_accepts_the_longest_key() -> None:
    check_key(bytes(MAX_KEY_BYTES))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 3, b"This"),
        (-3, -1, b"ing"),
        (0, -1, b"This is a string"),
        (10, 100, b"string"),
        (-100, 3, b"This"),
        (5, 4, b""),
        (-1, -3, b""),
        (16, 20, b""),
        (0, -17, b""),
    ],
)
def test_slice_range_is_inclusive_and_counts_from_both_ends(
    start: int, end: int, expected: bytes
) -> None:
    assert slice_range(b"This is a string", start, end) == expected


@given(st.binary(max_size=6), st.integers(-9, 9), st.integers(-9, 9))
def test_slice_range_gives_the_bytes_whose_place_is_in_the_range(
    value: bytes, start: int, end: int
) -> None:
    size = len(value)
    first = start + size if start < 0 else start
    last = end + size if end < 0 else end
    expected = bytes(byte for place, byte in enumerate(value) if first <= place <= last)
    assert slice_range(value, start, end) == expected


@pytest.mark.parametrize(("left_ms", "seconds"), [(1, 0), (999, 0), (1000, 1), (60_000, 60)])
def test_ttl_is_whole_seconds_rounded_down(left_ms: int, seconds: int) -> None:
    assert ttl_seconds(Record(1, NOW + left_ms, b""), NOW) == seconds


def test_ttl_of_a_key_without_expiry_is_none() -> None:
    assert ttl_seconds(Record(1, NEVER, b""), NOW) is None


def test_key_is_gone_at_its_deadline_and_back_when_the_clock_goes_back() -> None:
    record = Record(1, LATER, b"")
    assert [is_live(record, now) for now in (LATER - 1, LATER, LATER - 1)] == [True, False, True]
