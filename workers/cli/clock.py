"""`synap clock`: what an operator says of a machine's clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synap.ipc.admin_messages import ClockConfirmed, ConfirmClock
from workers.cli.http_call import post
from workers.cli.options import RemoteUrl, local_or_url
from workers.cli.owner_call import ask_here

clock_app = typer.Typer(help="Say that a machine's clock is right.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(clock_app, name="clock")


@clock_app.callback()
def _group() -> None:
    """Say that a machine's clock is right."""


@clock_app.command("confirm")
def confirm_command(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="The master's configuration."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The master's data directory; else the configured one.")
    ] = None,
    url: RemoteUrl = None,
) -> None:
    """Have keys expire by a clock that has jumped: it is right now."""
    url = local_or_url(url, config, data_dir)
    seconds = _confirm_here(config, data_dir) if url is None else _confirm_at(url)
    if seconds:
        typer.echo(f"confirmed; deadlines follow the clock's jump by {seconds:+.1f} s")
    else:
        typer.echo("the clock has not jumped; there was nothing to confirm")


def _confirm_at(url: str) -> float:
    return float(post(url, "/clock/confirm")["seconds"])


def _confirm_here(config: Path | None, data_dir: Path | None) -> float:
    confirmed = ask_here(config, data_dir, ConfirmClock())
    assert isinstance(confirmed, ClockConfirmed)
    return confirmed.seconds
