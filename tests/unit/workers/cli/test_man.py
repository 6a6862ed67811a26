"""Manual pages: one for each command, with what --help has, that troff reads without a word."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import typer

from workers.cli.app import app
from workers.cli.man import _text, all_commands, page_of

ROOT = typer.main.get_command(app)


def pages() -> dict[str, str]:
    return {"-".join(names): page_of(names, command) for names, command in all_commands(ROOT)}


def test_every_command_has_a_page_with_a_summary_and_its_options() -> None:
    found = pages()
    assert {"synap", "synap-status", "synap-wal-check", "synap-failover-pause"} <= found.keys()
    for names, command in all_commands(ROOT):
        assert command.help, names
        text = found["-".join(names)]
        for option in (each for each in command.params if each.param_type_name == "option"):
            assert _text(option.opts[0]) in text, (names, option.name)


def test_page_of_status_tells_its_exit_codes_and_variable() -> None:
    text = pages()["synap-status"]
    assert "Exit codes: 0, 1 where no node answers" in text
    assert "Else the variable SYNAP_URL." in text


@pytest.mark.parametrize(
    ("words", "shown"), [(".TH", "\\&.TH"), ("a\\b", "a\\eb"), ("--url", "\\-\\-url")]
)
def test_text_is_no_request_of_troff(words: str, shown: str) -> None:
    assert _text(words) == shown


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_pages_are_read_by_groff_without_a_word() -> None:
    everything = "\n".join(pages().values())
    read: Any = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"], input=everything.encode(), capture_output=True,
        timeout=30, check=True,
    )  # fmt: skip
    assert read.stderr == b""
