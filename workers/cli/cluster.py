"""The commands on a running cluster: digest, promote, failover, follow, switchover."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from workers.cli import agents, http_call
from workers.cli.cluster_status import digests
from workers.cli.diff import diff_command
from workers.cli.failover import Failover, FailoverFailed, Promoted
from workers.cli.http_call import post
from workers.cli.members import Members, state_folder
from workers.cli.options import DEFAULT_URL, Hosts, NodeUrl, Urls, named_urls, node_url
from workers.cli.switchover import Switchover, SwitchoverFailed, sockets_seen_from
from workers.process import EXIT_FAILED

Force = Annotated[bool, typer.Option("--force", help="Also where that loses something.")]

# How long nodes at different offsets get to come to the same one.
_LEVEL_SECONDS = 5.0
_LEVEL_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 5.0
# Of a replica that its master serves.
_LINKED = ("in_sync", "catching_up", "lagging", "syncing")

failover_app = typer.Typer()


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("digest")(digest_command)
    app.command("diff")(diff_command)
    app.command("promote")(promote_command)
    app.command("follow")(follow_command)
    app.command("switchover")(switchover_command)
    app.add_typer(failover_app, name="failover")
    agents.register(failover_app)


def digest_command(
    url: Urls = None,
) -> None:
    """Compare what nodes hold, entry by entry; fails where it differs."""
    deadline = time.monotonic() + _LEVEL_SECONDS
    urls = named_urls(url, None)
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
    named = [*(voters or []), *([] if hosts is None else named_urls([], hosts))]
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

    Name every node by --url or --hosts; without credentials those are asked, too, that `synap
    status` has shown before. Nobody is promoted where a write may be missing that was
    acknowledged, unless --force is given: the message says what is missing. The commands below are
    for clusters whose agents do all this by themselves (failover.engine).
    """
    if context.invoked_subcommand is not None:
        return
    urls = named_urls(url, hosts)
    if not http_call.has_credentials():
        # Those that a look at this cluster has shown before.
        urls = list(dict.fromkeys([*urls, *Members(state_folder()).of(urls).values()]))
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
    for url in promoted.silent:
        typer.echo(f"when {url} is there again: `synap follow {promoted.master.url} --url {url}`")
    if promoted.strays:
        raise typer.Exit(EXIT_FAILED)


def follow_command(
    master: Annotated[
        str,
        typer.Argument(metavar="MASTER", help="Its URL, or its PUB socket as host:port."),
    ],
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

    A MASTER with http:// or https:// before it is asked where its replication listens. Nothing is
    changed where no master is heard there, unless --force is given. Waits until the link stands;
    exit code 1 where it does not within the time, with the reason.
    """
    body: dict[str, Any] = {"force": force, **_sockets_of(master)}
    if sync_address is not None:
        body["master_sync_address"] = sync_address
    _tell(post(url, "/replication/follow", body))
    why_not = _await_link(url, timeout)
    if why_not:
        typer.echo(f"synap: the link to {master} does not stand: {why_not}", err=True)
        raise typer.Exit(EXIT_FAILED)


def _sockets_of(master: str) -> dict[str, str]:
    """Return a master's sockets, as itself tells them where it is named by its URL."""
    if "://" not in master:
        return {"master_address": master}
    url = node_url(master)
    return sockets_seen_from(url, http_call.get(url, "/health/replication", _ANSWER_SECONDS))


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
    first, *others = named_urls(url, hosts)
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


def _tell(taken: dict[str, Any]) -> None:
    for loss in taken["lost"]:
        typer.echo(f"given up: {loss}", err=True)
    became = "is now" if taken["changed"] else "already is"
    what = "the master" if taken["role"] == "master" else "a replica of that master"
    typer.echo(f"the node {became} {what}, epoch {taken['epoch']}, offset {taken['offset']}")
    if not taken["in_office"]:
        typer.echo("its processes have not shown themselves in that role yet", err=True)
