"""Images from elsewhere: what was made to end the process that reads it is refused by a child."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from synap.backup.archive import take_backup, verify_backup
from synap.backup.restore import restore
from synap.errors import SnapshotError, SnapshotInvalid, StoreUnusable
from synap.node.identity import NodeIdentity, write_identity
from synap.position import Position
from synap.sealed import sealed
from synap.snapshot.apart import walk_apart
from synap.snapshot.folder import read_manifest
from synap.snapshot.image import verify_snapshot
from synap.store import Applied, ImageFacts, Store, look_into
from tests.integration.node_dirs import open_node
from tests.integration.snapshot.test_image import LINEAGE, MAP_BYTES, write

PAGE = 4096
BRANCH, LEAF, LONG = 1, 2, 4
ROOT = Path(__file__).parents[3]
NUMBERS = struct.Struct("<Q")


def churned_store(folder: Path, seed: int, turns: int = 30) -> Store:
    """Return a store with short, long and expiring values, many of them replaced and removed."""
    store = Store.create(folder, MAP_BYTES)
    chance = random.Random(seed)
    for turn in range(turns):
        transaction = store.begin()
        for _ in range(100):
            key = b"key %d" % chance.randrange(800)
            if chance.random() < 0.3:
                transaction.remove(key)
                continue
            size = chance.choice((0, 7, 60, 700, 5000, 20_000)) if chance.random() < 0.2 else 40
            transaction.put(key, bytes(size), chance.choice((0, 0, 1000 + chance.randrange(9))))
        transaction.set_applied(Applied(Position(1, turn + 1, turn), 1, 68, 99))
        transaction.commit()
    return store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    with (folder / "image").open("wb") as file:
        churned_store(folder / "store", 1).reader().copy_to(file.fileno())
    return (folder / "image").read_bytes()


@pytest.mark.parametrize("seed", range(5))
def test_image_of_a_store_that_was_much_used_is_sound(tmp_path: Path, seed: int) -> None:
    store = churned_store(tmp_path / "store", seed, turns=3 * seed)
    with (tmp_path / "image").open("wb") as file:
        facts = store.reader().copy_to(file.fileno())
    assert walk_apart(tmp_path / "image") == facts == look_into(tmp_path / "image")


def page_of(image: bytes, kind: int) -> int:
    """Return where the last page of a kind begins."""
    starts = range(0, len(image), PAGE)
    return next(at for at in reversed(starts) if image[at + 10 : at + 12] == bytes((kind, 0)))


def put_number(image: bytearray, at: int, value: int) -> None:
    NUMBERS.pack_into(image, at, value)


def first_node(image: bytes, page: int) -> int:
    return page + int.from_bytes(image[page + 16 : page + 18], "little")


META = PAGE + 16
LIES: dict[str, Callable[[bytearray], None]] = {
    "pages behind the end": lambda image: put_number(image, META + 120, len(image)),
    "another beginning": lambda image: put_number(image, META + 128, 8),
    "a huge map": lambda image: put_number(image, META + 16, 1 << 62),
    "free pages": lambda image: put_number(image, META + 24 + 40, 2),
    "a root outside": lambda image: put_number(image, META + 72 + 40, 1 << 40),
    "more entries": lambda image: put_number(image, META + 72 + 32, 9),
    "a page of another number": lambda image: put_number(image, page_of(image, LEAF), 3),
    "a page of another kind": lambda image: put_number(image, page_of(image, LEAF) + 8, LONG << 16),
    "a long value of more pages": lambda image: put_number(
        image, page_of(image, LONG) + 8, LONG << 16 | 1 << 40
    ),
    "nodes outside": lambda image: put_number(image, page_of(image, LEAF) + 12, 0xFFF0_FFF0),
    "a value outside": lambda image: put_number(
        image, first_node(image, page_of(image, LEAF)), 1 << 20
    ),
    "a loop": lambda image: put_number(
        image, first_node(image, page_of(image, BRANCH)), page_of(image, BRANCH) // PAGE
    ),
    "no page": lambda image: image.__delitem__(slice(20, None)),
    "the half": lambda image: image.__delitem__(slice(len(image) // 2, None)),
}


@pytest.mark.parametrize("lie", LIES)
def test_image_that_lies_is_refused(sound: bytes, tmp_path: Path, lie: str) -> None:
    image = bytearray(sound)
    LIES[lie](image)
    (tmp_path / "image").write_bytes(image)
    with pytest.raises(StoreUnusable, match="no sound store"):
        walk_apart(tmp_path / "image")


# Walks images with random faults, and uses in every way what it takes for sound; its own end by a
# signal is the failure. Arguments: the image, a folder, how many, the seed.
USE_FAULTY = """
import random, shutil, sys
from pathlib import Path
from synap.errors import StoreUnusable
from synap.position import Position
from synap.store import Applied, Store, digest_image, walk_image
sound, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
chance = random.Random(int(sys.argv[4]))
image = folder / "faulty"
taken = 0
for turn in range(int(sys.argv[3])):
    content = bytearray(sound)
    page = chance.randrange(len(content) // 4096)
    for _ in range(chance.choice((1, 3))):
        at = page * 4096 + chance.randrange(chance.choice((32, 144, 4096)))
        content[at] = chance.randrange(256)
    image.write_bytes(content)
    try:
        walk_image(image)
    except StoreUnusable:
        continue
    taken += 1
    digest_image(image)
    fill = lambda into: shutil.copyfile(image, into / "data.mdb")
    store = Store.prepare(folder / "store", 1 << 28, fill)
    for number in range(800):
        transaction = store.begin()
        transaction.remove(b"key %d" % number)
        transaction.put(b"new %d" % number, bytes(number), 0)
        if number % 100 == 0:
            transaction.set_applied(Applied(Position(1, 99, 1), 1, 68, 99))
            transaction.commit()
        else:
            transaction.abort() if number % 7 == 0 else transaction.commit()
    store.close(clean=False)
    shutil.rmtree(folder / "store")
print(taken)
"""


@pytest.mark.parametrize("seed", range(4))
def test_image_with_random_faults_is_refused_or_can_be_used_in_every_way(
    sound: bytes, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "image").write_bytes(sound)
    arguments = [str(tmp_path / "image"), str(tmp_path), "150", str(seed)]
    ended = subprocess.run(
        [sys.executable, "-c", USE_FAULTY, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, (ended.returncode, ended.stderr)


def spoilt(path: Path) -> None:
    """Make a leaf of the snapshot at `path` a loop, with a manifest that agrees."""
    image = bytearray(path.read_bytes())
    LIES["a page of another kind"](image)
    path.write_bytes(image)
    manifest = path.with_suffix(".json")
    told = msgspec.structs.replace(read_manifest(path), sha256=sha256(image).hexdigest())
    manifest.write_bytes(sealed(told))


@pytest.fixture
def crafted(tmp_path: Path) -> Path:
    store = churned_store(tmp_path / "store", 1)
    (tmp_path / "snapshots").mkdir()
    path = write(store, tmp_path / "snapshots")
    spoilt(path)
    return path


def test_crafted_snapshot_with_a_manifest_that_agrees_is_not_restored(
    crafted: Path, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotInvalid, match="no sound store"):
        restore(crafted, tmp_path / "restored", now_ms=1)
    assert not (tmp_path / "restored").exists()


def test_crafted_snapshot_is_neither_verified_nor_made_ready_for_a_replica(
    crafted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    with pytest.raises(SnapshotInvalid, match="no sound store"):
        verify_snapshot(crafted)
    with open_node(tmp_path / "node") as data_dir, pytest.raises(SnapshotInvalid):
        data_dir.prepare(crafted, read_manifest(crafted))


def test_crafted_backup_with_checksums_that_agree_is_not_restored(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()
    write_identity(node / "node.json", NodeIdentity("0" * 16, "standalone", LINEAGE))

    class Crafted:
        """A store whose image is not the one that its facts are of."""

        def used_bytes(self) -> int:
            return 0

        def copy_to(self, file: int) -> ImageFacts:
            facts = churned_store(tmp_path / "store", 1).reader().copy_to(file)
            # Every leaf still reads well, and one is freed as another page.
            os.pwrite(file, NUMBERS.pack(3), page_of(os.pread(file, 1 << 24, 0), LEAF))
            return facts

    backup = take_backup(Crafted(), tmp_path, node / "node.json", "name", 1, None)
    with (tmp_path / "b.backup").open("wb") as file:
        while chunk := backup.next_chunk():
            file.write(chunk)
    backup.close()
    verify_backup(tmp_path / "b.backup")
    with pytest.raises(SnapshotError, match="no sound store"):
        restore(tmp_path / "b.backup", tmp_path / "restored", now_ms=1)
    assert not (tmp_path / "restored").exists()
