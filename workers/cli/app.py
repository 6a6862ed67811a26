"""The command line, `synap`, with all its commands; `workers.main` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from synap import __version__
from synap.config.cpus import usable_cpus
from synap.config.loading import load_config, render
from workers.cli import (
    accounts,
    backup,
    clock,
    cluster,
    data,
    exports,
    history,
    keys,
    man,
    replication,
    roll,
    serve,
    shell,
    slots,
    status,
    wal,
    watch,
)
from workers.cli.doctor import command as doctor
from workers.cli.http_call import post
from workers.cli.options import DEFAULT_URL, HELP_NAMES, HttpGroup, NodeUrl
from workers.cli.serve import ConfigFile, Setting, settings_of
from workers.cluster import ClusterPlan, run_cluster
from workers.health import check

app = typer.Typer(
    help="Synap, a small replicated key-value cluster with an HTTP/JSON API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=HttpGroup,
    context_settings=HELP_NAMES,
)
config_app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
data.register(app)
serve.register(app)
backup.register(app)
wal.register(app)
replication.register(app)
clock.register(app)
cluster.register(app)
status.register(app)
doctor.register(app)
keys.register(app)
exports.register(app)
accounts.register(app)
shell.register(app)
watch.register(app)
man.register(app)
history.register(app)
roll.register(app)
slots.register(app)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"synap {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Synap, a small replicated key-value cluster with an HTTP/JSON API."""


@app.command("cluster")
def cluster_command(
    replicas: Annotated[int, typer.Option(min=0, max=50, help="Number of replicas.")] = 3,
    data_dir: Annotated[Path, typer.Option(help="Folder for the nodes' data.")] = Path("data"),
    base_port: Annotated[
        int,
        typer.Option(
            help="HTTP of node1, its replication at the two behind it; each other has ten more."
        ),
    ] = 15500,
    workers: Annotated[
        int | None, typer.Option(min=1, help="HTTP workers of each node; else by the CPUs.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug to critical.")] = "warning",
) -> None:
    """Run a master and its replicas on this machine, in the foreground.

    The nodes are node1, node2 and so on, each with its data in a folder of that name below
    --data-dir. In a new folder node1 is the master; what `synap switchover` and `synap failover`
    change, stays.
    """
    workers = workers or max(1, usable_cpus() // (replicas + 1))
    plan = ClusterPlan(replicas, data_dir, base_port, workers, log_level)
    raise typer.Exit(run_cluster(plan, Console()))


@app.command("snapshot")
def snapshot_command(url: NodeUrl = DEFAULT_URL) -> None:
    """Have a running node take a snapshot, and wait until it is durable and verified."""
    taken = post(url, "/snapshot")
    typer.echo(f"{taken['file']}, offset {taken['offset']}")


@app.command("health")
def health_command(url: NodeUrl = DEFAULT_URL) -> None:
    """Say whether a node is healthy; the exit code is 0 where it is and 1 where it is not."""
    is_healthy, told = check(url)
    typer.echo(told)
    raise typer.Exit(0 if is_healthy else 1)


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
    typer.echo(render(load_config(config, settings_of(setting))), nl=False)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    typer.echo(f"synap {__version__}")


# How `synap --help` groups the commands; what is not named stands below "Other".
_PANELS = {
    "When something is wrong": (
        "status", "doctor", "health", "history", "failover", "diff", "digest",
    ),
    "Keys and values": (
        "get", "set", "del", "incr", "scan", "watch", "export", "import", "shell", "user", "key",
    ),
    "Run nodes": (
        "serve", "cluster", "config", "switchover", "promote", "follow", "replication", "clock",
        "secret", "keygen", "rolling", "slots",
    ),
    "Files and backups": ("backup", "restore", "snapshot", "inspect", "wal", "store"),
}  # fmt: skip


def _group_commands() -> None:
    panels = {name: panel for panel, names in _PANELS.items() for name in names}
    for command in app.registered_commands:
        command.rich_help_panel = panels.get(str(command.name), "Other")
    for group in app.registered_groups:
        group.rich_help_panel = panels.get(str(group.name), "Other")


_group_commands()
