"""`synap rolling`: a cluster restarted node by node, as for another version."""

from __future__ import annotations

import os
import subprocess
from typing import Annotated

import typer

from synap.addresses import host_of_url
from workers.cli import http_call
from workers.cli.cluster_status import NodeStatus, cluster_status
from workers.cli.http_call import CallFailed
from workers.cli.options import Hosts, Urls, named_urls
from workers.cli.rolling import Hands, Rolling, RollingFailed
from workers.cli.switchover import Switchover, SwitchoverFailed
from workers.process import EXIT_FAILED

_PAUSE_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("rolling")(rolling_command)


def rolling_command(
    command: Annotated[
        str,
        typer.Option(
            "--command",
            help="What restarts a node: a line for the shell, with SYNAP_NODE, SYNAP_NODE_URL and "
            "SYNAP_NODE_HOST. Without it you are asked to, node by node.",
        ),
    ] = "",
    version: Annotated[
        str,
        typer.Option(
            "--to-version", help="Nodes that run it are left alone; one that does not stops it."
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option(min=1, max=86_400, help="How long a node may take, in seconds.")
    ] = 300.0,
    url: Urls = None,
    hosts: Hosts = None,
) -> None:
    """Restart every node of a cluster, one by one, with a switchover in the middle.

    Replicas come first, those furthest from the master before others. Between two nodes the whole
    cluster must be well again; where it is not in time, it stops there. Run again, it begins anew.
    """
    urls = named_urls(url, hosts)

    def move_master(to: str) -> None:
        switchover = Switchover(
            http_call, timeout_seconds=_PAUSE_SECONDS, tell=typer.echo, named=urls[1:],
            asks_told=not http_call.has_credentials(),
        )  # fmt: skip
        moved = switchover.run(urls[0], to)
        typer.echo(f"no write was lost; they were away for {moved.away_seconds:.2f} s")

    hands = Hands(
        look=lambda: cluster_status(urls),
        get=http_call.get,
        restart=lambda node: _restart(node, command),
        move_master=move_master,
    )
    rolling = Rolling(hands, version=version, patience_seconds=timeout, tell=typer.echo)
    try:
        count = rolling.run()
    except (RollingFailed, SwitchoverFailed, CallFailed) as error:
        typer.echo(f"synap: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(f"{count} nodes were restarted")


def _restart(node: NodeStatus, command: str) -> None:
    """Have a node restarted.

    Raises:
        RollingFailed: the command failed.
    """
    if not command:
        typer.confirm(f"Restart {node.node} at {node.url} now, and say y", abort=True)
        return
    names = {
        "SYNAP_NODE": node.node,
        "SYNAP_NODE_URL": node.url,
        "SYNAP_NODE_HOST": host_of_url(node.url),
    }
    typer.echo(f"{node.node} is restarted")
    # The operator's own line. What a node says of itself comes in by the environment alone.
    done = subprocess.run(command, shell=True, env={**os.environ, **names}, check=False)
    if done.returncode:
        raise RollingFailed(f"the command for {node.node} failed, code {done.returncode}")
