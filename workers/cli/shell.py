"""`synap shell`: the commands that ask a node, line by line.

Each line is one command as on the command line, with or without `synap`, so both have the same
options, words and exit codes. Off a terminal the lines are read from the standard input, without a
prompt.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import typer

from synap.errors import SynapError
from workers.cli.http_call import credentials
from workers.cli.options import DEFAULT_URL, URL_VARIABLE, NodeUrl
from workers.printable import printable

EXIT_FAILED = 1
EXIT_USAGE = 2
# These run nodes, or would run a shell in a shell.
_NOT_HERE = frozenset({"serve", "cluster", "shell"})
_ENDS = frozenset({"exit", "quit"})
_HINT = "type help for the commands, exit or Ctrl-D to end"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    def shell_command(url: NodeUrl = DEFAULT_URL) -> None:
        """Take commands line by line, with history and completion of commands and keys.

        Each line is a command without `synap`, as `get user:1` or `scan user: -o json`. Where the
        standard input is no terminal its lines are carried out, and the exit code is the last
        one's.
        """
        os.environ[URL_VARIABLE] = url
        # Asked for once.
        credentials()
        commands = Commands(typer.main.get_command(app))
        if sys.stdin.isatty():
            _converse(url, commands)
        else:
            raise typer.Exit(_carry_out_all(commands))

    app.command("shell")(shell_command)


class Commands:
    """What a line may be.

    Attributes:
        root: The command of all commands.
    """

    def __init__(self, root: Any) -> None:
        self.root = root

    def names(self, before: list[str]) -> list[str]:
        """Return what may come next behind the words `before`: commands, or options."""
        command = self.root
        for word in before:
            command = getattr(command, "commands", {}).get(word, command)
        below = getattr(command, "commands", {})
        if below:
            return sorted(name for name in below if name not in _NOT_HERE)
        return sorted(opt for each in command.params for opt in each.opts if opt.startswith("--"))

    def run(self, line: str) -> int:
        """Carry out one line, and return its exit code."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            typer.echo(f"synap: {error}", err=True)
            return EXIT_USAGE
        # What usage and errors show has it, and is typed as it is shown.
        words = words[1:] or ["help"] if words[:1] == ["synap"] else words
        if not words:
            return 0
        if words[0] in _NOT_HERE:
            typer.echo(f"synap: {words[0]} is not for a shell", err=True)
            return EXIT_USAGE
        words = ["--help"] if words == ["help"] else words
        # A line's options, as --user, count for that line.
        kept = dict(os.environ)
        try:
            return _code_of(lambda: self.root.main(words, prog_name="synap"))
        finally:
            os.environ.clear()
            os.environ.update(kept)


def _code_of(run: Callable[[], object]) -> int:
    try:
        run()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    except (SynapError, OSError) as error:
        typer.echo(f"synap: {printable(str(error))}", err=True)
        return EXIT_FAILED
    return 0


def _carry_out_all(commands: Commands) -> int:
    code = 0
    for line in sys.stdin:
        if line.strip() in _ENDS:
            break
        code = commands.run(line)
    return code


def _converse(url: str, commands: Commands) -> None:
    if find_spec("prompt_toolkit") is None:
        typer.echo("synap: a shell wants prompt_toolkit: pip install 'synap[shell]'", err=True)
        raise typer.Exit(EXIT_FAILED)
    # Half a second of imports that no other command needs.
    ask = importlib.import_module("workers.cli.shell_prompt").prompt(url, commands.names)
    typer.echo(f"{url}; {_HINT}")
    while True:
        try:
            line = ask()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if line.strip() in _ENDS:
            return
        commands.run(line)
