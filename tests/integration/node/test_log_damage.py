"""A node's log opened on a damaged copy: an exact prefix of what was written, or a refusal.

The live store is left out of the copies, so that the log alone says what there was; the tests of
the recovery have the cases with one. `test_wal_recovery` does the same one level below.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from synap.errors import WalCorrupt
from synap.wal.segment import SEGMENT_HEADER_BYTES
from tests.integration.node_dirs import open_node, write

FRAMES = 3


@dataclass(frozen=True)
class Original:
    """A node's data directory without its live store.

    Attributes:
        place: Where copies are made, one at a time.
        folder: The data directory.
        digests: Of the store after each number of frames.
        borders: The byte behind each number of frames in the only segment.
    """

    place: Path
    folder: Path
    digests: list[tuple[int, int, str]]
    borders: list[int]

    @property
    def segment(self) -> Path:
        return next((self.folder / "wal").glob("synap-*.wal"))

    def copy_with(self, content: bytes) -> Path:
        """Return a copy whose segment holds `content`."""
        copy = self.place / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder, copy, symlinks=True)
        (copy / "wal" / self.segment.name).write_bytes(content)
        return copy

    def frames_held(self, copy: Path) -> int:
        """Open a copy; return how many frames it holds, each as it was written."""
        with open_node(copy, clean=False) as data_dir:
            digest = data_dir.store.reader().digest()
            assert data_dir.applied.position == data_dir.position
        assert digest in self.digests
        return self.digests.index(digest)


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> Iterator[Original]:
    # In memory where that can be: there is a copy for every byte.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="synap", dir=memory) as name:
        place = Path(name)
        monkeypatch.setenv("SYNAP_RUN_DIR", str(place / "run"))
        folder = place / "original"
        with open_node(folder) as data_dir:
            digests = [data_dir.store.reader().digest()]
            borders = [data_dir.wal.mark.byte_position]
            for number in range(FRAMES):
                write(data_dir, [f"key {number}"])
                digests.append(data_dir.store.reader().digest())
                borders.append(data_dir.wal.mark.byte_position)
        shutil.rmtree(folder / "store")
        (folder / "store").mkdir()
        assert borders[0] == SEGMENT_HEADER_BYTES
        yield Original(place, folder, digests, borders)


def test_log_cut_at_every_byte_of_its_last_frames_holds_the_whole_ones(original: Original) -> None:
    whole = original.segment.read_bytes()
    for length in range(original.borders[1], len(whole) + 1):
        held = original.frames_held(original.copy_with(whole[:length]))
        assert held == sum(border <= length for border in original.borders) - 1


def test_log_with_a_flipped_bit_at_any_byte_holds_a_prefix_or_names_the_place(
    original: Original,
) -> None:
    whole = original.segment.read_bytes()
    refusals = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        copy = original.copy_with(damaged)
        segment = copy / "wal" / original.segment.name
        outcome = held_or_refusal(original, copy)
        if isinstance(outcome, WalCorrupt):
            refusals += 1
            assert (outcome.path, segment.read_bytes()) == (str(segment), damaged)
            assert outcome.byte_position <= at
            assert f"byte {outcome.byte_position}" in outcome.message
        else:
            assert original.borders[outcome] <= at
    # All but those in the last frame, which might be torn.
    assert refusals == original.borders[-2]


def held_or_refusal(original: Original, copy: Path) -> int | WalCorrupt:
    try:
        return original.frames_held(copy)
    except WalCorrupt as error:
        return error
