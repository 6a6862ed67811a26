"""Generations, CURRENT and the marker on a real file system."""

import os
import shutil
from pathlib import Path

import pytest

from synap.commands.records import NEVER, Record
from synap.errors import StoreUnusable
from synap.position import Position
from synap.store import Applied, Store, StoreReader, generations, is_trusted
from tests.support import rewrite_json

MAP_BYTES = 16 * 1024 * 1024
BOOT = "boot-1"
NEXT_BOOT = "boot-2"


def write(store: Store, value: bytes) -> None:
    """Set `k` to `value`, as the entry 1."""
    transaction = store.begin()
    transaction.put(b"k", value, NEVER)
    transaction.set_applied(Applied(Position(1, 1, 7), 1, 100, 5))
    transaction.commit()


def stop(root: Path, *, clean: bool, boot_id: str = BOOT) -> None:
    """Make a store whose last owner ran under `boot_id`, and end it."""
    Store.create(root, MAP_BYTES).close(clean=True)
    Store.open(root, MAP_BYTES, boot_id).close(clean=clean)


def value_in(root: Path) -> bytes:
    reader = StoreReader.open(root)
    try:
        record, _ = reader.get(b"k")
    finally:
        reader.close()
    assert isinstance(record, Record)
    return record.value


def copy_in_place(root: Path) -> None:
    """Replace the store by a copy that comes from an archive, where inodes come round again."""
    shutil.copytree(root, root.with_name("archive"))
    shutil.rmtree(root)
    shutil.copytree(root.with_name("archive"), root)


def test_is_trusted_without_any_store_is_not(tmp_path: Path) -> None:
    assert is_trusted(tmp_path) == (False, "there is no store yet")


def test_is_trusted_after_a_killed_process_on_the_same_boot(tmp_path: Path) -> None:
    stop(tmp_path, clean=False)
    assert is_trusted(tmp_path, BOOT)[0]


def test_is_trusted_after_another_boot_only_when_the_stop_was_clean(tmp_path: Path) -> None:
    stop(tmp_path, clean=False)
    assert is_trusted(tmp_path, NEXT_BOOT) == (
        False,
        "the machine was restarted without a clean stop of the node",
    )
    Store.open(tmp_path, MAP_BYTES, BOOT).close(clean=True)
    assert is_trusted(tmp_path, NEXT_BOOT) == (True, "the last stop was clean")


def test_is_trusted_with_an_unknown_boot_only_when_the_stop_was_clean(tmp_path: Path) -> None:
    stop(tmp_path, clean=False, boot_id="")
    assert not is_trusted(tmp_path, "")[0]


@pytest.mark.parametrize("clean", [True, False])
def test_is_trusted_of_a_data_file_with_another_inode_is_not(tmp_path: Path, clean: bool) -> None:
    stop(tmp_path, clean=clean)
    data = tmp_path / "00000001" / "data.mdb"
    shutil.copy(data, tmp_path / "copy")
    os.replace(tmp_path / "copy", data)
    assert is_trusted(tmp_path, BOOT) == (False, "the store was copied here")


@pytest.mark.parametrize("clean", [True, False])
def test_is_trusted_of_a_marker_from_another_device_is_not(tmp_path: Path, clean: bool) -> None:
    stop(tmp_path, clean=clean)
    rewrite_json(tmp_path / "00000001" / "marker.json", device=1)
    assert is_trusted(tmp_path, BOOT) == (
        False,
        "the store was copied here from another file system",
    )


@pytest.mark.parametrize("clean", [True, False])
def test_is_trusted_of_a_copy_that_got_the_same_inode_is_not(tmp_path: Path, clean: bool) -> None:
    root = tmp_path / "store"
    stop(root, clean=clean)
    copy_in_place(root)
    inode = os.stat(root / "00000001" / "data.mdb").st_ino
    rewrite_json(root / "00000001" / "marker.json", inode=inode)
    assert is_trusted(root, BOOT) == (False, "the store was copied here")


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 512, b'{"boot_id":"boot-1","dev'])
def test_is_trusted_with_a_torn_marker_is_not(tmp_path: Path, content: bytes) -> None:
    stop(tmp_path, clean=True)
    (tmp_path / "00000001" / "marker.json").write_bytes(content)
    assert not is_trusted(tmp_path, BOOT)[0]


def test_open_of_an_untrusted_store_is_refused_and_leaves_it_untrusted(tmp_path: Path) -> None:
    stop(tmp_path, clean=False)
    with pytest.raises(StoreUnusable, match="restarted"):
        Store.open(tmp_path, MAP_BYTES, NEXT_BOOT)
    assert not is_trusted(tmp_path, NEXT_BOOT)[0]


def test_open_takes_the_clean_stop_back(tmp_path: Path) -> None:
    stop(tmp_path, clean=True)
    store = Store.open(tmp_path, MAP_BYTES, BOOT)
    assert is_trusted(tmp_path, BOOT)[0]
    assert not is_trusted(tmp_path, NEXT_BOOT)[0]
    store.close(clean=False)


def test_marker_is_overwritten_in_place_so_that_a_start_needs_no_room(tmp_path: Path) -> None:
    stop(tmp_path, clean=True)
    marker = tmp_path / "00000001" / "marker.json"
    before = (marker.stat().st_ino, marker.stat().st_size)
    Store.open(tmp_path, MAP_BYTES, BOOT).close(clean=True)
    assert (marker.stat().st_ino, marker.stat().st_size) == before


def test_create_makes_a_newer_generation_beside_the_older(tmp_path: Path) -> None:
    store = Store.create(tmp_path, MAP_BYTES)
    write(store, b"old")
    store.close(clean=False)
    store = Store.create(tmp_path, MAP_BYTES)
    assert store.generation == 2
    assert (tmp_path / "CURRENT").read_text() == "00000002 2e06ec2f\n"
    write(store, b"new")
    store.close(clean=False)
    assert value_in(tmp_path) == b"new"
    assert (tmp_path / "00000001" / "data.mdb").exists()


def test_prepared_generation_is_in_use_only_once_it_is_made_current(tmp_path: Path) -> None:
    store = Store.create(tmp_path, MAP_BYTES)
    write(store, b"old")
    reader = store.reader()
    prepared = Store.prepare(tmp_path, MAP_BYTES)
    write(prepared, b"new")
    assert generations.current(tmp_path) == 1
    prepared.make_current()
    assert generations.current(tmp_path) == 2
    assert reader.generation == 1
    assert reader.get(b"k")[0] == Record(1, NEVER, b"old")
    store.close(clean=False)
    prepared.close(clean=False)
    assert value_in(tmp_path) == b"new"


def test_crash_before_the_switch_leaves_the_old_generation_in_use(tmp_path: Path) -> None:
    store = Store.create(tmp_path, MAP_BYTES)
    write(store, b"old")
    store.close(clean=False)
    Store.prepare(tmp_path, MAP_BYTES).close(clean=False)
    generations.add(tmp_path)
    (tmp_path / "CURRENT.tmp").write_bytes(b"0000")
    assert is_trusted(tmp_path)[0]
    assert value_in(tmp_path) == b"old"
    store = Store.create(tmp_path, MAP_BYTES)
    assert store.generation == 4
    store.close(clean=False)


def test_prune_removes_all_generations_but_the_one_in_use(tmp_path: Path) -> None:
    Store.create(tmp_path, MAP_BYTES).close(clean=False)
    store = Store.create(tmp_path, MAP_BYTES)
    write(store, b"new")
    store.close(clean=False)
    generations.add(tmp_path)
    assert generations.prune(tmp_path) == [1, 3]
    assert value_in(tmp_path) == b"new"


@pytest.mark.parametrize("text", ["", "7", "../store", "00000009\n", "\xff"])
def test_current_that_names_no_generation_is_refused(tmp_path: Path, text: str) -> None:
    Store.create(tmp_path, MAP_BYTES).close(clean=True)
    (tmp_path / "CURRENT").write_text(text, encoding="latin-1")
    with pytest.raises(StoreUnusable, match="CURRENT"):
        StoreReader.open(tmp_path)
    assert not is_trusted(tmp_path)[0]


def test_create_puts_a_damaged_current_right(tmp_path: Path) -> None:
    Store.create(tmp_path, MAP_BYTES).close(clean=True)
    (tmp_path / "CURRENT").write_text("")
    Store.create(tmp_path, MAP_BYTES).close(clean=True)
    assert generations.current(tmp_path) == 2


def test_files_of_the_store_are_private(tmp_path: Path) -> None:
    Store.create(tmp_path, MAP_BYTES).close(clean=True)
    folder = tmp_path / "00000001"
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir() if path.stat().st_mode & 0o077] == []
