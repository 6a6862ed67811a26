"""A record whose bytes are not what was stored is never given out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import lmdb
import pytest

from synap.commands.records import Record
from synap.frame import ACCOUNTS, Entry
from synap.request_errors import RecordCorrupt
from synap.store import Store, StoreReader, digest_image
from synap.store.layout import decode_record, encode_record

MAP_BYTES = 1 << 24
VALUE = b"value " * 5
READS: dict[str, Callable[[StoreReader], object]] = {
    "get": lambda reader: reader.get(b"key"),
    "get_many": lambda reader: reader.get_many([b"other", b"key"], 1000),
    "random_key": lambda reader: [reader.random_key(1000) for _ in range(64)],
    "digest": lambda reader: reader.digest(),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path / "store", MAP_BYTES)
    transaction = store.begin()
    transaction.put(b"key", VALUE, 0)
    transaction.put(b"other", b"sound", 0)
    transaction.apply([Entry(1, b"user", b"{}", space=ACCOUNTS)], 3)
    transaction.commit()
    yield store
    store.close(clean=True)


def stored_raw(store: Store, key: bytes, database: str, raw: bytes | None = None) -> bytes:
    """Return what LMDB holds for a key; with `raw`, put that there first, past all of Synap."""
    environment = store._environment
    with environment.lmdb.begin(write=True) as transaction:
        handle = getattr(environment, database)
        if raw is not None:
            transaction.put(key, raw, db=handle)
        return bytes(transaction.get(key, db=handle))


def flip(store: Store, key: bytes, at: int, database: str = "keys") -> None:
    raw = bytearray(stored_raw(store, key, database))
    raw[at] ^= 0x10
    stored_raw(store, key, database, bytes(raw))


RECORD_LENGTH = len(encode_record(b"key", 1, 0, VALUE))


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("at", range(RECORD_LENGTH))
def test_flipped_bit_is_seen_by_every_read(
    store: Store, read: Callable[[StoreReader], object], at: int
) -> None:
    flip(store, b"key", at)
    with pytest.raises(RecordCorrupt, match="key 'key'"):
        read(store.reader())


def test_record_of_another_key_is_seen(store: Store) -> None:
    stored_raw(store, b"key", "keys", stored_raw(store, b"other", "keys"))
    with pytest.raises(RecordCorrupt):
        store.reader().get(b"key")
    assert store.reader().get(b"other")[0] is not None


@pytest.mark.parametrize("length", range(20))
def test_record_that_is_too_short_is_seen(store: Store, length: int) -> None:
    stored_raw(store, b"key", "keys", bytes(length))
    with pytest.raises(RecordCorrupt):
        store.reader().get(b"key")


def test_command_does_not_build_on_a_damaged_record_but_may_replace_it(store: Store) -> None:
    flip(store, b"key", 25)
    transaction = store.begin()
    with pytest.raises(RecordCorrupt):
        transaction.get(b"key")
    transaction.put(b"key", b"whole again", 0)
    transaction.commit()
    record, _ = store.reader().get(b"key")
    assert record is not None
    assert record.value == b"whole again"


def test_flipped_bit_of_an_account_is_seen(store: Store) -> None:
    flip(store, b"user", 20, "accounts")
    with pytest.raises(RecordCorrupt):
        store.reader().get_accounts([b"user"])
    with pytest.raises(RecordCorrupt):
        store.reader().list_accounts(b"")


def test_flipped_bit_goes_into_no_image_unseen(store: Store, tmp_path: Path) -> None:
    flip(store, b"key", 25)
    image = tmp_path / "image"
    with image.open("wb") as file:
        store.reader().copy_to(file.fileno())
    with pytest.raises(RecordCorrupt):
        digest_image(image)


def test_lmdb_finds_nothing_wrong_with_it(store: Store) -> None:
    """What is found here, nobody else finds: LMDB's pages have no checksums."""
    flip(store, b"key", 25)
    with store._environment.lmdb.begin() as transaction:
        assert isinstance(transaction, lmdb.Transaction)
        assert transaction.get(b"key", db=store._environment.keys) is not None


@pytest.mark.parametrize("length", [0, 1, 4096, 4097, 100_000])
def test_record_is_its_checksum_and_what_that_covers(length: int) -> None:
    value = bytes(length)
    raw = encode_record(b"key", 7, 9, value)
    rest = struct.pack("<QQ", 7, 9) + value
    assert raw == struct.pack("<I", crc32(b"key" + rest)) + rest
    assert decode_record(b"key", raw) == Record(7, 9, value)
