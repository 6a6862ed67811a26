"""`synap history`: the reigns that a node's log went through, from its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from synap.backup.archive import shown_time
from synap.config.loading import load_config
from synap.errors import SynapError
from synap.node.identity import read_identity
from synap.node.paths import NodePaths
from synap.position import Lineage
from synap.wal.segment import SegmentHeader
from synap.wal.walk import has_segments, headers_in
from workers.cli.backup import Output
from workers.process import EXIT_FAILED


@dataclass(frozen=True, slots=True)
class Past:
    """One reign.

    Attributes:
        epoch: Its number.
        first_offset: Of the first entry that it may have written.
        entries: What it wrote, as far as a later reign tells; None of the one that goes on.
        began_ms: Wall clock of the segment that it began; None where that is no longer there.
        cause: Who began it.
        history: Its id, in hex.
    """

    epoch: int
    first_offset: int
    entries: int | None
    began_ms: int | None
    cause: str
    history: str


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("history")(history_command)


def history_command(
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of a node on this machine; it may run.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Its configuration.")
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="As text or JSON.")
    ] = Output.TEXT,
) -> None:
    """Show each change of the master that a node knows of: number, when, where, and who began it.

    It is read from node.json and the log on this machine, on any node of the cluster. The moment is
    known as long as the log reaches back to it. Where agents run (failover.engine), `synap failover
    history` tells the node's name, the reason and what was lost, too.
    """
    given = {} if data_dir is None else {"data_dir": str(data_dir)}
    paths = NodePaths.of(load_config(config, given))
    try:
        lineage = read_identity(paths.node_file).lineage
    except FileNotFoundError as error:
        typer.echo(f"synap: {paths.data_dir} is no node's data directory; name it by --data-dir")
        raise typer.Exit(EXIT_FAILED) from error
    found = past_of(lineage, _headers(paths.wal_dir))
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        typer.echo(_line(each))


def past_of(lineage: Lineage, headers: list[SegmentHeader]) -> list[Past]:
    """Return the reigns, oldest first.

    Args:
        lineage: Those of a node.
        headers: Of the segments that it holds.
    """
    began: dict[bytes, int] = {}
    for header in headers:
        began.setdefault(header.history, header.created_ms)
    after = [*(reign.first_offset for reign in lineage[1:]), None][: len(lineage)]
    return [
        Past(
            epoch=reign.epoch,
            first_offset=reign.first_offset,
            entries=None if end is None else end - reign.first_offset,
            began_ms=began.get(reign.history),
            cause=_cause(number, is_unasked=reign.is_unasked),
            history=reign.history.hex(),
        )
        for number, (reign, end) in enumerate(zip(lineage, after, strict=True))
    ]


def _cause(number: int, *, is_unasked: bool) -> str:
    if is_unasked:
        return "the master itself, after a crash that may have cost it something"
    return "a promotion, or a restore" if number else "a new node, or a restore"


def _headers(wal_dir: Path) -> list[SegmentHeader]:
    """Return the headers of a log; none where it can't be read, which `synap doctor` tells."""
    try:
        return headers_in(wal_dir) if has_segments(wal_dir) else []
    except (OSError, SynapError):
        return []


def _line(each: Past) -> str:
    when = "unknown" if each.began_ms is None else shown_time(each.began_ms)
    wrote = "goes on" if each.entries is None else f"{each.entries} entries"
    return f"{each.epoch}  {when}  from offset {each.first_offset}, {wrote}  {each.cause}"
