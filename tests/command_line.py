"""The command line without a process of its own, whose start is most of what a command takes."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from workers.main import main
from workers.process import PARENT_VARIABLE, child_environment


def synap_here(
    *arguments: str, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that speaks to nodes or files, and return what its process would leave.

    That is all but `serve` and `cluster`, which become the supervisor of others. That the process
    itself hands arguments, words and exit codes through shows tests/system/test_cli.py.

    Args:
        arguments: What follows `synap` on the command line.
        stdin: What it reads, which is no terminal.
        variables: Of its environment, over this process's.
    """
    assert arguments[0] not in ("serve", "cluster") or "--help" in arguments
    environment = {
        **child_environment(os.environ, None, {}), PARENT_VARIABLE: "", "COLUMNS": "100",
        # A folder that there is not: nothing is remembered from one test to the next.
        "XDG_STATE_HOME": "/dev/null", **variables,
    }  # fmt: skip
    written = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    # As open as a user's may be: to close it is the command's.
    kept, mask = dict(os.environ), os.umask(0o022)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["synap", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        patch.setattr(sys, "stdout", written[0])
        patch.setattr(sys, "stderr", written[1])
        try:
            _replace_environment(environment)
            code = _exit_code_of_main()
        finally:
            _replace_environment(kept)
            os.umask(mask)
    out, err = (each.buffer.getvalue().decode(errors="surrogateescape") for each in written)
    return subprocess.CompletedProcess(["synap", *arguments], code, out, err)


def _exit_code_of_main() -> int:
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            return ended.code
        raise
    return 0


def _replace_environment(environment: dict[str, str]) -> None:
    # In place: functions have it as the default of a parameter.
    os.environ.clear()
    os.environ.update(environment)
