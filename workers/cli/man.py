"""`synap man`: manual pages of all commands, from the text that --help shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from synap import __version__

# Lines that troff would take for its own begin with one of these.
_CONTROL = (".", "'")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("man")(man_command)


def man_command(
    context: typer.Context,
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Where they go; made where it is missing."),
    ] = Path("man1"),
) -> None:
    """Write a manual page for each command, as `synap-status.1`, that `man -l FILE` shows.

    `synap man --dir ~/.local/share/man/man1` has `man synap-status` find it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    root = context.find_root().command
    count = 0
    for names, command in all_commands(root):
        path = directory / f"{'-'.join(names)}.1"
        path.write_text(page_of(names, command), encoding="utf-8")
        # As manual pages are: for everybody.
        os.chmod(path, 0o644)
        count += 1
    typer.echo(f"{count} pages in {directory}")


def all_commands(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command with its names from `synap` on, parents first."""
    pending: list[tuple[tuple[str, ...], Any]] = [(("synap",), root)]
    while pending:
        names, command = pending.pop(0)
        yield names, command
        inner = getattr(command, "commands", {})
        pending += [((*names, name), each) for name, each in inner.items() if not each.hidden]


def page_of(names: tuple[str, ...], command: Any) -> str:
    """Return the page of a command, as troff reads it by its macros for manuals."""
    title, summary, rest = "-".join(names), *_split(command.help or "")
    lines = [
        f'.TH "{title.upper()}" 1 "" "synap {__version__}" "Synap"',
        ".SH NAME", f"{_text(title)} \\- {_text(summary)}",
        ".SH SYNOPSIS", f".B {_text(' '.join(names))}", _text(_usage(command)),
    ]  # fmt: skip
    if rest:
        lines += [".SH DESCRIPTION", *_paragraphs(rest)]
    lines += [*_options(command), *_inner(names, command)]
    return "\n".join(lines) + "\n"


def _split(help_text: str) -> tuple[str, str]:
    """Return the first sentence, without its stop, and what follows."""
    text = help_text.strip()
    first, _, rest = text.partition("\n\n")
    return " ".join(first.split()).rstrip("."), rest


def _usage(command: Any) -> str:
    arguments = [each.metavar or each.name.upper() for each in _arguments(command)]
    inner = ["COMMAND"] if getattr(command, "commands", {}) else []
    return " ".join(["[OPTIONS]", *arguments, *inner])


def _arguments(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "argument"]


def _options(command: Any) -> Iterator[str]:
    """Yield the arguments that have words, and the options by their groups."""
    arguments = [each for each in _arguments(command) if getattr(each, "help", None)]
    if arguments:
        yield ".SH ARGUMENTS"
    for each in arguments:
        yield from (".TP", f".I {_text(each.metavar or each.name.upper())}", _text(each.help))
    options = [each for each in command.params if each.param_type_name == "option"]
    if options:
        yield ".SH OPTIONS"
    for each in options:
        value = "" if each.is_flag else f" {each.metavar or 'VALUE'}"
        names = ", ".join([*each.opts, *each.secondary_opts])
        words = each.help or ""
        if each.envvar:
            words += f" Else the variable {each.envvar}."
        yield from (".TP", f".B {_text(names + value)}", _text(words.strip()) or "\\&")


def _inner(names: tuple[str, ...], command: Any) -> Iterator[str]:
    inner = {
        name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden
    }
    if inner:
        yield ".SH COMMANDS"
    for name, each in inner.items():
        summary, _ = _split(each.help or "")
        yield from (".TP", f".BR {_text('-'.join((*names, name)))} (1)", _text(summary))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        yield from (".PP", _text(" ".join(paragraph.split())))


def _text(words: str) -> str:
    """Return text that troff prints as it is."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith(_CONTROL) else escaped
