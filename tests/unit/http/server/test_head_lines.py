"""Heads line by line: what is known of a line, what a head comes to, and what is kept."""

from __future__ import annotations

from hashlib import sha256
from itertools import product

import pytest

from synap.http.server.head_lines import (
    BODY_BITS,
    CREDENTIALS,
    HOST,
    JSON_TYPE,
    LENGTH,
    MAX_KEPT_HEADS,
    MAX_KEPT_LINES,
    MAX_KEPT_NAMES,
    MAX_LINES,
    MAX_LINES_OF_NAME,
    SPECIAL,
    HeadLines,
    Rule,
)

_RULES = {
    b"host": Rule.VALUED,
    b"content-type": Rule.VALUED,
    b"x-id": Rule.ASKED,
    b"trace": Rule.PASSED,
    b"key": Rule.SECRET,
    b"aside": Rule.SPECIAL,
}


class Names:
    """An application that knows some headers."""

    def rule(self, name: bytes) -> Rule:
        return _RULES.get(name, Rule.KEPT)

    def number(self, name: bytes, value: bytes) -> int:
        return HOST if name == b"host" else JSON_TYPE

    def __init__(self) -> None:
        self.known = {b"yes"}

    def hidden(self, data: bytes) -> bytes:
        return sha256(data).digest()

    def hidden_number(self, hidden: bytes) -> int:
        is_known = any(hidden == self.hidden(b"key" + value) for value in self.known)
        return CREDENTIALS if is_known else SPECIAL


def tail(*lines: str) -> bytes:
    """Return a head without its method and target."""
    return " HTTP/1.1\r\n{}\r\n\r\n".format("\r\n".join(lines)).encode("latin-1")


def read(heads: HeadLines, *lines: str) -> tuple[int, int]:
    """Return a head's kind, as the sum of its fields, and its body's length."""
    kind, body_bytes = heads.read(tail(*lines))
    return kind << BODY_BITS, body_bytes


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["Host: h"], HOST),
        (["host:h", "Accept: */*", "Connection: Keep-Alive"], HOST),
        (["Host: h", "Host: h"], 2 * HOST),
        (["Host: h", "Content-Length: 0"], HOST + LENGTH),
        (["Host: h", "Content-Type: application/json"], HOST + JSON_TYPE),
        (["Host: h", "Trace: 1", "X-Id: 2"], HOST),
    ],
)
def test_harmless_heads_are_known_by_the_sum_of_their_lines(lines: list[str], number: int) -> None:
    heads = HeadLines(Names())
    assert [read(heads, *lines)[0] for _ in range(3)] == [number] * 3


@pytest.mark.parametrize(
    "line",
    [
        "Aside: 1", "Transfer-Encoding: chunked", "TE: x", "Upgrade: h2c", "Expect: 100-continue",
        "Connection: close", "Proxy-Connection: close", "Content-Length: +1", "Content-Length: 01",
        "Content-Length: 65537", "Content-Length: 1, 1", "Content-Length: 9999999", "no colon", "",
        "A b: c", "A : b", " A: b", "\tA: b", ": b", "A:", "A: ", "A: b ", "A: b\t", "A: \x00",
        "A: b\nC: d", "A: b\rC: d", "A: \x7f", "A: \xe4", "\xe4: b", "Trace: \x00", "X-Id: \n",
        "X-Id:", "(): b",
    ],
)  # fmt: skip
def test_whatever_may_mean_something_else_makes_a_head_special(line: str) -> None:
    heads = HeadLines(Names())
    for _ in range(3):
        assert read(heads, "Host: h", line)[0] >= SPECIAL


def test_length_of_the_body_is_the_one_of_its_line() -> None:
    heads = HeadLines(Names())
    for length in (0, 1, 17, 2048, 2049, 65536):
        assert read(heads, "Host: h", f"Content-Length: {length}")[1] == length


def test_many_lines_of_lengths_overflow_into_no_other_field() -> None:
    heads = HeadLines(Names())
    lines = ["Content-Length: 65536"] * MAX_LINES
    kind, _ = read(heads, *lines)
    assert kind == MAX_LINES * LENGTH
    assert read(heads, *lines, "Host: h")[0] == SPECIAL


def test_values_that_are_asked_for_are_those_of_the_last_head() -> None:
    heads = HeadLines(Names())
    read(heads, "Host: h", "X-Id: 7")
    assert heads.asked == {b"x-id": b"7"}
    read(heads, "Host: h", "x-ID:   8")
    assert heads.asked == {b"x-id": b"8"}
    read(heads, "Host: h")
    assert not heads.asked
    assert read(heads, "X-Id: 1", "X-Id: 1")[0] == SPECIAL


def test_heads_that_vary_are_kept_without_what_varies() -> None:
    heads = HeadLines(Names())
    for number in range(5):
        read(heads, "Host: h", f"Trace: {number}")
        read(heads, "Host: h", f"X-Id: {number}")
        read(heads, "Host: h", f"Key: {number}")
    assert list(heads.by_tail) == [tail("Host: h")]
    assert list(heads) == [b"Host: h"]


@pytest.mark.parametrize(
    "lines",
    [
        ["Trace: 1"], ["Trace: 1", "Host: h"], ["Host: h", "Trace: 1", "trace: 2", "Accept: x"],
        ["Host: h", "Trace: 1 ", "Accept: x"], ["Host: h", "Trace:", "Accept: x"],
        ["Host: h", "Trace: 1", " folded"], ["Host: h", "Trace: 1\rTrace: 2"],
        ["Host: h", "X-Id: 1", "X-Id: 2"], ["Host: h", "X-Id: 1", "Trace: 2", "Key: no"],
        ["Host: h", "Key: yes"], ["Host: h", "Key: yes", "Key: yes"],
        ["Host: h", "Key:yes", "X-Id: 7"],
        ["Host: h"] + ["Trace: 1"] * (MAX_LINES - 1), ["Host: h"] + ["Trace: 1"] * MAX_LINES,
        ["Host: h", "Trace: " + "x" * 4096], ["Host: h", "Aside: 1", "Trace: 1"],
    ],
)  # fmt: skip
def test_lines_that_are_taken_out_say_what_they_say_one_by_one(lines: list[str]) -> None:
    primed, fresh = HeadLines(Names()), HeadLines(Names())
    for known in (["Host: h", "Trace: 1", "X-Id: 1", "Key: yes"], ["Host: h", "Accept: x"], lines):
        read(primed, *known, "trace: 1")
        read(primed, *known)
    assert read(primed, *lines) == read(fresh, *lines)
    assert primed.asked == fresh.asked


def test_secret_that_is_known_no_more_makes_the_same_head_special() -> None:
    names = Names()
    heads = HeadLines(names)
    for _ in range(4):
        kind = read(heads, "Host: h", "Key: yes")[0]
    assert kind == HOST + CREDENTIALS
    names.known.clear()
    assert read(heads, "Host: h", "Key: yes")[0] >= SPECIAL
    names.known.add(b"yes")
    assert read(heads, "Host: h", "Key: yes")[0] == HOST + CREDENTIALS


def test_heads_with_secrets_are_kept_by_what_stands_for_them_alone() -> None:
    names = Names()
    heads = HeadLines(names)
    for number in range(2 * MAX_KEPT_HEADS):
        names.known = {b"%d" % number}
        for _ in range(2):
            heads.read(tail("Host: h", f"Key: {number}"))
    assert 0 < len(heads._by_hidden) <= MAX_KEPT_HEADS
    secrets = (secret for _, secret in heads._by_hidden.values())
    assert not any(b"ey:" in each for each in (*heads, *heads.by_tail, *heads._by_hidden, *secrets))


@pytest.mark.parametrize("other", ["Trace: 1", "X-Id: 7", "Accept: x", "Aside: 1", "Key: yes"])
def test_head_with_a_secret_and_more_is_another_one_than_without(other: str) -> None:
    primed, fresh = HeadLines(Names()), HeadLines(Names())
    for _ in range(4):
        read(primed, "Host: h", "Key: yes")
    for lines in (["Host: h", "Key: yes", other], ["Host: h"], ["Host: h", "Key: no"]):
        assert read(primed, *lines) == read(fresh, *lines)
        assert primed.asked == fresh.asked
        read(primed, "Host: h", "Key: yes")


def test_names_that_are_met_again_after_too_many_of_them_are_known_again() -> None:
    heads = HeadLines(Names())
    for number in range(3 * MAX_KEPT_NAMES):
        heads.read(tail("Host: h", f"X{number}: y", "X-Id: 1", "Key: yes"))
        assert read(heads, "Host: h", "Key: yes", f"X-Id: {number}") == (HOST + CREDENTIALS, 0)
        assert heads.asked == {b"x-id": b"%d" % number}


def test_more_names_than_a_pattern_takes_are_looked_at_line_by_line() -> None:
    heads = HeadLines(Names())
    spellings = [
        "".join(letters) for letters in product(*((letter, letter.upper()) for letter in "trace"))
    ]
    spellings += [
        "".join(letters) for letters in product(*((letter, letter.upper()) for letter in "x-id"))
    ]
    for _ in range(2):
        for spelling in spellings:
            assert read(heads, "Host: h", f"{spelling}: 1") == (HOST, 0)
    assert list(heads.by_tail) == [tail("Host: h")]


@pytest.mark.parametrize(
    ("line", "number", "asked"),
    [("X-Id: 7", HOST, {b"x-id": b"7"}), ("Key: yes", HOST + CREDENTIALS, {})],
)
def test_what_a_head_asks_for_is_told_beside_known_lines_that_are_taken_out(
    line: str, number: int, asked: dict[bytes, bytes]
) -> None:
    heads = HeadLines(Names())
    for at in range(2 * MAX_LINES_OF_NAME):
        read(heads, "Host: h", f"Agent: {at}")
    for letters in product(*((letter, letter.upper()) for letter in "trace")):
        read(heads, "Host: h", f"{''.join(letters)}: 1")
    for _ in range(3):
        # This value is known, and its name is one that is taken out; the other line's is not.
        assert read(heads, "Host: h", "Agent: 0", line) == (number, 0)
        assert heads.asked == asked


def test_name_with_many_values_is_one_whose_values_are_not_kept() -> None:
    heads = HeadLines(Names())
    for number in range(10 * MAX_LINES_OF_NAME):
        assert read(heads, "Host: h", f"Own-Trace: {number}") == (HOST, 0)
    assert len(heads) <= MAX_LINES_OF_NAME + 1


def test_what_is_kept_is_bounded() -> None:
    heads = HeadLines(Names())
    for number in range(2 * MAX_KEPT_LINES):
        read(heads, f"Host: {number}", f"X{number}: y", "Accept: " + "x" * number)
    assert len(heads) <= MAX_KEPT_LINES
    assert len(heads.by_tail) <= MAX_KEPT_HEADS
    assert len(heads._rules) <= MAX_KEPT_NAMES
    assert max(map(len, heads)) <= 256
