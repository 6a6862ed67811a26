"""The local channel's codec: any cut of the stream gives the same messages."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.commands.keys import Delete, SetMany
from synap.commands.strings import Increment, Set, SetResult
from synap.commands.transactions import Executed, Queue, Queued, Watch
from synap.errors import OffsetNotRetained, ProtocolViolation, SynapError
from synap.ipc.messages import Answer, Decoder, Request, encode, error_of, failure
from synap.request_errors import KeyNotFound

REQUESTS = [
    Request(1, Set(b"a", b"\x00\xff", expiry_ms=5, nx=True)),
    Request(2, Delete((b"a", b"b"))),
    Request(3, Increment(b"n", -7)),
    Request(4, SetMany(((b"a", b"1"), (b"b", b"2")), nx=True)),
    Request(5, Queue("c", Delete((b"a",)))),
    Request(6, Watch("c", (b"a", b"b"))),
]
ANSWERS = [
    Answer(1, 10, SetResult(True, 10, b"old")),
    Answer(2, 11, 2),
    Answer(3, 12, True),
    Answer(4, 13, b"bytes"),
    Answer(4, 13, Queued()),
    Answer(4, 13, Executed((("ok", 1), ("value", -5)))),
    Answer(4, 13, Executed(None)),
    Answer(5, 13, None, "KeyNotFound", "Key not found: x"),
]


@given(st.lists(st.integers(0, 400), max_size=6))
def test_decoder_any_cut_gives_the_same_messages(cuts: list[int]) -> None:
    stream = encode(REQUESTS[:2]) + encode(REQUESTS[2:])
    decoder = Decoder(Request)
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    got = [message for start, end in pairwise(edges) for message in decoder.feed(stream[start:end])]
    assert got == REQUESTS


def test_decoder_answers_keep_the_types_of_results() -> None:
    got = Decoder(Answer).feed(encode(ANSWERS))
    assert got == ANSWERS
    assert type(got[0].result) is SetResult
    assert got[2].result is True


def test_decoder_foreign_bytes_are_refused() -> None:
    with pytest.raises(ProtocolViolation):
        Decoder(Request).feed(b"\x03\x00\x00\x00abc")


def test_decoder_monstrous_length_is_refused_before_it_is_awaited() -> None:
    with pytest.raises(ProtocolViolation):
        Decoder(Request).feed(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "error", [KeyNotFound("Key not found: x"), OffsetNotRetained(3, 9), SynapError("odd")]
)
def test_error_crosses_the_channel_with_class_and_message(error: SynapError) -> None:
    (answer,) = Decoder(Answer).feed(encode([failure(7, 3, error)]))
    got = error_of(answer)
    assert type(got) is type(error)
    assert str(got) == str(error)
