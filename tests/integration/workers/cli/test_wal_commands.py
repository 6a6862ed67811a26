"""`synap wal show` by keys, `synap wal replay`, and `synap history`, on a log of a few writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synap.snapshot.image import write_snapshot
from tests.command_line import synap_here
from tests.integration.node_dirs import START_MS, open_node, write


class Kept:
    """A log of offsets 1 to 4, of which 3 and 4 are one write, with a snapshot of offset 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[int, str] = {}
        with open_node(folder) as data_dir:
            for keys in (["a:1"], ["b:1"], ["a:2", "b:2"]):
                offset = write(data_dir, keys)
                self.digests[offset] = data_dir.store.reader().digest()[2]
                if offset == 1:
                    write_snapshot(
                        data_dir.store.reader(), folder / "snapshots", data_dir.lineage,
                        compress=False, now_ms=START_MS,
                    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept") / "data")


def offsets_of(kept: Kept, *options: str) -> list[int]:
    shown = synap_here("wal", "show", str(kept.folder), "-o", "json", *options).stdout
    return [json.loads(line)["offset"] for line in shown.splitlines()]


def test_show_by_key_or_prefix_leaves_out_the_others(kept: Kept) -> None:
    assert offsets_of(kept) == [1, 2, 3, 4]
    assert offsets_of(kept, "--key", "b:1", "--key", "a:1") == [1, 2]
    assert offsets_of(kept, "--prefix", "a:") == [1, 3]
    text = synap_here("wal", "show", str(kept.folder), "--key", "b:2").stdout
    assert (text.count("frame"), text.count("SET")) == (1, 1)


@pytest.mark.parametrize("until", [2, 4])
def test_replay_comes_to_the_digest_that_the_node_had(kept: Kept, until: int) -> None:
    ended = synap_here("wal", "replay", str(kept.folder), "--until", str(until), "--digest")
    assert ended.stdout == f"{kept.digests[until]}  offset {until}  {until} keys\n"
    assert not list(kept.folder.glob(".replay-*"))


def test_replay_to_the_middle_of_a_write_is_refused(kept: Kept) -> None:
    ended = synap_here("wal", "replay", str(kept.folder), "--until", "3")
    assert (ended.returncode, "entries 3 to 4" in ended.stderr) == (1, True)


def test_history_tells_the_reign_of_a_new_node(kept: Kept) -> None:
    (line,) = synap_here("history", "--data-dir", str(kept.folder)).stdout.splitlines()
    assert line.startswith("1  20")
    assert line.endswith("from offset 1, goes on  a new node, or a restore")
