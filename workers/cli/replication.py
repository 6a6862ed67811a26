"""`synap replication`: what an operator decides about a replica."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synap.ipc.admin_messages import (
    AcceptMaster,
    ForgetReplica,
    MasterAccepted,
)
from workers.cli.http_call import post
from workers.cli.options import RemoteUrl, local_or_url
from workers.cli.owner_call import ask_here

replication_app = typer.Typer(help="Decide what a replica can't.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(replication_app, name="replication")


@replication_app.command("accept")
def accept_command(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="The replica's configuration."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The replica's data directory; else the configured one.")
    ] = None,
    url: RemoteUrl = None,
) -> None:
    """Have a diverged replica put its own data aside and take its master's."""
    url = local_or_url(url, config, data_dir)
    directory = _accept_here(config, data_dir) if url is None else _accept_at(url)
    typer.echo(
        "accepted; the replica fetches its master's snapshot, and then moves its own data to "
        f"{directory}"
    )


@replication_app.command("forget")
def forget_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its server.node_id.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="The master's configuration."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The master's data directory; else the configured one.")
    ] = None,
    url: RemoteUrl = None,
) -> None:
    """Have a master forget a replica that is gone for good.

    It is no longer shown, counted or alerted for, and a restart of the master does not wait for
    it. What that replica alone held is given up. Refused while it is connected.
    """
    url = local_or_url(url, config, data_dir)
    if url is None:
        ask_here(config, data_dir, ForgetReplica(name))
    else:
        post(url, "/replication/forget", {"replica": name})
    typer.echo(f"{name} is forgotten")


def _accept_at(url: str) -> str:
    return str(post(url, "/replication/accept")["directory"])


def _accept_here(config: Path | None, data_dir: Path | None) -> str:
    accepted = ask_here(config, data_dir, AcceptMaster())
    assert isinstance(accepted, MasterAccepted)
    return accepted.directory
