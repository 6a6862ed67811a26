"""The command line, run as its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from synap import __version__
from synap.node.identity import lock_file
from tests.command_line import synap_here
from tests.support import HOST, free_port, free_port_block
from workers.process import child_environment


def synap(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**child_environment(os.environ, None, {}), **variables}
    return subprocess.run(
        [sys.executable, "-P", "-m", "workers.main", *arguments],
        env={**environment, "SYNAP_SUPERVISOR_PID": "", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_version_prints_the_package_version() -> None:
    assert synap("version").stdout == f"synap {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("serve",),
        ("cluster",),
        ("version",),
        ("config",),
        ("config", "check"),
        ("config", "show"),
        ("backup",),
        ("doctor",),
        ("export",),
        ("watch",),
        ("import",),
        ("restore",),
        ("inspect",),
        ("wal",),
        ("wal", "check"),
        ("wal", "show"),
        ("wal", "replay"),
        ("wal", "repair"),
        ("history",),
        ("man",),
        ("store",),
        ("store", "rebuild"),
    ],
)
def test_command_has_help(command: tuple[str, ...]) -> None:
    run = synap if command == ("serve",) else synap_here
    ended = run(*command, "--help")
    assert ended.returncode == 0
    assert "Usage:" in ended.stdout


def test_config_check_of_a_valid_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("server: {port: 16000}")
    ended = synap("config", "check", str(file))
    assert (ended.returncode, ended.stdout) == (0, f"{file} is valid\n")


def test_config_check_with_faults_names_each_on_its_line(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("server: {prot: 1, workers: 0}")
    ended = synap("config", "check", str(file))
    assert ended.returncode == 3
    workers, prot = ended.stderr.splitlines()
    assert workers.startswith("synap: server.workers = 0: allowed is a whole number from 1 to 512")
    assert prot.startswith("synap: server.prot: unknown key; did you mean server.port?")


def test_config_show_prints_the_values_in_effect() -> None:
    ended = synap("config", "show", "--set", "server.host=::1", SYNAP_PORT="16001")
    assert "  host: ::1\n  port: 16001\n" in ended.stdout


def test_serve_with_a_faulty_setting_is_refused_in_one_line() -> None:
    ended = synap("serve", "--port", "99999")
    assert ended.returncode == 3
    assert ended.stderr == (
        "synap: server.port = 99999: allowed is a whole number from 1 to 65535 "
        "(from the command line)\n"
    )


def test_serve_on_a_data_directory_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    lock = lock_file(tmp_path / "node.lock")
    ended = synap("serve", "--data-dir", str(tmp_path), "--port", str(free_port()))
    os.close(lock)
    assert ended.returncode == 3
    assert ended.stderr == (
        f"synap: {tmp_path} is in use by another process; "
        "stop it first or choose another data_dir\n"
    )


def test_serve_on_a_port_in_use_is_refused_with_the_port(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        ended = synap("serve", "--host", HOST, "--port", str(port), "--data-dir", str(tmp_path))
    assert ended.returncode == 3
    assert f"synap: {HOST}:{port} (HTTP) can't be listened on: it is in use." in ended.stderr


def test_cluster_with_a_port_in_use_starts_nothing(tmp_path: Path) -> None:
    base_port = free_port_block(33)
    with socket.create_server((HOST, base_port + 10)):
        ended = synap(
            "cluster", "--base-port", str(base_port), "--data-dir", str(tmp_path / "data")
        )
    assert ended.returncode == 3
    assert f"{HOST}:{base_port + 10} (HTTP of node2) can't be listened on" in ended.stderr
    assert "choose another --base-port" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_cluster_with_ports_beyond_the_last_is_refused(tmp_path: Path) -> None:
    ended = synap("cluster", "--base-port", "65530", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 3
    assert "--base-port = 65530" in ended.stderr
