"""Silence, back-off, and the buffer that keeps the stream while a gap is filled."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synap.frame import SET, Entry, Frame, encode_frame
from synap.position import START
from synap.replication.rules.progress import (
    MAX_BACK_OFF,
    Missing,
    StreamBuffer,
    is_silent,
    retry_delay_ms,
)

SECOND_NS = 1_000_000_000


def log_of(counts: list[int]) -> list[Frame]:
    """Return frames that follow each other, with so many entries each."""
    frames: list[Frame] = []
    position = START
    for count in counts:
        entries = [Entry(SET, b"key", b"value")] * count
        frames.append(encode_frame(entries, previous=position, epoch=1, time_ms=1))
        position = frames[-1].position
    return frames


def buffer_of(*frames: Frame, limit_bytes: int = 1 << 20) -> StreamBuffer:
    buffer = StreamBuffer(limit_bytes)
    for frame in frames:
        buffer.keep(frame)
    return buffer


def test_is_silent_after_three_heartbeats_only():
    """Cites L1."""
    assert not is_silent(4 * SECOND_NS, SECOND_NS, SECOND_NS)
    assert is_silent(4 * SECOND_NS + 1, SECOND_NS, SECOND_NS)


def test_retry_delay_first_retry_is_at_once():
    """Cites L2."""
    assert retry_delay_ms(0, 5000, 0.9) == 0


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_retry_delay_stays_around_the_delay_and_below_its_bound(attempt: int, random: float):
    """Cites L2."""
    delay = retry_delay_ms(attempt, 1000, random)
    assert 750 <= delay <= 1250 * MAX_BACK_OFF


def test_retry_delay_doubles():
    assert [retry_delay_ms(n, 1000, 0.5) for n in range(1, 6)] == [1000, 2000, 4000, 8000, 8000]


def test_stream_buffer_gives_the_frames_that_follow():
    one, two, three = log_of([2, 3, 1])
    assert buffer_of(one, two, three).take(2, 1 << 20) == [two, three]


def test_stream_buffer_gives_nothing_over_a_gap():
    one, _, three = log_of([2, 3, 1])
    buffer = buffer_of(three)
    assert buffer.take(one.last_offset, 1 << 20) == []
    assert buffer.missing(2, 6) == Missing(2, 5)


def test_stream_buffer_bounds_what_it_gives_and_gives_at_least_one():
    frames = log_of([1, 1, 1])
    buffer = buffer_of(*frames)
    assert buffer.take(0, 1) == frames[:1]
    assert buffer.take(1, len(frames[1].encoded) * 2) == frames[1:]


def test_stream_buffer_misses_nothing_where_the_next_frame_is_kept():
    one, two = log_of([1, 1])
    assert buffer_of(one, two).missing(0, 2) is None


def test_stream_buffer_misses_what_only_a_heartbeat_told_of():
    """Cites J6."""
    assert buffer_of().missing(4, 9) == Missing(4, 9)


def test_stream_buffer_misses_nothing_at_the_end():
    assert buffer_of().missing(9, 9) is None


def test_stream_buffer_drops_a_frame_that_is_half_applied():
    """It is of another log: its border is not where this one's is."""
    (frame,) = log_of([5])
    buffer = buffer_of(frame)
    assert buffer.take(3, 1 << 20) == []
    assert buffer.missing(3, 5) == Missing(3, 5)


def test_stream_buffer_prefers_the_newer_reign_at_one_offset():
    entries = [Entry(SET, b"key", b"value")]
    old = encode_frame(entries, previous=START, epoch=1, time_ms=1)
    new = encode_frame(entries, previous=START, epoch=2, time_ms=1)
    assert buffer_of(old, new).take(0, 1 << 20) == [new]
    assert buffer_of(new, old).take(0, 1 << 20) == [new]


def test_stream_buffer_that_is_full_keeps_the_frames_that_are_needed_first():
    frames = log_of([1] * 5)
    buffer = buffer_of(*frames, limit_bytes=2 * len(frames[0].encoded))
    assert buffer.take(0, 1 << 20) == frames[:2]


def test_stream_buffer_that_is_empty_keeps_a_frame_over_its_limit():
    (frame,) = log_of([1])
    assert buffer_of(frame, limit_bytes=1).take(0, 1) == [frame]


@pytest.mark.parametrize("limit_frames", [1, 3, 1000])
@settings(deadline=None)
@given(data=st.data())
def test_stream_under_loss_reorder_and_duplication_is_applied_exactly_once_in_order(
    limit_frames, data
):
    """Cites J5 and J6: what the stream brings is joined to what is fetched, without a gap."""
    frames = log_of(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=25)))
    by_start = {frame.first_offset: frame for frame in frames}
    sent = data.draw(st.lists(st.sampled_from(frames), max_size=60))
    last_offset = frames[-1].last_offset
    buffer = StreamBuffer(limit_frames * len(frames[0].encoded))
    applied: list[Frame] = []
    offset = 0

    def apply(batch: list[Frame]) -> None:
        nonlocal offset
        applied.extend(batch)
        offset = batch[-1].last_offset if batch else offset

    for frame in sent:
        if frame.last_offset > offset:
            buffer.keep(frame)
        if data.draw(st.booleans()):
            apply(buffer.take(offset, data.draw(st.integers(1, 500))))
    while offset < last_offset:
        apply(buffer.take(offset, 1 << 20))
        missing = buffer.missing(offset, last_offset)
        while missing is not None and offset < missing.until_offset:
            apply([by_start[offset + 1]])
    assert applied == frames
