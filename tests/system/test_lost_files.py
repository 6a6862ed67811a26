"""Files that are deleted or moved under a running node: it refuses writes, says so, and ends."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.support import HOST, Node, eventually

SECONDS = 10
# It takes 1 to 1.7 s on an idle machine; a crowded one is slower at ending processes.
NOTICED_SECONDS = 6.0


def delete_all(node: Node) -> None:
    shutil.rmtree(node.data_dir, ignore_errors=True)


def delete_segments(node: Node) -> None:
    for path in node.data_dir.glob("wal/synap-*.wal"):
        path.unlink()


def move_away(node: Node) -> None:
    node.data_dir.rename(node.data_dir.with_name("moved"))


def replace_node_json(node: Node) -> None:
    path = node.data_dir / "node.json"
    path.write_text('{"id":"another","role":"standalone","lineage":[]}')


def replace_store(node: Node) -> None:
    (data,) = node.data_dir.glob("store/*/data.mdb")
    shutil.copyfile(data, data.with_name("copy"))
    os.replace(data.with_name("copy"), data)


@pytest.mark.parametrize(
    "act", [delete_all, delete_segments, move_away, replace_node_json, replace_store]
)
def test_node_whose_files_go_ends_soon_and_says_why(
    tmp_path: Path, act: Callable[[Node], None]
) -> None:
    load = Load(f"http://{HOST}:{(node := Node(tmp_path, 'node', {})).port}")
    with node:
        with load:
            eventually(lambda: load.has_acknowledged(100), SECONDS)
            act(node)
            began = time.monotonic()
            before = load.acknowledged
            eventually(lambda: not node.is_running, SECONDS)
            took = time.monotonic() - began
        after = load.acknowledged - before
        assert node.wait() == 3
    print(f"\n{act.__name__}: ended after {took:.2f} s, {after} writes acknowledged meanwhile")
    assert took < NOTICED_SECONDS
    assert node.log.count("deleted or moved while it ran") >= 1
    assert "Traceback" not in node.log


def test_node_whose_run_directory_is_emptied_goes_on() -> None:
    folder = Path(tempfile.mkdtemp(prefix="synap-run-", dir="/tmp"))
    try:
        with Node(folder / "node", "node", {}, {"SYNAP_RUN_DIR": str(folder)}) as node:
            assert node.request("POST", "/kv/set", {"key": "a", "value": "kept"}).status == 200
            before = node.http_pid()
            for path in (folder / "synap").glob("*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            eventually(lambda: "was emptied" in node.log, 3 * SECONDS)
            eventually(lambda: node.http_pid() not in (0, before), 3 * SECONDS)
            answer = eventually(lambda: node.answer_or_none("/kv/get/a"), 3 * SECONDS)
            assert answer.json() == "kept"
            assert node.request("POST", "/kv/set", {"key": "a", "value": "b"}).status == 200
    finally:
        shutil.rmtree(folder)
