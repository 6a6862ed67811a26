"""`synap backup`, `synap restore`, `synap inspect`: arguments, words and exit codes."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from synap.backup.archive import shown_time
from synap.backup.fetch import Fetched, fetch_backup
from synap.backup.restore import Restored, Target, restore
from synap.repair.inspection import Fact, Inspection, inspect
from synap.wal.walk import log_folder
from workers.cli.http_call import credentials
from workers.cli.options import DEFAULT_URL, NodeUrl
from workers.printable import printable
from workers.process import EXIT_CLEAN, EXIT_FAILED

_BAR = (
    TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
)  # fmt: skip
_STANDARD_OUTPUT = Path("-")
_MILLISECONDS = re.compile(r"[0-9]{12,}")


class Output(StrEnum):
    """How something is printed."""

    TEXT = "text"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("backup")(backup_command)
    app.command("restore")(restore_command)
    app.command("inspect")(inspect_command)


def backup_command(
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The file to write; - for the output.")
    ],
    url: NodeUrl = DEFAULT_URL,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Fetch a backup of a running node, and prove that it restores.

    FILE appears when all of this went well: its checksum is the node's, and a restore of it into a
    temporary place beside it has the digest that the node's data had. That takes twice its size.
    With - it is proven in a temporary folder (TMPDIR), then written to the standard output, and the
    words go to the standard error.
    """
    # A password is asked for before the bar is there.
    credentials()
    if output != _STANDARD_OUTPUT:
        _tell_fetched(_fetch(url, output, force=force), str(output))
        return
    if sys.stdout.isatty():
        raise typer.BadParameter("a backup is no text for a terminal: redirect it")
    with tempfile.TemporaryDirectory(prefix="synap-backup-") as folder:
        fetched = _fetch(url, Path(folder, "backup"), force=False)
        with fetched.path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer, 1024 * 1024)
        sys.stdout.buffer.flush()
    _tell_fetched(fetched, "the standard output", is_error=True)


def _fetch(url: str, output: Path, *, force: bool) -> Fetched:
    console = Console(stderr=True)
    with Progress(*_BAR, console=console, transient=True, disable=not console.is_terminal) as bar:
        return fetch_backup(url, output, force=force, now_ms=_now_ms, progress=_Bar(bar))


def _tell_fetched(fetched: Fetched, name: str, *, is_error: bool = False) -> None:
    manifest = fetched.manifest
    for line in (
        f"{name}: offset {manifest.position.offset} of epoch {manifest.position.epoch}, "
        f"{manifest.keys} keys, {fetched.bytes} bytes",
        f"checksum sha256:{fetched.checksum}",
        f"restored and compared: digest {manifest.digest}",
    ):
        typer.echo(line, err=is_error)


def restore_command(
    source: Annotated[
        Path, typer.Option("--from", metavar="FILE", help="A backup, or a snapshot's .bin file.")
    ],
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="The data directory to make; empty.")
    ],
    wal: Annotated[
        Path | None,
        typer.Option(
            "--wal", metavar="DIR", help="Replay this copy of the node's log, or data directory."
        ),
    ] = None,
    to_offset: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Replay up to and with this offset.")
    ] = None,
    to_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Replay up to this time: ISO 8601, or ms since 1970."),
    ] = None,
) -> None:
    """Make a data directory of a backup, that `synap serve --data-dir DIR` starts from.

    The node begins a new epoch. It is standalone, or a master where the configuration says so. To
    go back to a moment, give the log with --wal and the moment with --to-offset or --to-time.
    """
    console = Console(stderr=True)
    target = Target(to_offset, None if to_time is None else parse_time(to_time))
    with console.status("") as status:
        restored = restore(
            source,
            data_dir,
            now_ms=_now_ms(),
            wal_dir=None if wal is None else log_folder(wal),
            target=target,
            on_step=status.update,
        )
    for line in _words_for(restored):
        typer.echo(line)


def inspect_command(
    path: Annotated[
        Path,
        typer.Argument(help="A backup, snapshot, segment, folder of a log, or data directory."),
    ],
    output: Annotated[
        Output, typer.Option("--output", "-o", help="As text or JSON.")
    ] = Output.TEXT,
) -> None:
    """Say what is in a file or folder of Synap, having read and checked all of it."""
    found = inspect(path)
    if output is Output.JSON:
        typer.echo(_json(found))
    else:
        typer.echo(f"{found.path}: {found.kind}")
        for fact in found.facts:
            for line in _lines(fact):
                typer.echo(f"  {line}")
    raise typer.Exit(EXIT_CLEAN if found.is_sound else EXIT_FAILED)


def parse_time(text: str) -> int:
    """Return ms since 1970 of a time as ISO 8601 (UTC where it names no zone) or in such ms.

    Raises:
        typer.BadParameter: it is neither.
    """
    if _MILLISECONDS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text} is neither ISO 8601, as 2026-01-31T12:00:00Z, nor ms since 1970",
            param_hint="--to-time",
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


class _Bar:
    """The progress of a fetch, as a bar."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("connecting", total=None)

    def step(self, words: str) -> None:
        self._bar.update(self._task, description=words)

    def received(self, count: int, total: int) -> None:
        self._bar.update(self._task, completed=count, total=total)


def _words_for(restored: Restored) -> list[str]:
    replayed = restored.replayed_frames
    frames = f"{replayed} frame{'' if replayed == 1 else 's'}"
    lines = [
        f"{restored.data_dir}: offset {restored.offset}"
        + (f", of {shown_time(restored.time_ms)}" if restored.time_ms else ""),
        f"  image of offset {restored.image_offset}"
        + (f", {frames} of the log on it" if replayed else ""),
        f"  begins epoch {restored.reign.epoch}, history {restored.reign.history.hex()}",
    ]
    if restored.digest and not replayed:
        lines.append(f"  {restored.keys} keys, digest {restored.digest}")
    if restored.divided is not None:
        first, last = restored.divided
        lines.append(
            f"  offset {restored.offset} lies inside one write of entries {first} to {last}, which "
            f"was atomic: its entries up to {restored.offset} are there"
        )
    if restored.note:
        lines.append(f"  {restored.note}")
    lines.append(f"start it with: synap serve --data-dir {restored.data_dir}")
    return lines


def _lines(fact: Fact) -> list[str]:
    value = fact.value
    if isinstance(value, tuple):
        shown = [str(each) for each in value] or ["none"]
    elif value is None:
        shown = ["none"]
    elif fact.name.endswith("_ms") and isinstance(value, int):
        shown = [f"{value} ({shown_time(value)})"]
    else:
        shown = [str(value)]
    return [f"{fact.name}: {printable(each)}" for each in shown]


def _json(found: Inspection) -> str:
    document = {
        "kind": found.kind,
        "path": str(found.path),
        "sound": found.is_sound,
        **{fact.name: fact.value for fact in found.facts},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
