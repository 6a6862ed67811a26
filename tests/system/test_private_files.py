"""What a node writes is its own user's, whatever umask it was started with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import StartNode
from tests.support import HOST, Node
from tests.system.test_cli import synap
from workers.process import EXIT_REFUSED

QUIET = {"persistence__snapshot__enabled": False}


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Start everything as a careless shell would."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def run_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the node a run directory of the test's own, below a short path."""
    with TemporaryDirectory(prefix="synap-") as folder:
        monkeypatch.setenv("SYNAP_RUN_DIR", folder)
        yield Path(folder, "synap")


def shared_paths(root: Path) -> list[str]:
    """Return what others than the owner may read or write at or below `root`; links aside."""
    found = [root, *root.rglob("*")]
    return [str(path) for path in found if not path.is_symlink() and path.stat().st_mode & 0o077]


def written_node(start_node: StartNode) -> Node:
    node = start_node(**QUIET)
    assert node.request("POST", "/kv/set", {"key": "a", "value": "secret"}).status == 200
    assert node.request("POST", "/snapshot").status == 200
    return node


def test_node_writes_nothing_that_another_user_may_read(
    run_dir: Path, start_node: StartNode
) -> None:
    node = written_node(start_node)
    assert (node.data_dir / "snapshots").is_dir()
    assert shared_paths(node.data_dir) == []
    assert shared_paths(run_dir) == []


def test_backup_and_what_is_restored_of_it_are_private(
    start_node: StartNode, tmp_path: Path
) -> None:
    url = f"http://{HOST}:{written_node(start_node).port}"
    backup, restored = tmp_path / "b.backup", tmp_path / "restored"
    assert synap("backup", "--url", url, "--output", str(backup)).returncode == 0
    ended = synap("restore", "--from", str(backup), "--data-dir", str(restored))
    assert ended.returncode == 0, ended.stderr
    assert shared_paths(backup) + shared_paths(restored) == []


def test_volatile_node_keeps_its_temporary_folder_private(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    start_node(persistence__enabled=False)
    assert shared_paths(tmp_path / f"synap-volatile-{os.getuid()}") == []


def test_volatile_node_refuses_a_temporary_folder_that_others_may_write_to(
    tmp_path: Path,
) -> None:
    folder = tmp_path / f"synap-volatile-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    ended = synap("serve", "--set", "persistence.enabled=false", TMPDIR=str(tmp_path))
    assert ended.returncode == EXIT_REFUSED
    assert f"{folder} must be a folder of this user" in ended.stderr


def test_data_directory_of_an_earlier_version_is_closed_at_the_next_start(
    start_node: StartNode,
) -> None:
    """Else a lock that others may read is one that they may hold, for ever."""
    node = written_node(start_node)
    node.stop()
    for path in [node.data_dir / "wal", *node.data_dir.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() else 0o666)
    node.start()
    assert node.request("GET", "/kv/get/a").status == 200
    reachable = [path for path in node.data_dir.iterdir() if path.stat().st_mode & 0o077]
    assert reachable == []
