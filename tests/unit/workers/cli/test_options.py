"""The options of the commands that ask a node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from workers.cli.app import app
from workers.cli.options import local_or_url, node_url

CONNECTION = {"--user", "--password-file", "--api-key", "--cacert", "--cert", "--key", "--insecure"}


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("db1", "http://db1:15500"),
        ("db1:16000", "http://db1:16000"),
        ("::1", "http://[::1]:15500"),
        ("[::1]:16000", "http://[::1]:16000"),
        ("http://db1:16000/", "http://db1:16000"),
        ("https://db1/synap", "https://db1/synap"),
    ],
)
def test_host_port_and_url_name_the_same_node(text: str, url: str) -> None:
    assert node_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "db1:port", "db1:99999", "db1/path", "ftp://db1", "http://", "http://a:b@db1"],
)
def test_text_that_names_no_node_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        node_url(text)


def commands(command: Any, name: str = "synap") -> Iterator[tuple[str, Any]]:
    yield name, command
    for each, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {each}")


def test_every_command_that_asks_a_node_takes_the_options_of_the_connection() -> None:
    lacking = {}
    for name, command in commands(typer.main.get_command(app)):
        opts = {opt for each in command.params for opt in each.opts}
        if "--url" in opts or name == "synap diff":
            lacking[name] = CONNECTION - opts
    assert len(lacking) > 15
    assert {name: opts for name, opts in lacking.items() if opts} == {}


def test_node_of_a_data_directory_is_asked_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environ, "SYNAP_URL", "db1")
    assert local_or_url(None, None, None) == "http://db1:15500"
    assert local_or_url(None, Path("data")) is None
    assert local_or_url("http://db2:1", Path("data")) == "http://db2:1"
