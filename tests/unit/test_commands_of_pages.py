"""Every `synap` command that a page or a message names is there, with the options that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer

from tests.pages import ROOT
from workers.cli.app import app

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("clients/*/README.md")]
)
# In a block, at a line's beginning or behind a prompt; in the text, between backticks.
_IN_BLOCK = re.compile(r"^(?:\$ )?(?:.* \| )?(synap (?:.*\\\n)*.*)$", re.MULTILINE)
_IN_TEXT = re.compile(r"`(synap [^`]+)`")
_BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@cache
def root_command() -> Any:
    return typer.main.get_command(app)


def named_commands(text: str) -> Iterator[str]:
    for block in _BLOCK.findall(text):
        lines = "\n".join(line.strip() for line in block.splitlines())
        yield from _IN_BLOCK.findall(lines)
    for named in _IN_TEXT.findall(_BLOCK.sub("", text)):
        yield " ".join(named.split())


def fault_of(line: str) -> str:
    """Return what is wrong with a command; empty for nothing."""
    words = iter(shlex.split(line.replace("\\\n", " "), comments=True)[1:])
    command = root_command()
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            return ""
        if re.fullmatch(r"--?[a-z].*", name):
            option = next((each for each in command.params if name in each.opts), None)
            if option is None and name not in ("-h", "--help"):
                return f"{line}: no option {name}"
            if option is not None and not option.is_flag and not equals:
                next(words, None)
        elif inner := getattr(command, "commands", {}):
            if word not in inner and re.fullmatch("[a-z-]+", word):
                return f"{line}: no command {word}"
            command = inner.get(word, command)
    return ""


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_a_page_are_there(name: str) -> None:
    found = map(fault_of, named_commands((ROOT / name).read_text()))
    assert [fault for fault in found if fault] == []


def test_commands_are_found_in_blocks_and_text() -> None:
    assert len(list(named_commands((ROOT / "docs/operations.md").read_text()))) > 60


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("synap status --url X --watch", ""),
        ("synap status --uri X", "no option --uri"),
        ("synap statos", "no command statos"),
        ("synap wal chek DIR", "no command chek"),
    ],
)
def test_command_that_is_not_there_is_told(line: str, fault: str) -> None:
    assert fault in fault_of(line)
    assert bool(fault) == bool(fault_of(line))
