"""`synap history`: the reigns that a node's log went through, from its files or from itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from synap.backup.archive import shown_time
from synap.config.loading import load_config
from synap.node.past import Past, read_past
from synap.node.paths import NodePaths
from workers.cli.backup import Output
from workers.cli.http_call import CallFailed, get
from workers.cli.options import RemoteUrl, local_or_url
from workers.process import EXIT_FAILED

_ANSWER_SECONDS = 10.0


class _Told(msgspec.Struct, frozen=True):
    """What `GET /replication/history` answers."""

    reigns: list[Past]


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
    url: RemoteUrl = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="As text or JSON.")
    ] = Output.TEXT,
) -> None:
    """Show each change of the master that a node knows of: number, when, where, and who began it.

    It is read from node.json and the log on this machine, or told by the node at --url; any node of
    the cluster will do. The moment is known as long as the log reaches back to it. Where agents run
    (failover.engine), `synap failover history` tells the node's name, the reason and what was lost,
    too.
    """
    asked = local_or_url(url, data_dir, config)
    found = _past_here(config, data_dir) if asked is None else _past_at(asked)
    if output is Output.JSON:
        typer.echo(json.dumps([msgspec.to_builtins(each) for each in found]))
        return
    for each in found:
        typer.echo(_line(each))


def _past_here(config: Path | None, data_dir: Path | None) -> list[Past]:
    given = {} if data_dir is None else {"data_dir": str(data_dir)}
    paths = NodePaths.of(load_config(config, given))
    try:
        return read_past(paths)
    except FileNotFoundError as error:
        typer.echo(
            f"synap: {paths.data_dir} is no node's data directory; name it by --data-dir, or a "
            "node by --url",
            err=True,
        )
        raise typer.Exit(EXIT_FAILED) from error


def _past_at(url: str) -> list[Past]:
    try:
        return msgspec.convert(get(url, "/replication/history", _ANSWER_SECONDS), _Told).reigns
    except msgspec.ValidationError as error:
        raise CallFailed(f"{url} does not answer as a Synap node does: {error}") from error


def _line(each: Past) -> str:
    when = "unknown" if each.began_ms is None else shown_time(each.began_ms)
    wrote = "goes on" if each.entries is None else f"{each.entries} entries"
    return f"{each.epoch}  {when}  from offset {each.first_offset}, {wrote}  {each.cause}"
