"""The store's room with a real LMDB: sizes, fair samples, tidying that nobody sees."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from synap.store import KeySize, Room, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path, 1 << 30)
    yield store
    store.close(clean=False)


def fill(store: Store, keys: list[bytes], value: bytes = b"v" * 60, expiry_ms: int = 0) -> None:
    transaction = store.begin()
    for key in keys:
        transaction.put(key, value, expiry_ms)
    transaction.commit()


def remove(store: Store, keys: list[bytes]) -> None:
    transaction = store.begin()
    for key in keys:
        transaction.remove(key)
    transaction.commit()


def test_size_is_what_the_facts_say(store: Store) -> None:
    room = store.room(Random(1))
    fill(store, [b"%06d" % number for number in range(5000)])
    fill(store, [b"ttl%d" % number for number in range(500)], b"v" * 5000, expiry_ms=10**13)
    size, facts = room.size(), store.facts()
    assert (size.used_bytes, size.keys) == (facts.used_bytes, facts.keys)
    assert 5500 * 50 < size.leaf_bytes < size.used_bytes


def test_weigh_counts_own_pages_and_the_deadline(store: Store) -> None:
    fill(store, [b"small"])
    fill(store, [b"large"], b"v" * 10_000)
    fill(store, [b"short"], expiry_ms=10**13)
    sizes = {size.key: size.stored_bytes for size in weighed(store, b"small large short none")}
    assert sizes[b"large"] > 3 * 4096
    assert sizes[b"short"] == sizes[b"small"] + 10 + 8 + 5
    assert set(sizes) == {b"small", b"large", b"short"}


@pytest.mark.parametrize("value_bytes", [1, 1900, 2000, 2010, 2020, 2100, 4080, 5000])
@pytest.mark.parametrize("expiry_ms", [0, 10**13])
def test_reader_sizes_a_key_as_the_room_weighs_it(
    store: Store, value_bytes: int, expiry_ms: int
) -> None:
    fill(store, [b"key"], b"v" * value_bytes, expiry_ms)
    reader = store.reader()
    record, _ = reader.get(b"key")
    assert record is not None
    assert [reader.size_of(b"key", record)] == weighed(store, b"key")


def weighed(store: Store, keys: bytes) -> list[KeySize]:
    return store.room(Random(1)).weigh(keys.split())


def test_sample_visits_every_key_alike(store: Store) -> None:
    """A key in a branch of its own comes up no more often than one among many."""
    crowd = [b"user:%04d" % number for number in range(1600)]
    fill(store, [*crowd, b"zzz", b"\x01"])
    room = store.room(Random(7))
    runs = room.sample(1602 * 30 // 5, volatile=False)
    visits = Counter(key for run in runs for key in run)
    assert len(visits) == 1602
    assert max(visits.values()) <= 1.5 * 30
    assert min(visits.values()) >= 30 / 1.5


def test_sample_of_volatile_keys_has_no_others(store: Store) -> None:
    fill(store, [b"stays%d" % number for number in range(300)])
    fill(store, [b"goes%d" % number for number in range(300)], expiry_ms=10**13)
    room = store.room(Random(1))
    seen = {key for run in room.sample(1000, volatile=True) for key in run}
    assert len(seen) == 300
    assert all(key.startswith(b"goes") for key in seen)


def test_sample_hands_that_meet_part_again(store: Store) -> None:
    keys = [b"%05d" % number for number in range(20_000)]
    fill(store, keys)
    room = store.room(Random(3))
    room.sample(64, volatile=False)
    remove(store, keys[:10_000])
    firsts = [run[0] for run in room.sample(64, volatile=False)[-16:]]
    assert len(set(firsts)) == 16


def test_sample_of_an_empty_store_is_empty(store: Store) -> None:
    room = store.room(Random(1))
    assert room.sample(2, volatile=False) == [[], []]
    assert room.soonest(5) == []
    assert room.tidy() == (0, True)


def test_soonest_are_the_next_to_expire(store: Store) -> None:
    for number in (5, 2, 9, 1):
        fill(store, [b"%d" % number], expiry_ms=10**13 + number)
    assert store.room(Random(1)).soonest(3) == [b"1", b"2", b"5"]


def test_tidy_frees_pages_and_changes_nothing_else(store: Store) -> None:
    keys = [b"%06d" % number for number in range(20_000)]
    fill(store, keys)
    fill(store, [b"large%d" % number for number in range(20)], b"v" * 9000)
    Random(1).shuffle(keys)
    remove(store, keys[:12_000])
    room = store.room(Random(1))
    before, digest = room.size(), store.reader().digest()
    freed = tidy_round(room)
    after = room.size()
    assert freed == before.used_bytes - after.used_bytes
    # The pages were full before, and two fifths of the keys are left.
    assert after.leaf_bytes < before.leaf_bytes * 0.75
    tidy_round(room)
    assert room.size().leaf_bytes < before.leaf_bytes * 0.55
    assert store.reader().digest() == digest


def tidy_round(room: Room) -> int:
    freed, is_over = room.tidy()
    while not is_over:
        more, is_over = room.tidy()
        freed += more
    return freed
