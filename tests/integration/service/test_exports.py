"""An export on a store: its time, its end, and what it gives back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synap.errors import ExportTooLong
from synap.place import NO_REIGNS
from synap.request_errors import RecordCorrupt
from synap.service.exports import Export
from synap.store import Store

VALUE = b"v" * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.prepare(tmp_path / "store", 64 * 1024 * 1024)
    yield store
    store.close(clean=False)


def put(store: Store, keys: int, value: bytes = VALUE) -> None:
    transaction = store.begin()
    for number in range(keys):
        transaction.put(b"k%05d" % number, value, 0)
    transaction.commit()


def begun(store: Store, tmp_path: Path, *, seconds: float = 60.0) -> tuple[Export, list[Any]]:
    """Return an export, and a list that gets something when it is closed."""
    closed: list[Any] = []
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    walk = store.reader().walk_records(b"", 1)
    export = Export(
        walk, NO_REIGNS, b"", lock=lock, seconds=seconds, on_close=lambda: closed.append(lock)
    )
    return export, closed


def test_chunks_are_small_and_all_of_one_state(store: Store, tmp_path: Path) -> None:
    put(store, 1000)
    export, closed = begun(store, tmp_path)
    chunks = [export.next_chunk()]
    put(store, 2000, b"later")
    while chunk := export.next_chunk():
        chunks.append(chunk)
    assert max(map(len, chunks)) < 100_000
    assert b"".join(chunks).count(b"\n") == 1002
    assert b"later" not in b"".join(chunks)
    export.close()
    export.close()
    assert len(closed) == 1


def test_export_goes_on_behind_a_piece_that_has_nothing_to_tell(
    store: Store, tmp_path: Path
) -> None:
    put(store, 2500)
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    walk = store.reader().walk_records(b"", 1, accepts=lambda key: key == b"k02499")
    export = Export(walk, NO_REIGNS, b"", lock=lock, seconds=60.0, on_close=lambda: None)
    chunks = [export.next_chunk()]
    assert not export.is_done
    while not export.is_done:
        chunks.append(export.next_chunk())
    assert b"k02499" in chunks[-1]
    assert b"" in chunks
    export.close()


def test_export_ends_when_its_time_is_over(store: Store, tmp_path: Path) -> None:
    put(store, 1000)
    export, _ = begun(store, tmp_path, seconds=-1.0)
    with pytest.raises(ExportTooLong):
        export.next_chunk()
    export.close()
    with pytest.raises(ValueError, match="closed"):
        export.next_chunk()


def test_export_does_not_give_a_damaged_record_out(store: Store, tmp_path: Path) -> None:
    put(store, 3)
    transaction = store.begin()
    transaction.restore(0, b"k00001", bytes(64))
    transaction.commit()
    export, _ = begun(store, tmp_path)
    with pytest.raises(RecordCorrupt, match="k00001"):
        export.next_chunk()
    export.close()


def test_reader_lets_pages_be_used_again_when_the_export_is_closed(
    store: Store, tmp_path: Path
) -> None:
    put(store, 10)
    export, _ = begun(store, tmp_path)
    assert store.facts().readers == 1
    export.close()
    assert store.facts().readers == 0
