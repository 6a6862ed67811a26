"""Many frames at once lead to the same store as their entries one by one."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from synap.errors import FrameCorrupt
from synap.frame import (
    ACCOUNTS,
    DEL,
    FLUSH,
    HEADER_BYTES,
    KEYS,
    MARK,
    SET,
    Entry,
    Frame,
    encode_frame,
)
from synap.position import START
from synap.store import Applied, Bulk, Store

MAP_BYTES = 64 * 1024 * 1024
END_OF_TIME = 2**62

# Each is one log; Hypothesis would take many times as long to make as many.
_SEEDS = range(120)


def random_log(random: Random, most_frames: int) -> list[list[Entry]]:
    """Return the entries of a log's frames: few keys, so that the same come again and again."""

    def entry() -> Entry:
        key = random.randbytes(random.randint(1, 2)) + bytes([random.randrange(2)])
        space = random.choice([KEYS, KEYS, KEYS, ACCOUNTS])
        kind = random.randrange(40)
        if kind == 0:
            return Entry(FLUSH, random.choice([b"", b"", key[:1]]), space=space)
        if kind < 12:
            return Entry(DEL, key, space=space)
        if kind == 12:
            return Entry(MARK)
        expiry_ms = random.choice([0, 0, 1000, 1001, 2**40])
        fields = random.choice([(), (), ((1, key),)])
        return Entry(SET, key, b"v" * kind, expiry_ms, space, fields=fields)

    lengths = [random.randint(1, 30) for _ in range(random.randint(1, most_frames))]
    pool = [entry() for _ in range(40)]
    return [[random.choice([random.choice(pool), entry()]) for _ in range(n)] for n in lengths]


def frames_of(batches: Sequence[Sequence[Entry]]) -> list[Frame]:
    """Return one frame for each batch."""
    frames, position = [], START
    for number, batch in enumerate(batches):
        compress_over = 0 if number % 3 == 0 else None
        frames.append(
            encode_frame(batch, previous=position, epoch=1, time_ms=1, compress_over=compress_over)
        )
        position = frames[-1].position
    return frames


@contextmanager
def two_stores() -> Iterator[tuple[Store, Store]]:
    with tempfile.TemporaryDirectory() as folder:
        one = Store.create(Path(folder) / "one", MAP_BYTES)
        other = Store.create(Path(folder) / "other", MAP_BYTES)
        try:
            yield one, other
        finally:
            one.close(clean=False)
            other.close(clean=False)


def apply_each(store: Store, frames: Sequence[Frame]) -> None:
    transaction = store.begin()
    for frame in frames:
        transaction.apply(frame.entries(), frame.first_offset)
    if frames:
        transaction.set_applied(Applied(frames[-1].position, 0, 0, 1))
    transaction.commit()


def apply_at_once(store: Store, bulk: Bulk) -> None:
    assert bulk.last is not None
    transaction = store.begin()
    transaction.apply_many(bulk)
    transaction.set_applied(Applied(bulk.last.position, 0, 0, 1))
    transaction.commit()


def holds(store: Store) -> tuple[object, ...]:
    """Return all that can be told of what a store holds."""
    facts = store.facts()
    return (
        store.applied, store.reader().digest(), store.due(END_OF_TIME, 10_000),
        facts.keys, facts.expiring,
    )  # fmt: skip


def test_many_frames_lead_to_what_their_entries_lead_to() -> None:
    with two_stores() as (one, other):
        for seed in _SEEDS:
            random = Random(seed)
            before, after = random_log(random, 3), random_log(random, 8)
            frames = frames_of(before + after)
            for store in (one, other):
                apply_each(store, frames_of([[Entry(FLUSH), Entry(FLUSH, space=ACCOUNTS)]]))
                apply_each(store, frames[: len(before)] if seed % 4 else [])
            rest = frames[len(before) if seed % 4 else 0 :]
            apply_each(one, rest)
            apply_at_once(other, Bulk(rest, random.randint(1, 20)))
            assert holds(other) == holds(one), f"seed {seed}"


def test_many_frames_of_many_keys_lead_to_what_their_entries_lead_to() -> None:
    keys = [b"key:%d" % (number * 7919 % 20_011) for number in range(20_000)]
    sets = [Entry(SET, key, b"v" * (number % 90), number % 3) for number, key in enumerate(keys)]
    batches = [sets[at : at + 50] for at in range(0, len(sets), 50)]
    batches.append([Entry(DEL, key) for key in keys[::3]])
    frames = frames_of(batches)
    with two_stores() as (one, other):
        apply_each(one, frames)
        apply_at_once(other, Bulk(frames[:250], 4096))
        apply_at_once(other, Bulk(frames[250:], 4096))
        assert holds(other) == holds(one)


def test_many_frames_into_an_empty_store_fill_its_pages() -> None:
    keys = [b"key:%05d" % (number * 7919 % 10_000) for number in range(10_000)]
    frames = frames_of([[Entry(SET, key, b"v" * 64)] for key in keys])
    with two_stores() as (one, other):
        apply_each(one, frames)
        apply_at_once(other, Bulk(frames, 4096))
        assert other.facts().used_bytes < 0.8 * one.facts().used_bytes


def damaged(frame: Frame, at: int, byte: int) -> Frame:
    """Return a frame with another byte at `at` behind its header, as if it had been written so."""
    encoded = bytearray(frame.encoded)
    encoded[HEADER_BYTES + at] = byte
    return Frame(
        frame.epoch, frame.first_offset, frame.count, frame.time_ms, frame.rolling, bytes(encoded)
    )


@pytest.mark.parametrize(
    ("at", "byte"),
    [(0, 9), (1, 9), (2, 1), (2, 3), (3, 255), (4, 1), (4, 3), (6, 255)],
    ids=[
        "operation", "space", "short key", "long key", "key beyond", "short value", "long value",
        "value beyond",
    ],
)  # fmt: skip
def test_malformed_frame_changes_nothing(at: int, byte: int) -> None:
    first, second, third = frames_of([[Entry(SET, b"kk", b"vv")]] * 3)
    with two_stores() as (store, _):
        apply_each(store, [first])
        before = holds(store)
        transaction = store.begin()
        with pytest.raises(FrameCorrupt):
            transaction.apply_many(Bulk([damaged(second, at, byte), third]))
        transaction.abort()
        assert holds(store) == before
