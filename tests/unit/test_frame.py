"""The frame's codec: what goes in comes out, and nothing damaged passes."""

from __future__ import annotations

import os
import struct
from zlib import crc32

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.errors import FrameCorrupt, FrameTruncated
from synap.frame import (
    ACCOUNTS,
    DEL,
    FLUSH,
    HEADER_BYTES,
    KEYS,
    MARK,
    REQUESTS,
    SET,
    Cause,
    Effect,
    Entry,
    Frame,
    as_entry,
    decode_frame,
    encode_frame,
    entry_at,
    follows,
    frame_bytes,
)
from synap.position import START, Position

U64 = st.integers(0, 2**64 - 1)
SPACES = st.sampled_from([KEYS, ACCOUNTS, REQUESTS])
KEY = st.binary(min_size=1, max_size=503)
FIELDS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=4).map(tuple)
ENTRIES = st.lists(
    st.one_of(
        st.builds(Entry, st.just(SET), KEY, st.binary(max_size=2000), U64, SPACES),
        st.builds(Entry, st.just(SET), KEY, st.binary(max_size=20), U64, SPACES, fields=FIELDS),
        st.builds(Entry, st.just(DEL), KEY, space=SPACES, cause=st.sampled_from(Cause)),
        st.builds(Entry, st.just(DEL), KEY, space=SPACES, fields=FIELDS),
        st.builds(Entry, st.just(FLUSH), st.binary(max_size=503), space=SPACES),
        st.just(Entry(MARK)),
    ),
    min_size=1,
    max_size=20,
)
POSITIONS = st.builds(Position, st.integers(0, 2**63), st.integers(0, 2**63), U64)

SMALL = (Entry(SET, b"k", b"value", 1_700_000_000_000), Entry(DEL, b"gone"))


EFFECTS = st.lists(
    st.one_of(
        st.tuples(KEY, st.binary(max_size=200)),
        st.builds(Entry, st.just(SET), KEY, st.binary(max_size=20), U64, SPACES, fields=FIELDS),
        st.builds(Entry, st.just(DEL), KEY, cause=st.sampled_from(Cause)),
    ),
    min_size=1,
    max_size=20,
)


def small_frame(previous: Position = START, epoch: int = 1) -> Frame:
    return encode_frame(SMALL, previous=previous, epoch=epoch, time_ms=1_700_000_000_000)


def with_header_field(frame: Frame, layout: str, at: int, value: int) -> bytes:
    """Return the frame's bytes with one header field changed and the header's CRC right again."""
    data = bytearray(frame.encoded)
    struct.pack_into(layout, data, at, value)
    struct.pack_into("<I", data, 52, crc32(data[:52]))
    return bytes(data)


@settings(deadline=None)
@given(ENTRIES, POSITIONS, st.integers(0, 1000), U64)
def test_frame_encoded_decodes_to_the_same(
    entries: list[Entry], previous: Position, reigns: int, time_ms: int
) -> None:
    epoch = previous.epoch + reigns
    frame = encode_frame(entries, previous=previous, epoch=epoch, time_ms=time_ms)
    decoded = decode_frame(frame.encoded)
    assert decoded == frame
    assert list(decoded.entries()) == entries
    assert (decoded.epoch, decoded.time_ms) == (epoch, time_ms)
    assert (decoded.first_offset, decoded.count) == (previous.offset + 1, len(entries))


@settings(deadline=None)
@given(ENTRIES)
def test_frame_compressed_holds_the_same_entries(entries: list[Entry]) -> None:
    entries = [*entries, Entry(SET, b"long", b"again " * 2000)]
    plain = encode_frame(entries, previous=START, epoch=1, time_ms=0)
    frame = encode_frame(entries, previous=START, epoch=1, time_ms=0, compress_over=4096)
    assert len(frame.encoded) < len(plain.encoded)
    assert list(decode_frame(frame.encoded).entries()) == entries
    assert follows(frame, START)


@given(effects=EFFECTS, previous=POSITIONS)
def test_frame_of_pairs_is_that_of_the_entries_that_they_stand_for(
    effects: list[Effect], previous: Position
) -> None:
    frames = [
        encode_frame(each, previous=previous, epoch=7, time_ms=1)
        for each in (effects, map(as_entry, effects))
    ]
    assert frames[0] == frames[1]


def test_frame_that_compression_makes_no_smaller_is_written_as_it_is() -> None:
    entry = Entry(SET, b"k", os.urandom(8192))
    frame = encode_frame([entry], previous=START, epoch=1, time_ms=0, compress_over=4096)
    assert not frame.is_compressed


@pytest.mark.parametrize(
    "payload",
    [
        b"no zstd",
        zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 20),
        zstandard.compress(bytes(16))[:-2],
    ],
    ids=["not zstd", "unknown size", "cut short"],
)
def test_compressed_payload_that_is_none_is_refused(payload: bytes) -> None:
    whole = encode_frame(
        [Entry(SET, b"k", bytes(8192))], previous=START, epoch=1, time_ms=0, compress_over=0
    )
    frame = msgspec.structs.replace(whole, encoded=whole.encoded[:HEADER_BYTES] + payload)
    with pytest.raises(FrameCorrupt):
        list(frame.entries())


@pytest.mark.parametrize("length", range(1, 8))
def test_entry_whose_fields_are_cut_short_is_refused(length: int) -> None:
    entry = Entry(SET, b"k", b"v", fields=((1, b"abc"),))
    payload = encode_frame([entry], previous=START, epoch=1, time_ms=0).payload
    with pytest.raises(FrameCorrupt):
        entry_at(payload[:-length], 0)


@settings(deadline=None)
@given(ENTRIES, st.binary(max_size=100), st.binary(max_size=100))
def test_frame_inside_a_buffer_decodes_alone(
    entries: list[Entry], before: bytes, behind: bytes
) -> None:
    frame = encode_frame(entries, previous=START, epoch=1, time_ms=0)
    buffer = memoryview(before + frame.encoded + behind)
    assert decode_frame(buffer, len(before)) == frame
    assert frame_bytes(buffer, len(before)) == len(frame.encoded)


def test_frame_any_flipped_bit_is_refused() -> None:
    encoded = small_frame().encoded
    for bit in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameCorrupt):
            decode_frame(bytes(damaged))


@settings(deadline=None, max_examples=200)
@given(ENTRIES, st.data())
def test_frame_of_any_entries_flipped_bit_is_refused(
    entries: list[Entry], data: st.DataObject
) -> None:
    damaged = bytearray(encode_frame(entries, previous=START, epoch=1, time_ms=0).encoded)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FrameCorrupt):
        decode_frame(bytes(damaged))


def test_frame_any_truncation_is_truncated() -> None:
    encoded = small_frame().encoded
    for length in range(len(encoded)):
        with pytest.raises(FrameTruncated):
            decode_frame(encoded[:length])


def test_frame_bytes_without_payload_needs_the_header_alone() -> None:
    frame = small_frame()
    assert frame_bytes(frame.encoded[:HEADER_BYTES]) == len(frame.encoded)
    with pytest.raises(FrameTruncated):
        frame_bytes(frame.encoded[: HEADER_BYTES - 1])


@pytest.mark.parametrize(
    ("layout", "at", "value"),
    [("<B", 4, 3), ("<B", 5, 2), ("<H", 6, 57), ("<I", 24, 0), ("<I", 28, 1 << 29)],
    ids=["version", "flags", "header length", "no entries", "payload too long"],
)
def test_frame_unknown_header_with_right_crc_is_refused(layout: str, at: int, value: int) -> None:
    with pytest.raises(FrameCorrupt):
        decode_frame(with_header_field(small_frame(), layout, at, value))


@pytest.mark.parametrize("count", [1, 3], ids=["fewer", "more"])
def test_entries_with_another_count_than_the_payload_are_refused(count: int) -> None:
    frame = decode_frame(with_header_field(small_frame(), "<I", 24, count))
    with pytest.raises(FrameCorrupt):
        list(frame.entries())


@pytest.mark.parametrize(("at", "value"), [(0, 9), (1, 7)], ids=["operation", "space"])
def test_entries_of_an_unknown_kind_are_refused(at: int, value: int) -> None:
    frame = small_frame()
    data = bytearray(frame.encoded)
    data[HEADER_BYTES + at] = value
    header = (frame.epoch, frame.first_offset, frame.count, frame.time_ms, frame.rolling)
    with pytest.raises(FrameCorrupt):
        list(Frame(*header, bytes(data)).entries())


def test_frame_follows_the_position_it_was_encoded_behind() -> None:
    first = small_frame()
    second = small_frame(first.position, epoch=2)
    assert follows(first, START)
    assert follows(second, first.position)
    assert second.position == Position(2, 4, second.rolling)


@pytest.mark.parametrize(
    "previous",
    [START, Position(1, 2, 12345), Position(1, 3, 0)],
    ids=["beginning", "other rolling checksum", "other offset"],
)
def test_frame_behind_another_position_does_not_follow(previous: Position) -> None:
    assert not follows(small_frame(small_frame().position), previous)


def test_frame_of_an_earlier_epoch_does_not_follow() -> None:
    previous = small_frame(epoch=5).position
    assert not follows(small_frame(previous, epoch=4), previous)


def test_rolling_checksum_tells_one_changed_payload_byte_ever_after() -> None:
    ours = small_frame()
    theirs = encode_frame(
        [Entry(SET, b"k", b"valuf", 1_700_000_000_000), SMALL[1]],
        previous=START,
        epoch=1,
        time_ms=1_700_000_000_000,
    )
    for _ in range(3):
        ours, theirs = small_frame(ours.position), small_frame(theirs.position)
        assert ours.rolling != theirs.rolling


@given(ENTRIES)
def test_plain_pairs_are_the_entries_where_all_of_them_set_users_keys_for_good(
    entries: list[Entry],
) -> None:
    frame = encode_frame(entries, previous=START, epoch=1, time_ms=1)
    plain = [Entry(SET, entry.key, entry.value) for entry in entries]
    pairs = [(entry.key, entry.value) for entry in entries]
    assert frame.plain_pairs() == (pairs if plain == entries else None)
    made_plain = encode_frame(plain, previous=START, epoch=1, time_ms=1, compress_over=100)
    assert made_plain.plain_pairs() == pairs


@pytest.mark.parametrize("count", [1, 3])
def test_plain_pairs_of_another_count_than_the_payload_are_none(count: int) -> None:
    sets = [Entry(SET, b"a", b"1"), Entry(SET, b"b", b"2")]
    frame = encode_frame(sets, previous=START, epoch=1, time_ms=1)
    assert msgspec.structs.replace(frame, count=count).plain_pairs() is None
