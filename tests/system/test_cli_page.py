"""The examples of docs/cli.md, in their order, with a fresh node: each prints what stands there."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

import pytest

from tests.command_line import synap_here
from tests.pages import ROOT, page
from tests.support import HOST, Node

PAGE_URL = "http://127.0.0.1:15500"
VERSION = re.compile(r"[0-9]+-[0-9a-f]{8}")
PIPED = re.compile(r"printf '(?P<sent>[^']*)' \| synap (?P<arguments>.*)")


class Example(NamedTuple):
    sent: bytes
    arguments: list[str]
    told: list[str]


def examples() -> list[Example]:
    found: list[Example] = []
    for block in re.findall(r"^```sh\n(.*?)^```", page("cli.md"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("# "):
                found[-1].told.append(line[2:])
                continue
            piped = PIPED.fullmatch(line)
            sent = piped["sent"].encode().decode("unicode_escape").encode() if piped else b""
            rest = piped["arguments"] if piped else line.removeprefix("synap ")
            found.append(Example(sent, shlex.split(rest), []))
    return found


def told_by(example: Example, url: str) -> list[str]:
    ended = synap_here(*example.arguments, stdin=example.sent, SYNAP_URL=url)
    lines = (ended.stdout + ended.stderr).replace(url, PAGE_URL).splitlines()
    return lines + ([f"exit code {ended.returncode}"] if ended.returncode else [])


def without_versions(lines: list[str]) -> list[str]:
    return [VERSION.sub("VERSION", line) for line in lines]


def test_every_example_prints_what_the_page_says(
    shared_node: Node, subtests: pytest.Subtests
) -> None:
    url = f"http://{HOST}:{shared_node.port}"
    assert len(examples()) > 10
    for example in examples():
        with subtests.test(" ".join(example.arguments)):
            assert without_versions(told_by(example, url)) == without_versions(example.told)


def test_commands_of_the_readme_do_what_it_says(shared_node: Node) -> None:
    block = re.search(r"^```sh\n(synap set .*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert block is not None
    for line in block[1].splitlines():
        command, _, told = line.partition("#")
        ended = synap_here(*shlex.split(command)[1:], SYNAP_URL=f"http://{HOST}:{shared_node.port}")
        assert ended.returncode == 0, line
        if command.startswith("synap get"):
            assert ended.stdout.strip() == told.strip()
