"""Backup, restore and repair with real nodes and the real command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synap.backup.archive import verify_backup
from tests.command_line import synap_here
from tests.conftest import StartNode
from tests.support import HOST, Node, eventually

ROOT = Path(__file__).parents[2]
QUIET = {"persistence__snapshot__enabled": False}
SHARED_SETTINGS = QUIET


@contextmanager
def load(node: Node) -> Iterator[list[int]]:
    """Write all the time; yields the offsets that were acknowledged so far."""
    acknowledged: list[int] = []
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            body = {"key": f"load{number % 500}", "value": f"{number} " * 50}
            answer = node.request("POST", "/kv/set", body)
            assert answer.status == 200
            acknowledged.append(int(answer.headers["x-synap-offset"]))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        eventually(lambda: len(acknowledged) > 50)
        yield acknowledged
    finally:
        ended.set()
        thread.join()


def url_of(node: Node) -> str:
    return f"http://{HOST}:{node.port}"


def digest_of(node: Node) -> dict[str, object]:
    answer: dict[str, object] = node.request("GET", "/digest").json()
    return answer


def backup(node: Node, path: Path) -> subprocess.CompletedProcess[str]:
    return synap_here("backup", "--url", url_of(node), "--output", str(path))


def test_backup_under_load_restores_to_the_state_at_its_offset(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node("source", **QUIET)
    with load(node) as acknowledged:
        before = acknowledged[-1]
        ended = backup(node, tmp_path / "b.backup")
        assert ended.returncode == 0, ended.stderr
    manifest, _ = verify_backup(tmp_path / "b.backup")
    assert manifest.position.offset >= before
    data_dir = tmp_path / "restored"
    restored = synap_here(
        "restore", "--from", str(tmp_path / "b.backup"), "--data-dir", str(data_dir)
    )
    assert restored.returncode == 0, restored.stderr
    copy = start_node("copy", data_dir=data_dir, **QUIET)
    assert digest_of(copy) == {
        "offset": manifest.position.offset,
        "keys": manifest.keys,
        "digest": manifest.digest,
    }


def test_restore_to_an_offset_and_to_a_time_from_a_running_nodes_log(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node("source", **QUIET)
    assert backup(node, tmp_path / "empty.backup").returncode == 0
    for number in range(20):
        node.request("POST", "/kv/set", {"key": f"key{number}", "value": number})
    expected = digest_of(node)
    node.request("POST", "/kv/set", {"key": "too late", "value": 1})
    wal = tmp_path / "wal"
    shutil.copytree(node.data_dir / "wal", wal, symlinks=True)
    shown = synap_here("wal", "show", str(wal), "-o", "json").stdout
    entries = [json.loads(line) for line in shown.splitlines()]
    last_ms = entries[expected["offset"] - 1]["time_ms"]  # type: ignore[operator]
    targets = [("--to-offset", str(expected["offset"]))]
    if entries[-1]["time_ms"] > last_ms:
        targets.append(("--to-time", str(last_ms)))
    for number, target in enumerate(targets):
        data_dir = tmp_path / f"restored{number}"
        ended = synap_here(
            "restore", "--from", str(tmp_path / "empty.backup"),
            "--data-dir", str(data_dir), "--wal", str(wal), *target,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert digest_of(start_node(f"copy{number}", data_dir=data_dir, **QUIET)) == expected


def test_backup_that_the_client_breaks_off_leaves_nothing_on_the_node(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node("source", **QUIET)
    value = "x" * 1_000_000
    for number in range(40):
        node.request("POST", "/kv/set", {"key": f"key{number}", "value": value})
    with socket.create_connection((HOST, node.port)) as client:
        client.sendall(b"GET /backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        second = node.request("GET", "/backup")
        assert (second.status, second.json()["reason"]) == (503, "backup_running")
    eventually(lambda: node.request("HEAD", "/backup").status == 200)
    eventually(lambda: _deleted_files(node) == [])
    assert [path.name for path in (node.data_dir / "snapshots").iterdir()] == []
    eventually(lambda: backup(node, tmp_path / "b.backup").returncode == 0)


def _deleted_files(node: Node) -> list[str]:
    """Return the unnamed files in the data directory that the node's processes have open."""
    found = []
    for pid in [node.pid, *_all_below(node.pid)]:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith(str(node.data_dir)) and target.endswith("(deleted)"):
                found.append(target)
    return found


def _all_below(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in children for each in (int(child), *_all_below(int(child)))]


def test_backup_into_a_full_disk_leaves_no_file(shared_node: Node, tmp_path: Path) -> None:
    node = shared_node
    node.request("POST", "/kv/set", {"key": "big", "value": "x" * 3_000_000})
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        ended = backup(node, disk / "b.backup")
        assert ended.returncode == 1
        assert "are free" in ended.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_backup_that_finds_no_room_halfway_leaves_no_file(
    shared_node: Node, tmp_path: Path
) -> None:
    node = shared_node
    node.request("POST", "/kv/set", {"key": "big", "value": "x" * 3_000_000})
    folder = tmp_path / "backups"
    folder.mkdir()
    command = ["prlimit", "--fsize=1000000", sys.executable, "-P", "-m", "workers.main", "backup"]
    ended = subprocess.run(
        [*command, "--url", url_of(node), "--output", str(folder / "b.backup")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert "no room for the backup" in ended.stderr
    assert list(folder.iterdir()) == []


def test_backup_never_replaces_a_file_unless_forced(shared_node: Node, tmp_path: Path) -> None:
    node = shared_node
    path = tmp_path / "b.backup"
    path.write_text("precious")
    ended = backup(node, path)
    assert (ended.returncode, path.read_text()) == (1, "precious")
    assert "--force" in ended.stderr
    forced = synap_here("backup", "--url", url_of(node), "--output", str(path), "--force")
    assert forced.returncode == 0, forced.stderr
    assert verify_backup(path)[0].digest == digest_of(node)["digest"]


def test_backup_to_the_standard_output_is_a_whole_one(shared_node: Node, tmp_path: Path) -> None:
    ended = synap_here("backup", "--url", url_of(shared_node), "--output", "-")
    assert "restored and compared: digest" in ended.stderr
    path = tmp_path / "piped.backup"
    path.write_bytes(ended.stdout.encode(errors="surrogateescape"))
    assert f"checksum sha256:{verify_backup(path)[1]}" in ended.stderr


def test_backup_of_a_node_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    ended = synap_here(
        "backup", "--url", f"http://{HOST}:9", "--output", str(tmp_path / "b.backup")
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"synap: http://{HOST}:9 can't be reached: ")
    assert list(tmp_path.iterdir()) == []


def test_damaged_backup_is_refused_and_nothing_restored(shared_node: Node, tmp_path: Path) -> None:
    path = tmp_path / "b.backup"
    assert backup(shared_node, path).returncode == 0
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    ended = synap_here("restore", "--from", str(path), "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert "its checksum does not match" in ended.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["check", "show", "repair"])
def test_log_that_is_not_there_is_not_called_sound(tmp_path: Path, command: str) -> None:
    (tmp_path / "wal").mkdir()
    looked = synap_here("wal", command, str(tmp_path))
    assert looked.returncode == 1
    assert f"there is no log in {tmp_path}" in looked.stderr
    assert "sound" not in looked.stdout


def test_repair_asks_first_and_then_the_node_starts(start_node: StartNode) -> None:
    node = start_node("node", **QUIET)
    for number in range(5):
        node.request("POST", "/kv/set", {"key": f"key{number}", "value": number})
    node.stop()
    segment = next((node.data_dir / "wal").glob("synap-*.wal"))
    content = bytearray(segment.read_bytes())
    content[200] ^= 1
    segment.write_bytes(content)
    (node.data_dir / "store" / "CURRENT").unlink()
    assert synap_here("wal", "check", str(segment.parent)).returncode == 1
    assert synap_here("wal", "show", str(node.data_dir)).returncode == 1
    asked = synap_here("wal", "repair", str(node.data_dir))
    assert asked.returncode == 1
    assert "would be lost" in asked.stdout
    assert segment.read_bytes() == content
    done = synap_here("wal", "repair", str(node.data_dir), "--yes")
    assert done.returncode == 0, done.stderr
    node.start()
    assert node.request("GET", "/kv/get/key0").status == 200
    assert node.request("GET", "/kv/get/key4").status == 404


def test_scripts_keep_so_many_backups_and_restore_the_newest(
    shared_node: Node, tmp_path: Path
) -> None:
    node = shared_node
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("synap-20200101T000000Z.backup", "synap-20200102T000000Z.backup"):
        (folder / name).touch()
    ended = _script(tmp_path, "backup.sh", "--url", url_of(node), "--keep", "2", str(folder))
    assert ended.returncode == 0, ended.stderr
    held = sorted(path.name for path in folder.glob("*.backup"))
    assert len(held) == 2
    assert held[0] == "synap-20200102T000000Z.backup"
    data_dir = tmp_path / "data"
    ended = _script(tmp_path, "restore.sh", str(folder), str(data_dir))
    assert ended.returncode == 0, ended.stderr
    assert (data_dir / "node.json").exists()
    assert _script(tmp_path, "restore.sh", str(folder), str(data_dir)).returncode == 1
    ended = _script(tmp_path, "restore.sh", "--keep", "1", str(folder), str(data_dir))
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.glob("data.before-*"))) == 1


def test_backup_script_that_fails_removes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(1, 4):
        (folder / f"synap-2020010{day}T000000Z.backup").touch()
    ended = _script(tmp_path, "backup.sh", "--url", f"http://{HOST}:9", "--keep", "1", str(folder))
    assert ended.returncode == 1
    assert len(list(folder.glob("*.backup"))) == 3


def _script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts in ops/ with this environment's program."""
    program = folder / "synap"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -P -m workers.main "$@"\n'
    )
    program.chmod(0o755)
    return subprocess.run(
        [str(ROOT / "ops" / name), *arguments],
        env={**os.environ, "SYNAP": str(program)},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("restore", "--from", "nothing", "--data-dir", "FOLDER"), "nothing"),
        (
            ("inspect", str(ROOT / "pyproject.toml")),
            "is no backup, no snapshot and no segment of a log",
        ),
        (("inspect", "nothing"), "nothing"),
        (("wal", "check", "nothing"), "there is no folder nothing"),
        (("wal", "show", "nothing"), "there is no folder nothing"),
        (("wal", "repair", "nothing"), "there is no folder nothing"),
        (("store", "rebuild", "--data-dir", "nothing"), "nothing is no data directory"),
        (
            ("backup", "--url", "nonsense", "--output", "FOLDER/b"),
            "http://nonsense:15500 can't be reached",
        ),
    ],
)
def test_command_given_nonsense_says_so_in_one_line(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    ended = synap_here(*(each.replace("FOLDER", str(tmp_path)) for each in arguments))
    assert ended.returncode == 1
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_restore_to_a_time_that_is_none_names_the_forms(tmp_path: Path) -> None:
    folders = ("--data-dir", str(tmp_path / "y"), "--wal", str(tmp_path / "z"))
    ended = synap_here("restore", "--from", "x", *folders, "--to-time", "noon")
    assert ended.returncode == 2
    assert "ISO 8601" in ended.stderr
