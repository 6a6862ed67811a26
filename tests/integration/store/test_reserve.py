"""Writing through LMDB's map: each page has its block before, and a full disk ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from synap.commands.records import NEVER
from synap.errors import DiskFull
from synap.frame import DEL, FLUSH, SET, Entry, encode_frame
from synap.position import START, Position
from synap.store import Applied, Bulk, Store, WriteTransaction, reserve
from synap.store.environment import Environment
from synap.store.generations import DATA_FILE
from tests.disks import ext4_on_loop, small_disk

MAP_BYTES = 1 << 34
DEADLINE_SECONDS = 60
# On a disk of its own: writes, removes and rewrites until the disk has been full many times. Ends
# by a signal where a page had no block.
FILLER = """
import sys
from pathlib import Path
from random import Random
from synap.errors import DiskFull
from synap.position import Position
from synap.store import Applied, Store

random = Random(int(sys.argv[2]))
store = Store.create(Path(sys.argv[1]), 1 << 34)
assert store._environment.reserve is not None
model, offset, full = {}, 0, 0
while full < 40:
    transaction, changed = store.begin(), dict(model)
    try:
        for _ in range(random.choice([1, 5, 300])):
            key = b"%06d" % random.randrange(20_000)
            if random.random() < 0.1:
                transaction.remove(key)
                changed.pop(key, None)
            else:
                value = bytes([offset % 256]) * random.choice([1, 64, 3000, 40_000])
                expiry_ms = random.choice([0, 0, 2**50])
                transaction.put(key, value, expiry_ms)
                changed[key] = value
        transaction.set_applied(Applied(Position(1, offset + 1, 0), 1, 0, 0))
        transaction.commit()
        model, offset = changed, offset + 1
    except DiskFull:
        transaction.abort()
        full += 1
        for start in range(0, 20_000, 400):
            keys = [b"%06d" % each for each in range(start, start + 200)]
            transaction = store.begin()
            try:
                for key in keys:
                    transaction.remove(key)
                transaction.commit()
            except DiskFull:
                transaction.abort()
                break
            for key in keys:
                model.pop(key, None)
reader = store.reader()
assert all(reader.get(b"%06d" % each)[0] is None or model[b"%06d" % each]
           == reader.get(b"%06d" % each)[0].value for each in range(20_000))
assert store.facts().keys == len(model)
store.close(clean=True)
print(offset, "turns")
"""


@contextmanager
def own_disk(kind: str, folder: Path) -> Iterator[Path]:
    if kind == "tmpfs":
        with small_disk(folder / "disk", 48 * 1024 * 1024) as place:
            yield place
    else:
        with ext4_on_loop(folder, 48 * 1024 * 1024) as disk:
            yield disk.place


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_disk_that_is_full_again_and_again_refuses_and_ends_nothing(
    kind: str, tmp_path: Path
) -> None:
    with own_disk(kind, tmp_path) as place:
        done = subprocess.run(
            [sys.executable, "-c", FILLER, str(place / "store"), "1"],
            capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("turns\n")


def change(random: Random, transaction: WriteTransaction) -> None:
    """Make some changes of every kind, few or many."""
    kind = random.randrange(12)
    if kind == 0:
        transaction.clear(0)
    elif kind < 4:
        count = random.choice([2, 50, 3000])
        transaction.put_all([(some_key(random), some_value(random)) for _ in range(count)])
    else:
        for _ in range(random.choice([1, 3, 400])):
            if random.random() < 0.3:
                transaction.remove(some_key(random))
            else:
                expiry_ms = random.choice([NEVER, NEVER, 2**50 + random.randrange(100)])
                transaction.put(some_key(random), some_value(random), expiry_ms)
    transaction.put_account(b"user:" + some_key(random)[:8], b"x" * 100)


def some_key(random: Random) -> bytes:
    return (b"%d" % random.randrange(5000)).ljust(random.choice([6, 20, 480]), b".")


def some_value(random: Random) -> bytes:
    return b"v" * random.choice([0, 10, 100, 2000, 5000, 30_000])


@pytest.mark.parametrize("seed", range(12))
def test_transaction_never_needs_more_than_was_reserved(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "STEP_BYTES", 0)
    random, store = Random(seed), Store.create(tmp_path, MAP_BYTES)
    for turn in range(60):
        transaction = store.begin()
        if turn % 9 == 8:
            transaction.apply_many(bulk(random, store.applied.position))
        else:
            change(random, transaction)
        transaction.set_applied(Applied(Position(1, turn + 1, 0), 1, 0, 0))
        transaction.commit()
        assert holes(store) == 0, f"seed {seed}, turn {turn}"
    store.close(clean=False)


def bulk(random: Random, after: Position) -> Bulk:
    entries = [Entry(FLUSH, b"1")] if random.random() < 0.3 else []
    for _ in range(random.choice([10, 2000])):
        removes = random.random() < 0.3
        entries.append(
            Entry(DEL, some_key(random))
            if removes
            else Entry(SET, some_key(random), some_value(random), random.choice([NEVER, 2**50]))
        )
    return Bulk([encode_frame(entries, previous=after, epoch=1, time_ms=1)])


def holes(store: Store) -> int:
    """Return how many bytes up to the last page have no block."""
    path = store._environment.folder / DATA_FILE
    used = (store._environment.lmdb.info()["last_pgno"] + 1) * 4096
    file = os.open(path, os.O_RDONLY)
    try:
        hole = os.lseek(file, 0, os.SEEK_HOLE)
    finally:
        os.close(file)
    return max(0, used - hole)


def test_clean_stop_leaves_the_file_no_block_that_no_page_uses(tmp_path: Path) -> None:
    store = Store.create(tmp_path, MAP_BYTES)
    before = os.stat(tmp_path / "00000001" / DATA_FILE)
    assert before.st_blocks * 512 >= 1_000_000
    assert store.facts().file_bytes >= 1_000_000
    store.close(clean=True)
    assert os.stat(tmp_path / "00000001" / DATA_FILE).st_size < 100_000
    Store.open(tmp_path, MAP_BYTES).close(clean=True)


def test_long_transaction_gives_back_what_it_did_not_need(tmp_path: Path) -> None:
    store = Store.create(tmp_path, MAP_BYTES)
    for _ in range(2):
        transaction = store.begin()
        transaction.put_all([(b"%06d" % each, b"v" * 1000) for each in range(40_000)])
        transaction.commit()
    store.begin().abort()
    facts = store.facts()
    assert facts.file_bytes < facts.used_bytes * 2 + 3 * reserve.STEP_BYTES
    store.close(clean=False)


def test_store_is_written_page_by_page_where_a_reserve_guarantees_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "_IN_PLACE", frozenset({"vfat"}))
    store = Store.create(tmp_path, MAP_BYTES)
    assert isinstance(store._environment, Environment)
    assert store._environment.reserve is None
    store.close(clean=False)


def test_reserve_without_room_refuses_before_anything_is_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 24 * 1024 * 1024) as place:
        store = Store.create(place / "store", MAP_BYTES)
        transaction = store.begin()
        with pytest.raises(DiskFull):
            transaction.put(b"k", bytes(30_000_000), NEVER)
        transaction.abort()
        assert store.applied.position == START
        store.close(clean=False)
