"""The replication messages: what is encoded comes back, and what is no message is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.errors import ProtocolViolation
from synap.frame import SET, Entry, encode_frame
from synap.position import START, Position, Reign
from synap.replication.rules import messages
from synap.replication.rules.messages import (
    MAX_HEAD_BYTES,
    MAX_REIGNS,
    AboutMaster,
    Ack,
    Chunk,
    Codec,
    Credit,
    Fetch,
    FetchSnapshot,
    Heartbeat,
    Hello,
    Inquiry,
    Published,
    Refusal,
    SnapshotChunk,
    SnapshotOffer,
    Welcome,
    encode,
    read_frames,
)

HISTORY = bytes(range(16))
LINEAGE = (Reign(1, HISTORY, 1), Reign(3, HISTORY[::-1], 500))
POSITION = Position(3, 612, 0xDEADBEEF)
OFFER = SnapshotOffer(8, LINEAGE, POSITION, 1, 2, 3, 9000, bytes(32), "zstd", 4096)
ABOUT = AboutMaster("0.1.0", 1_700_000_000_000, "disk_full", 3000)
EVERY_KIND = [
    (
        messages.requests,
        Hello("replica-1", POSITION, LINEAGE, "http://r1:15500", False, "r1:15502"),
        b"",
    ),
    (messages.requests, Fetch(7, 100, 200, 4), b""),
    (messages.requests, Inquiry("master"), b""),
    (messages.requests, Credit(7, 1), b""),
    (messages.requests, Ack(612, 3, "in_sync", 1_700_000_000_000), b""),
    (messages.answers, Welcome("master", POSITION, LINEAGE, "http://m:15500"), b""),
    (messages.answers, Refusal("diverged", "other history", 0, 12), b""),
    (messages.answers, Chunk(7, 2, False), b"frames"),
    (messages.requests, FetchSnapshot(8, bytes(32), 4096, 4), b""),
    (messages.answers, OFFER, b""),
    (messages.answers, SnapshotChunk(8, 4096, 77), b"image"),
    (messages.stream, Heartbeat(HISTORY, 3, 612, 1_700_000_000_000, 1000), b""),
    (messages.stream, Heartbeat(HISTORY, 3, 612, 1_700_000_000_000, 1000, (612, 9)), b""),
    (messages.stream, Heartbeat(HISTORY, 3, 612, 1_700_000_000_000, 1000, about=ABOUT), b""),
    (messages.stream, Published(HISTORY), b"frame"),
]
CODECS = [messages.requests, messages.answers, messages.stream]


def frames_of(*values: bytes) -> list:
    frames, position = [], START
    for value in values:
        entries = [Entry(SET, b"key", value)]
        frames.append(encode_frame(entries, previous=position, epoch=1, time_ms=1))
        position = frames[-1].position
    return frames


def head_of(content: object) -> bytes:
    return messages.MAGIC + b"\x01" + msgspec.msgpack.encode(content)


@pytest.mark.parametrize(("codec", "message", "bulk"), EVERY_KIND)
def test_message_of_every_kind_encoded_and_decoded_is_equal(codec, message, bulk):
    assert codec.decode(encode(message, bulk or None)) == (message, bulk)


@pytest.mark.parametrize(("codec", "message", "bulk"), EVERY_KIND)
def test_message_in_a_foreign_direction_is_refused(codec, message, bulk):
    parts = encode(message, bulk or None)
    for other in CODECS:
        if other is not codec:
            with pytest.raises(ProtocolViolation):
                other.decode(parts)


@settings(deadline=None)
@given(parts=st.lists(st.binary(max_size=200), max_size=4), codec=st.sampled_from(CODECS))
def test_garbage_raises_protocol_violation_only(parts: list[bytes], codec: Codec):
    """Cites M1."""
    with pytest.raises(ProtocolViolation):
        codec.decode(parts)


@settings(deadline=None)
@given(
    content=st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=6),
        max_leaves=12,
    ),
    codec=st.sampled_from(CODECS),
    bulk=st.none() | st.binary(max_size=20),
)
def test_any_content_behind_a_sound_prefix_is_a_message_or_a_violation(content, codec, bulk):
    """Cites M1."""
    parts = [head_of(content)] if bulk is None else [head_of(content), bulk]
    try:
        message, _ = codec.decode(parts)
    except ProtocolViolation:
        return
    assert isinstance(message, msgspec.Struct)


@settings(deadline=None)
@given(data=st.data())
def test_half_of_a_message_is_refused(data):
    codec, message, bulk = data.draw(st.sampled_from(EVERY_KIND))
    parts = encode(message, bulk or None)
    cut = data.draw(st.integers(0, len(parts[0]) - 1))
    with pytest.raises(ProtocolViolation):
        codec.decode([parts[0][:cut], *parts[1:]])


def test_message_of_another_version_names_both_versions():
    """Cites M2."""
    head = bytearray(encode(Ack(1, 1, "in_sync"))[0])
    head[4] = 9
    with pytest.raises(ProtocolViolation, match="version 9, this program speaks 1"):
        messages.requests.decode([bytes(head)])


def test_head_over_its_bound_is_refused_before_it_is_decoded():
    """Cites M3."""
    head = head_of([4, 1, 1, "x" * MAX_HEAD_BYTES])
    with pytest.raises(ProtocolViolation, match="bytes"):
        messages.requests.decode([head])


@pytest.mark.parametrize("parts", [0, 3])
def test_message_with_too_few_or_too_many_parts_is_refused(parts):
    """Cites M1."""
    with pytest.raises(ProtocolViolation, match="parts"):
        messages.requests.decode(encode(Ack(1, 1, ""))[:1] * parts)


def test_message_without_the_bulk_of_its_kind_is_refused():
    """Cites M1."""
    with pytest.raises(ProtocolViolation, match="Chunk"):
        messages.answers.decode(encode(Chunk(1, 0, True)))


def test_message_with_bulk_that_its_kind_has_not_is_refused():
    """Cites M1."""
    with pytest.raises(ProtocolViolation, match="Ack"):
        messages.requests.decode([*encode(Ack(1, 1, "")), b""])


def test_appended_field_of_a_later_program_is_skipped():
    """Cites M4."""
    message, _ = messages.requests.decode([head_of([4, 5, 1, "in_sync", 0, "news"])])
    assert message == Ack(5, 1, "in_sync")


def test_message_of_an_earlier_program_tells_nothing_of_versions_and_snapshots():
    """Cites M4."""
    ack, _ = messages.requests.decode([head_of([4, 5, 1, "in_sync"])])
    assert ack == Ack(5, 1, "in_sync", 0)
    beat, _ = messages.stream.decode([head_of([65, HISTORY, 3, 612, 7, 1000])])
    assert beat == Heartbeat(HISTORY, 3, 612, 7, 1000, about=AboutMaster())


@pytest.mark.parametrize(
    "about", [["1\n"], ["v" * 65], ["", -1], ["", 0, "x\u202ey"], ["", 0, "", -1], "text"]
)
def test_heartbeat_that_lies_about_its_master_is_refused(about):
    """Cites M5."""
    with pytest.raises(ProtocolViolation):
        messages.stream.decode([head_of([65, HISTORY, 3, 6, 7, 1000, None, [], 0, 0, 0, about])])


def test_lineage_of_the_most_reigns_fits():
    lineage = tuple(Reign(n, HISTORY, 2**62 + n) for n in range(1, MAX_REIGNS + 1))
    hello = Hello("r", POSITION, lineage)
    assert messages.requests.decode(encode(hello)) == (hello, b"")


@pytest.mark.parametrize(
    ("name", "position", "lineage"),
    [
        ("", POSITION, ()),
        ("r", Position(-1, 0, 0), ()),
        ("r", Position(0, 2**63, 0), ()),
        ("r", Position(0, 0, -1), ()),
        ("r", POSITION, (Reign(1, b"short", 1),)),
        ("r", POSITION, LINEAGE[::-1]),
        ("r", POSITION, (Reign(1, HISTORY, 0),)),
        ("r", POSITION, tuple(Reign(n, HISTORY, n) for n in range(1, MAX_REIGNS + 2))),
    ],
    ids=["name", "epoch", "offset", "rolling", "history", "order", "first offset", "reigns"],
)
def test_hello_with_a_field_out_of_range_is_refused(name, position, lineage):
    """Cites M5."""
    with pytest.raises(ProtocolViolation):
        messages.requests.decode([head_of([1, name, position, lineage])])


def test_read_frames_returns_the_frames_in_order():
    frames = frames_of(b"one", b"", b"three" * 1000)
    assert read_frames(b"".join(frame.encoded for frame in frames)) == frames


@settings(deadline=None)
@given(data=st.data())
def test_read_frames_of_damaged_bytes_raises(data):
    """Cites J7."""
    bulk = bytearray(b"".join(frame.encoded for frame in frames_of(b"one", b"two")))
    at = data.draw(st.integers(0, len(bulk) - 1))
    bulk[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolViolation, match="damaged frame"):
        read_frames(bytes(bulk))


def test_read_frames_of_half_a_frame_raises():
    """Cites J7."""
    bulk = b"".join(frame.encoded for frame in frames_of(b"one", b"two"))
    with pytest.raises(ProtocolViolation, match="damaged frame"):
        read_frames(bulk[:-1])
