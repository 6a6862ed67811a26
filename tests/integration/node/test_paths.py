"""A data directory that its user can't use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synap.node.paths import NodePaths
from tests.integration.http_support import make_config

# Who may do anything may do this too.
_PLAIN = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--ambient-caps", "-all")
_CHECK = """
import sys
from pathlib import Path
from synap.errors import DataDirUnusable
from synap.node.paths import NodePaths
from tests.integration.http_support import make_config
try:
    NodePaths.of(make_config(Path(sys.argv[1]))).check_access()
except DataDirUnusable as error:
    print(error.message)
"""


def refusal(folder: Path) -> str:
    """Return what a user without rights over others' files is told."""
    command = [*(_PLAIN if os.geteuid() == 0 else ()), sys.executable, "-c", _CHECK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    paths = NodePaths.of(make_config(tmp_path))
    paths.create()
    for path in (paths.wal_dir / "synap-1.wal", paths.node_file, paths.snapshots_dir / "a.bin"):
        path.write_bytes(b"")
    paths.foreign_dir.mkdir()
    return paths


def test_files_that_can_be_used_are_no_fault(tmp_path: Path, paths: NodePaths) -> None:
    (paths.snapshots_dir / "a.bin").chmod(0o400)
    paths.foreign_dir.chmod(0)
    assert refusal(tmp_path) == ""


def test_closed_file_is_named_with_what_opens_it(tmp_path: Path, paths: NodePaths) -> None:
    segment = paths.wal_dir / "synap-1.wal"
    segment.chmod(0)
    assert refusal(tmp_path).startswith(f"{segment} is closed to its own user: chmod -R u+rwX ")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_file_of_another_user_is_named_with_the_command(tmp_path: Path, paths: NodePaths) -> None:
    os.chown(paths.node_file, 54321, 54321)
    paths.node_file.chmod(0o600)
    told = refusal(tmp_path)
    assert told.startswith(f"{paths.node_file} belongs to user 54321")
    assert told.endswith(f"chown -R 0:{os.getegid()} {paths.data_dir}")
