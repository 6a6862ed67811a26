"""`synap shell` with a real node, on a terminal and off one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.command_line import synap_here
from tests.support import HOST, Node
from workers.cli.app import app
from workers.cli.shell import Commands
from workers.process import child_environment


@pytest.fixture
def url(shared_node: Node) -> str:
    return f"http://{HOST}:{shared_node.port}"


def test_lines_from_standard_input_are_commands(url: str) -> None:
    lines = b"set a 'b c'\nget a\n\n# nothing\nget a -o json\nexit\nget nobody\n"
    ended = synap_here("shell", "--url", url, stdin=lines)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[1] == "b c"
    assert ended.stdout.splitlines()[2].startswith('{"key": "a", "value": "b c"')


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        (b"get nobody", 1, "Key not found"),
        (b"get 'a", 2, "No closing quotation"),
        (b"serve", 2, "serve is not for a shell"),
        (b"nothing", 2, "No such command"),
        (b"nothing", 2, "Try 'synap -h' for help."),
        (b"synap get nobody", 1, "Key not found"),
        (b"synap serve", 2, "serve is not for a shell"),
        (b"get a --url 127.0.0.1:1", 3, "does not answer"),
    ],
)
def test_exit_code_is_that_of_the_last_line(url: str, line: bytes, code: int, told: str) -> None:
    ended = synap_here("shell", stdin=line, SYNAP_URL=url)
    assert (ended.returncode, told in ended.stderr) == (code, True)


def test_options_of_a_line_do_not_count_for_the_next(url: str) -> None:
    lines = b"--api-key wrong set k v\nincr n --by 2\n"
    assert synap_here("shell", stdin=lines, SYNAP_URL=url).returncode == 0
    assert "SYNAP_API_KEY" not in os.environ


def test_words_that_may_come_next_are_commands_and_options() -> None:
    commands = Commands(typer.main.get_command(app))
    assert {"get", "scan", "status"} < set(commands.names([]))
    assert "serve" not in commands.names([])
    assert "disable" in commands.names(["user"])
    assert {"--ttl", "--if-version", "--cacert"} < set(commands.names(["set", "a"]))


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, url: str, home: Path) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**child_environment(os.environ, None, {}), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.main", "shell", "--url", url],
            env={**environment, "SYNAP_SUPERVISOR_PID": "", "XDG_STATE_HOME": str(home)},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read_until(self, text: str) -> str:
        told = ""
        while text not in told:
            told += os.read(self._ours, 4096).decode(errors="replace")
            if "\x1b[6n" in told:
                # It asks where the cursor is.
                told = told.replace("\x1b[6n", "")
                self.type("\x1b[1;1R")
        return told

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)
        os.close(self._ours)


def test_terminal_completes_keys_and_keeps_a_history(
    url: str, shared_node: Node, tmp_path: Path
) -> None:
    shared_node.request("POST", "/kv/set", {"key": "fruit:apple", "value": "sweet"})
    terminal = Terminal(url, tmp_path)
    try:
        terminal.read_until("synap>")
        terminal.type("get fru\t")
        terminal.read_until("it:apple")
        terminal.type("\r")
        terminal.read_until("sweet")
        terminal.read_until("synap>")
        terminal.type("exit\r")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()
    history = tmp_path / "synap" / "history"
    assert re.search(r"^\+get fruit:apple$", history.read_text(), re.MULTILINE)
    assert history.stat().st_mode & 0o077 == 0
