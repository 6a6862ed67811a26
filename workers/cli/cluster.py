"""The commands on a running cluster: status, digest, promote, failover, follow, switchover."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.cli import agents, http_call
from workers.cli.cluster_status import NodeStatus, cluster_status, digests, faults_of
from workers.cli.diff import diff_command
from workers.cli.failover import Failover, FailoverFailed, Promoted
from workers.cli.http_call import post
from workers.cli.options import DEFAULT_URL, NodeUrl, Urls, node_url
from workers.cli.switchover import Switchover, SwitchoverFailed
from workers.process import EXIT_FAILED

Hosts = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the nodes' addresses, a line each.")
]
Force = Annotated[bool, typer.Option("--force", help="Also where that loses something.")]

_WATCH_SECONDS = 1.0
# How long nodes at different offsets get to come to the same one.
_LEVEL_SECONDS = 5.0
_LEVEL_LOOK_SECONDS = 0.2
_PIPE_COLUMNS = 160
_ANSWER_SECONDS = 5.0
# Of a replica that its master serves.
_LINKED = ("in_sync", "catching_up", "lagging", "syncing")
# Told from 1, which says that the node does not answer.
_EXIT_NOT_WELL = 4
_OPEN = "replication is open to whoever reaches its ports; set replication.secret on all nodes"
_COLUMNS = ("node", "URL", "role", "state", "epoch", "offset", "lag", "lag ms", "last contact")


failover_app = typer.Typer(help="Replace a master that is lost.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status")(status_command)
    app.command("digest")(digest_command)
    app.command("diff")(diff_command)
    app.command("promote")(promote_command)
    app.command("follow")(follow_command)
    app.command("switchover")(switchover_command)
    app.add_typer(failover_app, name="failover")
    agents.register(failover_app)


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
    """Show every node of the cluster, found from any of them.

    With credentials, only the nodes that you name are asked; the others are shown as these know
    them. Where a replica and its master differ about it, the worse of the two is shown. Exit codes:
    0, 1 where no node answers, and with --check 4 where not exactly one node takes writes, or one
    does not answer, is not in sync, is more than 10 s behind, or is not known here.
    """
    console = _wide_console()
    urls = _named_urls(url, hosts)
    while True:
        found = cluster_status(urls)
        nodes = found.nodes
        if output == "json":
            typer.echo(json.dumps([node.shown() for node in nodes]))
        else:
            if watch:
                console.clear()
            console.print(_table(nodes))
            for name in (node.node for node in nodes if node.open):
                console.print(f"{name}: {_OPEN}", highlight=False, markup=False)
            for node in (node for node in nodes if node.note):
                console.print(f"{node.node}: {node.note}", highlight=False, markup=False)
        if found.unknown:
            typer.echo(f"not known here: {found.unknown}", err=True)
        if not watch:
            break
        time.sleep(_WATCH_SECONDS)
    faults = faults_of(found) if check else []
    for fault in faults:
        typer.echo(f"synap: {fault}", err=True)
    if faults:
        raise typer.Exit(_EXIT_NOT_WELL)


def digest_command(
    url: Urls = None,
) -> None:
    """Compare what nodes hold, entry by entry; fails where it differs."""
    deadline = time.monotonic() + _LEVEL_SECONDS
    urls = _named_urls(url, None)
    found = digests(urls)
    while len({each["offset"] for each in found}) > 1 and time.monotonic() < deadline:
        time.sleep(_LEVEL_LOOK_SECONDS)
        found = digests(urls)
    for node, digest in zip(urls, found, strict=True):
        typer.echo(f"{digest['digest']}  offset {digest['offset']}  {digest['keys']} keys  {node}")
    if len({(each["offset"], each["digest"]) for each in found}) > 1:
        typer.echo("the nodes differ", err=True)
        raise typer.Exit(EXIT_FAILED)


def promote_command(
    url: NodeUrl = DEFAULT_URL,
    voters: Annotated[
        list[str] | None,
        typer.Option("--voter", metavar="URL", help="Another replica; give it several times."),
    ] = None,
    hosts: Hosts = None,
    force: Force = False,
) -> None:
    """Make the node at URL the master, in an epoch of its own.

    Where writes wait for replicas, so many of these must promise first to acknowledge nothing of
    the old master any more that no acknowledged write can be missing here; name them by --voter or
    --hosts. One that holds more is named, and is to be promoted in place of this one. --force goes
    without.
    """
    named = [*(voters or []), *([] if hosts is None else _named_urls([], hosts))]
    others = [each for each in map(node_url, named) if each != url]
    if force:
        _tell(_failover([]).force(url, others))
        return
    if http_call.get(url, "/health/replication", _ANSWER_SECONDS)["role"] != "replica":
        _tell(post(url, "/replication/promote", {"force": False}))
        return
    try:
        promoted = _failover([]).promote(url, others)
    except FailoverFailed as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    _tell_promoted(promoted)


@failover_app.callback(invoke_without_command=True)
def failover_command(
    context: typer.Context,
    url: Urls = None,
    hosts: Hosts = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The new master's PUB socket, where not on its URL's host."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Promote the best replica of a master that is lost, and have the others follow it.

    Name every node by --url or --hosts. Nobody is promoted where a write may be missing that was
    acknowledged, unless --force is given: the message says what is missing.
    """
    if context.invoked_subcommand is not None:
        return
    urls = _named_urls(url, hosts)
    try:
        promoted = _failover(urls).run(urls, force=force, address=address)
    except FailoverFailed as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    _tell_promoted(promoted)


def _failover(named: list[str]) -> Failover:
    has_credentials = http_call.has_credentials()
    switchover = Switchover(
        http_call, timeout_seconds=10.0, tell=typer.echo, named=named,
        asks_told=not has_credentials,
    )  # fmt: skip
    return Failover(http_call, switchover, typer.echo)


def _tell_promoted(promoted: Promoted) -> None:
    for loss in promoted.lost:
        typer.echo(f"given up: {loss}", err=True)
    typer.echo(
        f"{promoted.master.id} is the master from epoch {promoted.epoch} on, after offset "
        f"{promoted.offset}"
    )
    for name, why in promoted.strays.items():
        typer.echo(f"{name} does not follow {promoted.master.id}: {why}", err=True)
    if promoted.strays:
        raise typer.Exit(EXIT_FAILED)


def follow_command(
    master: Annotated[str, typer.Argument(metavar="MASTER", help="Its PUB socket, host:port.")],
    url: NodeUrl = DEFAULT_URL,
    sync_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Its ROUTER socket; else the port after MASTER."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, max=3600, help="How long to wait for the link, in seconds.")
    ] = 60.0,
    force: Force = False,
) -> None:
    """Make the node at URL a replica of MASTER; its data stays until it has joined.

    Nothing is changed where no master is heard at MASTER, unless --force is given. Waits until the
    link stands; exit code 1 where it does not within the time, with the reason.
    """
    body: dict[str, Any] = {"master_address": master, "force": force}
    if sync_address is not None:
        body["master_sync_address"] = sync_address
    _tell(post(url, "/replication/follow", body))
    why_not = _await_link(url, timeout)
    if why_not:
        typer.echo(f"synap: the link to {master} does not stand: {why_not}", err=True)
        raise typer.Exit(EXIT_FAILED)


def _await_link(url: str, timeout_seconds: float) -> str:
    """Wait until a replica is with its master, and tell how it goes; return why it is not."""
    deadline = time.monotonic() + timeout_seconds
    told = ""
    while True:
        try:
            facts = http_call.get(url, "/health/replication", _ANSWER_SECONDS)
        except http_call.CallFailed as error:
            facts = {"status": "away", "note": str(error)}
        state = facts.get("status", "")
        if state != told:
            typer.echo(f"{state}, offset {facts.get('local_offset', '?')}")
            told = state
        if state in _LINKED:
            return ""
        note = f"{state}{': ' if facts.get('note') else ''}{facts.get('note') or ''}"
        if state == "diverged" or time.monotonic() >= deadline:
            return note
        time.sleep(_LEVEL_LOOK_SECONDS)


def switchover_command(
    to: Annotated[str, typer.Option("--to", metavar="REPLICA", help="Its name or URL.")],
    url: Urls = None,
    hosts: Hosts = None,
    timeout: Annotated[
        float, typer.Option(min=0.5, max=60, help="Longest pause of the writes, in seconds.")
    ] = 10.0,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Its PUB socket, where not on its URL's host."),
    ] = None,
) -> None:
    """Make REPLICA the master with no write lost, and have every other node follow it.

    With credentials, every node must be named: they go nowhere else.
    """
    first, *others = _named_urls(url, hosts)
    switchover = Switchover(
        http_call,
        timeout_seconds=timeout,
        tell=typer.echo,
        named=others,
        asks_told=not http_call.has_credentials(),
    )
    try:
        moved = switchover.run(first, to.rstrip("/"), address)
    except SwitchoverFailed as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(
        f"no write was lost up to offset {moved.offset}; they were away for "
        f"{moved.away_seconds:.2f} s"
    )
    for name, why in moved.strays.items():
        typer.echo(f"{name} does not follow {moved.master.id}: {why}", err=True)
    if moved.strays:
        raise typer.Exit(EXIT_FAILED)


def _named_urls(urls: list[str] | None, hosts: Path | None) -> list[str]:
    """Return the nodes that the operator named, each once.

    Raises:
        OSError: the file can't be read.
    """
    lines = [] if hosts is None else hosts.read_text(encoding="utf-8").splitlines()
    listed = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    named = [*(urls or []), *map(node_url, listed)] or [DEFAULT_URL]
    return list(dict.fromkeys(named))


def _tell(taken: dict[str, Any]) -> None:
    for loss in taken["lost"]:
        typer.echo(f"given up: {loss}", err=True)
    became = "is now" if taken["changed"] else "already is"
    what = "the master" if taken["role"] == "master" else "a replica of that master"
    typer.echo(f"the node {became} {what}, epoch {taken['epoch']}, offset {taken['offset']}")
    if not taken["in_office"]:
        typer.echo("its processes have not shown themselves in that role yet", err=True)


def _wide_console() -> Console:
    """Return a console that cuts no column where the output goes to a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_COLUMNS)


def _table(nodes: list[NodeStatus]) -> Table:
    table = Table(*_COLUMNS)
    for node in nodes:
        contact = "" if node.contact_ms is None else f"{node.contact_ms / 1000:.1f} s ago"
        numbers = (node.epoch, node.offset, node.lag_entries, node.lag_ms)
        shown = ["" if number is None else str(number) for number in numbers]
        # As they are: a name may look like Rich's markup.
        texts = map(Text, (node.node, node.url, node.role, node.state, *shown, contact))
        table.add_row(*texts)
    return table
