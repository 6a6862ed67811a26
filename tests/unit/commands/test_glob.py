"""Patterns for keys, beside a slow reference written from their definition."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.commands.glob import literal_prefix, matches


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        (b"", [b""], [b"a"]),
        (b"*", [b"", b"a", b"\n\xff"], []),
        (b"user:*", [b"user:", b"user:1"], [b"user", b"a user:1"]),
        (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
        (b"h[ae]llo", [b"hallo", b"hello"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo"], [b"hello", b"hllo"]),
        (b"[a-c][c-a]", [b"ac", b"ba"], [b"ad"]),
        (b"\\*\\?\\[", [b"*?["], [b"\\*\\?\\["]),
        (b"[\\]]", [b"]"], [b"\\"]),
        (b"[]x", [], [b"]x", b"x"]),
        (b"[^]x", [b"ax", b"\nx", b"]x"], [b"x"]),
        (b"[^c-a-]", [b"d", b"^"], [b"b", b"-"]),
        (b"[ab", [b"a"], [b"[ab"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"*.txt*", [b".txt", b"a.txt.b"], [b"a.tx"]),
        (b"a.b", [b"a.b"], [b"axb"]),
    ],
)
def test_pattern_accepts_and_refuses(
    pattern: bytes, accepted: list[bytes], refused: list[bytes]
) -> None:
    assert [matches(pattern, key) for key in accepted] == [True] * len(accepted)
    assert [matches(pattern, key) for key in refused] == [False] * len(refused)


@given(
    st.text("ab*?", max_size=8).map(str.encode),
    st.text("ab", max_size=8).map(str.encode),
)
def test_stars_and_marks_match_as_their_definition_says(pattern: bytes, key: bytes) -> None:
    assert matches(pattern, key) is _reference(pattern, key)


def test_pattern_of_many_stars_takes_no_exponential_time() -> None:
    began = time.perf_counter()
    assert not matches(b"*a" * 100 + b"*b", b"a" * 503)
    assert time.perf_counter() - began < 1.0


def test_pattern_of_many_classes_is_compiled_in_little_time() -> None:
    began = time.perf_counter()
    assert matches(b"[^a]" * 300, b"b" * 300)
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [(b"user:*", b"user:"), (b"abc", b"abc"), (b"a[b]c", b"a"), (b"a\\*", b"a"), (b"*", b"")],
)
def test_literal_prefix_is_what_every_match_begins_with(pattern: bytes, prefix: bytes) -> None:
    assert literal_prefix(pattern) == prefix


def _reference(pattern: bytes, key: bytes) -> bool:
    if not pattern:
        return not key
    if pattern[:1] == b"*":
        return any(_reference(pattern[1:], key[at:]) for at in range(len(key) + 1))
    is_met = bool(key) and pattern[:1] in (b"?", key[:1])
    return is_met and _reference(pattern[1:], key[1:])
