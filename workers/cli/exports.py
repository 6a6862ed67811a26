"""`synap export` and `synap import`: keys as lines of JSON, out of a node and into one."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import Progress

from synap.errors import SynapError
from synap.service.exports import MAX_LINES, end_of, is_head
from workers.cli.http_call import CallFailed, CallRefused, post_bytes, stream
from workers.cli.options import DEFAULT_URL, NodeUrl

EXIT_FAILED = 1
# Of one request of an import: well below the smallest body that a node may be set to take.
PIECE_BYTES = 512 * 1024
_PIECE_LINES = min(5000, MAX_LINES)
# How the lines begin that are no key's, so that only these are looked into.
_BESIDE = (b'{"position"', b'{"end"')
# Of an export's first line: a position, and a prefix that may be escaped.
_MAX_HEAD_BYTES = 16 * 1024
# No node takes a longer line: server.max_request_size_mb at its highest.
_MAX_LINE_BYTES = 1024 * 1024 * 1024
# Lines of other files have no end: what is no longer than this is read at once.
_STEP_BYTES = 1024 * 1024
# While a node is down, or another one takes over, a piece is sent again for so long.
_RETRY_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
_READ_BYTES = 1024 * 1024


class ExportInvalid(Exception):
    """A file is no whole export; the message says why."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("export")(export_command)
    app.command("import")(import_command)


def export_command(
    prefix: Annotated[str, typer.Option(help="What the keys begin with; all without it.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else standard output.")
    ] = None,
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Write all keys that begin with a prefix, of one state, as lines of JSON."""
    try:
        if output is None:
            entries = _export(url, prefix, sys.stdout.buffer)
        else:
            entries = _export_to(url, prefix, output)
    except (ExportInvalid, CallFailed) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(f"{entries} keys", err=True)


def import_command(
    file: Annotated[Path, typer.Argument(help="What `synap export` wrote.")],
    url: NodeUrl = DEFAULT_URL,
) -> None:
    """Write the keys of an export, having checked that it is whole.

    It goes in pieces, each of which is written at once; what the node has beside is left alone.
    """
    console = Console(stderr=True)
    try:
        entries = check_export(file)
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("writing", total=file.stat().st_size)
            _import(url, file, lambda count: bar.update(task, advance=count))
    except (ExportInvalid, CallFailed) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(f"{entries} keys")


def check_export(file: Path) -> int:
    """Return the number of keys in an export, having read all of it.

    Raises:
        ExportInvalid: it is none, was cut, or changed.
        OSError: it can't be read.
    """
    if not file.is_file():
        # What is not there says so.
        file.stat()
        raise ExportInvalid(f"{file} is no file; an import is read twice")
    watch = _Sum()
    with file.open("rb") as lines:
        head = lines.readline(_MAX_HEAD_BYTES)
        if head and not head.endswith(b"\n") and len(head) == _MAX_HEAD_BYTES:
            raise ExportInvalid(f"{file} is no export: its first line has no end")
        lines.seek(0)
        for line in _lines(lines):
            watch.take(line)
    return watch.finish(str(file))


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of keys of an export, as many at once as one request takes."""
    piece: list[bytes] = []
    size = 0
    for line in _lines(file):
        if line.startswith(_BESIDE) and (is_head(line) or end_of(line) is not None):
            continue
        if piece and (size + len(line) > PIECE_BYTES or len(piece) == _PIECE_LINES):
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece)


def _import(url: str, file: Path, note: Callable[[int], None]) -> None:
    # Each run is another one: what was imported before may have been changed since.
    run = secrets.token_hex(8)
    with file.open("rb") as lines:
        for number, piece in enumerate(pieces(lines)):
            _send(url, piece, f"import-{run}-{number}")
            note(len(piece))


def _send(url: str, piece: bytes, key: str) -> None:
    """Send a piece, as often as it takes; it is written once."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            post_bytes(url, "/kv/import", piece, {"Idempotency-Key": key})
            return
        except CallFailed as error:
            is_final = isinstance(error, CallRefused) and not error.is_for_now
            if is_final or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _export_to(url: str, prefix: str, output: Path) -> int:
    """Write an export to a file, which has its name when it is whole."""
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            entries = _export(url, prefix, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return entries


def _export(url: str, prefix: str, output: BinaryIO) -> int:
    watch = _Sum()
    rest = b""
    with stream(url, f"/kv/export?prefix={quote(prefix, safe='')}") as answer:
        while chunk := answer.read1(_READ_BYTES):
            output.write(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                watch.take(line + b"\n")
    output.flush()
    return watch.finish(url)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines, in memory one at a time.

    Raises:
        ExportInvalid: one is longer than any that a node takes.
    """
    while line := file.readline(_STEP_BYTES):
        if not line.endswith(b"\n") and len(line) == _STEP_BYTES:
            line = _long_line(file, line)
        yield line


def _long_line(file: BinaryIO, begin: bytes) -> bytes:
    """Return a line of which the first bytes were read."""
    parts = [begin]
    for _ in range(_MAX_LINE_BYTES // _STEP_BYTES):
        parts.append(file.readline(_STEP_BYTES))
        if parts[-1].endswith(b"\n") or len(parts[-1]) < _STEP_BYTES:
            return b"".join(parts)
    raise ExportInvalid(f"a line is longer than the {_MAX_LINE_BYTES} bytes that a node may take")


class _Sum:
    """The sum over an export's lines, the last one held against it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._lines = 0
        self._last = b""
        self._is_export = False

    def take(self, line: bytes) -> None:
        """Take the next line."""
        if self._lines == 1:
            self._is_export = _is_head(self._last)
        self._digest.update(self._last)
        self._last = line
        self._lines += 1

    def finish(self, name: str) -> int:
        """Return the number of keys.

        Raises:
            ExportInvalid: this is no whole export.
        """
        try:
            end = end_of(self._last) if self._last else None
        except SynapError:
            end = None
        if not self._is_export:
            raise ExportInvalid(f"{name} is no export: its first line has no position")
        if end is None:
            raise ExportInvalid(f"{name} was cut: its last line is missing")
        if end != (self._lines - 2, self._digest.hexdigest()):
            raise ExportInvalid(
                f"{name} was changed: its lines are not those that the last one sums up"
            )
        return end[0]


def _is_head(line: bytes) -> bool:
    try:
        return is_head(line)
    except SynapError:
        return False
