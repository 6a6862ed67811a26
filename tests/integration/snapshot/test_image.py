"""Snapshots on a real store and a real disk."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import zstandard

from synap.disk import DISK, Files
from synap.errors import DiskFull, SnapshotError, SnapshotInvalid
from synap.position import Position, Reign
from synap.snapshot.folder import clear_leftovers, prune, read_manifest, snapshot_path, snapshots
from synap.snapshot.image import unpack_image, verify_snapshot, write_snapshot
from synap.store import Applied, Store
from synap.store.generations import DATA_FILE
from tests.integration.wal_logs import FailingFiles

MAP_BYTES = 1 << 28
LINEAGE = (Reign(1, b"first history id", 1),)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store", MAP_BYTES)
    fill(store, 500)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    return folder


def fill(store: Store, count: int, value: bytes = b"value") -> None:
    """Write `count` keys as one more frame."""
    offset = store.applied.position.offset
    transaction = store.begin()
    for number in range(count):
        transaction.put(b"key %d" % (offset + number), value * 10, 0)
    offset += count
    transaction.set_applied(Applied(Position(1, offset, offset), 1, 68, 99, b"first history id"))
    transaction.commit()


def write(store: Store, folder: Path, compress: bool = False, files: Files = DISK) -> Path:
    manifest = write_snapshot(
        store.reader(), folder, LINEAGE, compress=compress, now_ms=1234, files=files
    )
    return snapshot_path(folder, manifest.position.offset)


@pytest.mark.parametrize("compress", [False, True])
def test_snapshot_written_verifies_and_unpacks_to_the_same_store(
    store: Store, folder: Path, tmp_path: Path, compress: bool
) -> None:
    path = write(store, folder, compress)
    manifest = verify_snapshot(path)
    assert (manifest.position, manifest.keys) == (Position(1, 500, 500), 500)
    assert (manifest.time_ms, manifest.created_ms, manifest.lineage) == (99, 1234, LINEAGE)
    assert sorted(os.listdir(folder)) == [path.with_suffix(".json").name, path.name][::-1]
    restored = Store.prepare(
        tmp_path / "other", MAP_BYTES, lambda into: unpack_image(path, manifest, into)
    )
    assert restored.reader().digest() == store.reader().digest()
    assert restored.applied == store.applied


def test_snapshot_that_a_new_epoch_overtook_is_given_up(store: Store, folder: Path) -> None:
    """Restored, it would begin an epoch of the same number again."""
    with pytest.raises(SnapshotError, match="epoch 1 began meanwhile"):
        write_snapshot(store.reader(), folder, (), compress=False, now_ms=1234)
    assert os.listdir(folder) == []


def test_snapshot_while_writing_holds_whole_frames(store: Store, folder: Path) -> None:
    stop = threading.Event()

    def write_on() -> None:
        # The pause bounds what it writes on a machine that gives the snapshots little time.
        while not stop.wait(0.001):
            fill(store, 10)

    writing = threading.Thread(target=write_on)
    writing.start()
    try:
        paths = [write(store, folder) for _ in range(10)]
    finally:
        stop.set()
        writing.join()
    taken = [verify_snapshot(path) for path in paths]
    assert all(manifest.keys == manifest.position.offset for manifest in taken)
    assert taken[-1].position.offset > taken[0].position.offset


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "swap"])
def test_verify_damaged_snapshot_is_invalid(
    store: Store, folder: Path, damage: str, compress: bool
) -> None:
    path = write(store, folder, compress)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[-1]
    elif damage == "grow":
        data += b"\0"
    else:
        fill(store, 1)
        other = write(store, folder, compress)
        data = bytearray(other.read_bytes())
        shutil.copyfile(other.with_suffix(".json"), path.with_suffix(".json"))
        manifest = path.with_suffix(".json").read_bytes().replace(b"501,", b"502,", 1)
        path.with_suffix(".json").write_bytes(manifest)
    path.write_bytes(data)
    with pytest.raises(SnapshotInvalid):
        verify_snapshot(path)
    assert not list(folder.glob("*.tmp"))


def test_compressed_image_that_unpacks_to_more_than_its_manifest_says_is_refused(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    """Cites R4: nothing behind the size that it should have is written."""
    path = write(store, folder, compress=True)
    manifest = read_manifest(path)
    assert manifest.plain_bytes > manifest.bytes
    bomb = zstandard.ZstdCompressor().compress(bytes(256 * 1024 * 1024))
    path.write_bytes(bomb)
    sha256 = hashlib.sha256(bomb).hexdigest()
    lying = msgspec.structs.replace(manifest, bytes=len(bomb), sha256=sha256)
    (tmp_path / "into").mkdir()
    with pytest.raises(SnapshotInvalid, match=f"more than the {manifest.plain_bytes} bytes"):
        unpack_image(path, lying, tmp_path / "into")
    assert (tmp_path / "into" / DATA_FILE).stat().st_size <= manifest.plain_bytes


def test_compressed_image_that_asks_for_much_memory_is_refused(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    """Cites R4."""
    path = write(store, folder, compress=True)
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    greedy = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path.write_bytes(greedy.compress(os.urandom(1024)) + greedy.flush())
    (tmp_path / "into").mkdir()
    with pytest.raises(SnapshotInvalid, match="can't be decompressed"):
        unpack_image(path, read_manifest(path), tmp_path / "into")


def test_snapshots_are_told_newest_first_and_pruned(store: Store, folder: Path) -> None:
    paths = []
    for _ in range(4):
        paths.append(write(store, folder))
        fill(store, 5)
    assert [path for path, _ in snapshots(folder)] == paths[::-1]
    assert prune(folder, 3) == paths[:1]
    assert prune(folder, 3) == []
    assert [path for path, _ in snapshots(folder)] == paths[:0:-1]
    assert len(os.listdir(folder)) == 6


def test_snapshots_halves_are_none_and_are_cleared(store: Store, folder: Path) -> None:
    whole = write(store, folder)
    for name in ("snapshot_00000000000000000001.bin", "snapshot_00000000000000000002.json"):
        (folder / name).write_bytes(b"{}")
    (folder / "snapshot.77.bin.tmp").touch()
    (folder / "snapshot.77.bin.tmp.78.tmp").mkdir()
    (folder / "notes.txt").touch()
    assert [path for path, _ in snapshots(folder)] == [whole]
    assert len(clear_leftovers(folder)) == 4
    assert sorted(os.listdir(folder)) == ["notes.txt", whole.name, whole.with_suffix(".json").name]


def test_snapshot_on_a_full_disk_says_so_and_leaves_nothing(store: Store, folder: Path) -> None:
    files = FailingFiles()
    files.fail("write", errno.ENOSPC)
    with pytest.raises(DiskFull):
        write(store, folder, files=files)
    assert os.listdir(folder) == []


# A process that dies at the nth step that touches the disk: kill -9 in the middle of the work.
_DYING = """
import os, sys
from pathlib import Path
from synap.position import Reign
from synap.snapshot.folder import prune
from synap.snapshot.image import write_snapshot
from synap.store import StoreReader
from tests.integration.kth_call import KthCallFails

class Deadly(KthCallFails):
    def _call(self, name, do_part=None):
        self._left -= 1
        if self._left == 0:
            if do_part:
                do_part()
            os.kill(os.getpid(), 9)

root, folder, deadly, compress = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
files = Deadly(deadly, 0, "")
lineage = (Reign(1, b"first history id", 1),)
reader = StoreReader.open(Path(root))
write_snapshot(reader, folder, lineage, compress=compress == "1", now_ms=1, files=files)
prune(folder, 1, files)
"""


@pytest.mark.parametrize("compress", ["0", "1"])
def test_snapshot_killed_at_every_step_leaves_the_old_set_or_the_new_one(
    store: Store, folder: Path, tmp_path: Path, compress: str
) -> None:
    old = write(store, folder)
    fill(store, 20, os.urandom(4))
    for step in range(1, 100):
        copy = tmp_path / f"copy{step}"
        shutil.copytree(folder, copy)
        arguments = [str(tmp_path / "store"), str(copy), str(step), compress]
        run = subprocess.run([sys.executable, "-c", _DYING, *arguments], check=False)
        assert run.returncode in (0, -9)
        clear_leftovers(copy)
        left = [path.name for path, _ in snapshots(copy)]
        for name in left:
            verify_snapshot(copy / name)
        new = snapshot_path(folder, 520).name
        assert left in ([old.name], [new, old.name], [new])
        assert len(os.listdir(copy)) == 2 * len(left)
        if run.returncode == 0:
            assert left == [new]
            break
        shutil.rmtree(copy)
    assert step > 5
