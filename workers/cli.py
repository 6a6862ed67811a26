"""The command line, `synap`: reads the arguments, calls what does the work, returns a code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from synap import __version__
from synap.config import load_config, render
from synap.errors import StartError, SynapError
from workers import cli_backup, cli_cluster, cli_replication, cli_wal
from workers.cluster import Plan, run_cluster
from workers.http_call import CallFailed, post
from workers.process import EXIT_FAILED, EXIT_REFUSED
from workers.serve import serve

app = typer.Typer(
    help="Synap, a small replicated key-value cluster with an HTTP/JSON API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
cli_backup.register(app)
cli_wal.register(app)
cli_replication.register(app)
cli_cluster.register(app)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file; else the one in SYNAP_CONFIG."),
]
NodeUrl = Annotated[str, typer.Option("--url", help="The node's HTTP address.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key, as server.port=15500."),
]


@app.command("serve")
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
    raise typer.Exit(serve(config, {**given, **_settings(setting)}))


@app.command("cluster")
def cluster_command(
    replicas: Annotated[int, typer.Option(min=0, max=50, help="Number of replicas.")] = 3,
    data_dir: Annotated[Path, typer.Option(help="Folder for the nodes' data.")] = Path("data"),
    base_port: Annotated[
        int, typer.Option(help="The master's HTTP port; replica i has ten times i more.")
    ] = 15500,
    workers: Annotated[
        int | None, typer.Option(min=1, help="HTTP workers of each node; else by the CPUs.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug to critical.")] = "warning",
) -> None:
    """Run a master and its replicas on this machine, in the foreground."""
    workers = workers or max(1, (os.cpu_count() or 1) // (replicas + 1))
    plan = Plan(replicas, data_dir, base_port, workers, log_level)
    raise typer.Exit(run_cluster(plan, Console()))


@app.command("snapshot")
def snapshot_command(url: NodeUrl = "http://127.0.0.1:15500") -> None:
    """Have a running node take a snapshot, and wait until it is durable and verified."""
    taken = post(url, "/snapshot")
    typer.echo(f"{taken['file']}, offset {taken['offset']}")


@config_app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="The YAML file to check.")],
) -> None:
    """Name every fault of FILE, and of the environment over it, at once."""
    load_config(file)
    typer.echo(f"{file} is valid")


@config_app.command("show")
def show_command(config: ConfigFile = None, setting: Setting = None) -> None:
    """Print the values in effect, from defaults, file, environment and --set."""
    typer.echo(render(load_config(config, _settings(setting))), nl=False)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    typer.echo(f"synap {__version__}")


def main() -> None:
    """Run the command line; what can't start says why in one line for each fault."""
    try:
        app()
    except StartError as error:
        for line in str(error).splitlines():
            print(f"synap: {line}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
    except (CallFailed, SynapError, OSError) as error:
        print(f"synap: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _settings(given: list[str] | None) -> dict[str, Any]:
    settings = {}
    for setting in given or ():
        key, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting} is not KEY=VALUE", param_hint="--set")
        settings[key] = value
    return settings


if __name__ == "__main__":
    main()
