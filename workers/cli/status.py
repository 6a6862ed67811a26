"""`synap status`: the nodes of a cluster as a table, once or again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workers.cli.cluster_status import UNREACHABLE, ClusterStatus, NodeStatus, cluster_status
from workers.cli.doctor.cluster import cluster_findings
from workers.cli.doctor.findings import Finding, Level
from workers.cli.http_call import CallFailed, credentials
from workers.cli.options import Hosts, Urls, named_urls

_WATCH_SECONDS = 1.0
_PIPE_COLUMNS = 160
# Told from 1, which says that the node does not answer.
EXIT_NOT_WELL = 4
_OPEN = "replication is open to whoever reaches its ports; set replication.secret on all nodes"
_CASCADE_COLUMNS = ("hops", "follows")
_COLUMNS = ("node", "role", "state", "epoch", "offset", "lag", "heard", "URL")
_RIGHT = ("epoch", "offset", "lag", "heard")
_PASSING = ("catching_up", "syncing", "lagging", "connecting", "recovering", "heard", "paused")
_LAG_SHOWN_MS = 1_000


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("status")(status_command)


def status_command(
    url: Urls = None,
    hosts: Hosts = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="table or json.")
    ] = "table",
    watch: Annotated[bool, typer.Option("--watch", help="Again every second.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit with 4 where the cluster is not as it should be, and say why."
        ),
    ] = False,
) -> None:
    """Show every node of the cluster, found from any of them, and what to do where one is not well.

    With credentials, only the nodes that you name are asked; the others are shown as these know
    them. Where a replica and its master differ about it, the worse of the two is shown. With
    --watch a node that was seen once stays, until Ctrl-C. Exit codes: 0, 1 where no node answers,
    and with --check 4 where not exactly one node takes writes, or one does not answer, is not in
    sync, is more than 10 s behind, or is not known here. `synap doctor` looks closer.
    """
    urls = named_urls(url, hosts)
    if watch:
        _watch(urls, is_json=output == "json")
        return
    try:
        found = cluster_status(urls)
    except CallFailed as error:
        raise CallFailed(f"{error}; name another node by --url, which knows the rest") from error
    findings = cluster_findings(found)
    if output == "json":
        typer.echo(json.dumps([node.shown() for node in found.nodes]))
    else:
        _wide_console().print(_shown(found, [] if check else findings))
    if found.unknown and output == "json" and not check:
        typer.echo(f"not known here: {found.unknown}", err=True)
    if check and findings:
        for each in findings:
            typer.echo(f"synap: {each.sentence}\n       {each.remedy}", err=True)
        raise typer.Exit(EXIT_NOT_WELL)


def kept_rows(before: Sequence[NodeStatus], found: ClusterStatus) -> ClusterStatus:
    """Return what was found, with the nodes of before that are not in it any more.

    Args:
        before: The rows of the last look.
        found: Those of this one.
    """
    names = {row.node for row in found.nodes if row.node}
    urls = {row.url for row in found.nodes if row.url and row.node}
    lost = [
        row for row in before
        if row.node and row.node not in names and row.url not in urls
    ]  # fmt: skip
    # A node that was named and does not answer has a row without its name.
    gone = {row.url for row in lost}
    rows = [row for row in found.nodes if row.node or row.url not in gone]
    return ClusterStatus([*rows, *map(_lost, lost)], found.unknown)


def _lost(row: NodeStatus) -> NodeStatus:
    return replace(row, state=UNREACHABLE, note=row.note or "no node that answers tells of it now")


def _watch(urls: Sequence[str], *, is_json: bool) -> None:
    """Show the cluster every second, whatever becomes of its nodes, until Ctrl-C."""
    # A password is asked for before the table is there.
    credentials()
    console = _wide_console()
    try:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            for found in _looks(urls):
                if is_json:
                    typer.echo(json.dumps([node.shown() for node in found.nodes]))
                else:
                    live.update(_shown(found, cluster_findings(found)), refresh=True)
                time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        return


def _looks(urls: Sequence[str]) -> Iterator[ClusterStatus]:
    """Yield how the cluster stands, for ever; nodes that were seen once stay."""
    rows: list[NodeStatus] = []
    while True:
        try:
            found = cluster_status(urls)
        except CallFailed:
            named = [NodeStatus("", url, "", UNREACHABLE) for url in urls]
            found = ClusterStatus(named, "")
        found = kept_rows(rows, found)
        rows = found.nodes
        yield found


def _shown(found: ClusterStatus, findings: Sequence[Finding]) -> RenderableType:
    """Return the table, the notes under it, and what to do."""
    lines: list[RenderableType] = [_table(found.nodes)]
    for node in found.nodes:
        notes = [node.note] if node.note else []
        notes += [_OPEN] if node.open else []
        lines += [Text(f"{node.node or node.url}: {each}") for each in notes]
    for each in findings:
        style = "bold red" if each.level is Level.FAULT else "yellow"
        lines.append(Text.assemble((each.sentence, style), f"\n  {each.remedy}"))
    return Group(*lines)


def _table(nodes: Sequence[NodeStatus]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    # Where a replica follows another one.
    is_cascaded = any((node.hops or 0) > 1 for node in nodes)
    for column in (*_COLUMNS, *(_CASCADE_COLUMNS if is_cascaded else ())):
        is_right = column in _RIGHT
        table.add_column(
            column, justify="right" if is_right else "left", no_wrap=column != "URL",
            overflow="fold",
        )  # fmt: skip
    for node in nodes:
        # As they are: a name may look like Rich's markup.
        cells = _cells(node)
        if is_cascaded:
            cells += ["" if node.hops is None else str(node.hops), node.upstream]
        texts = [Text(each) for each in cells]
        texts[2].stylize(_style(node))
        table.add_row(*texts)
    return table


def _cells(node: NodeStatus) -> list[str]:
    heard = "" if node.contact_ms is None else f"{node.contact_ms / 1000:.1f}s"
    numbers = ["" if each is None else str(each) for each in (node.epoch, node.offset)]
    return [node.node, node.role, node.state, *numbers, _lag(node), heard, node.url]


def _lag(node: NodeStatus) -> str:
    """Return the entries that a replica lacks, and their age where that is worth a word."""
    if node.lag_entries is None:
        return ""
    age_ms = node.lag_ms or 0
    age = f"/{age_ms / 1000:.1f}s" if age_ms >= _LAG_SHOWN_MS else ""
    return f"{node.lag_entries}{age}"


def _style(node: NodeStatus) -> str:
    if node.is_well:
        return "green"
    return "yellow" if node.state in _PASSING else "bold red"


def _wide_console() -> Console:
    """Return a console that cuts no column where the output goes to a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_COLUMNS)
