"""`synap serve`: its arguments. Apart from `workers.cli.app`, whose imports a node does without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workers.serve import serve

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file; else the one in SYNAP_CONFIG."),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key, as server.port=15500."),
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve")(serve_command)


@app.callback()
def _name_the_command() -> None:
    """Have the command's name wanted before its options, as where there are others."""


def serve_command(
    config: ConfigFile = None,
    role: Annotated[str | None, typer.Option(help="standalone, master or replica.")] = None,
    host: Annotated[str | None, typer.Option(help="Address that HTTP listens on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port that HTTP listens on.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The node's data directory.")] = None,
    master_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The master's PUB socket.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="HTTP workers.")] = None,
    node_id: Annotated[str | None, typer.Option(help="The node's name.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug to critical.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or pretty.")] = None,
    setting: Setting = None,
) -> None:
    """Run one node in the foreground; SIGTERM or Ctrl-C stops it cleanly."""
    options = {
        "replication.role": role,
        "server.host": host,
        "server.port": port,
        "data_dir": data_dir,
        "replication.master_address": master_address,
        "server.workers": workers,
        "server.node_id": node_id,
        "logging.level": log_level,
        "logging.format": log_format,
    }
    given = {key: value for key, value in options.items() if value is not None}
    raise typer.Exit(serve(config, {**given, **settings_of(setting)}))


def settings_of(given: list[str] | None) -> dict[str, Any]:
    """Return the values of `--set` by key."""
    settings = {}
    for setting in given or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting} is not KEY=VALUE", param_hint="--set")
        settings[key] = value
    return settings


register(app)
