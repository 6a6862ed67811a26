"""`synap doctor`: arguments, words and exit codes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from synap.config.keys import Config
from synap.node.paths import NodePaths
from workers.cli.cluster_status import ClusterStatus, cluster_status
from workers.cli.doctor.asking import ask_nodes, findings_of
from workers.cli.doctor.cluster import cluster_findings
from workers.cli.doctor.directory import backup_findings, directory_findings, now_ms
from workers.cli.doctor.findings import Finding, Level
from workers.cli.doctor.machine import machine_findings
from workers.cli.doctor.settings import (
    configuration,
    secret_file_findings,
    setting_findings,
    variable_findings,
)
from workers.cli.http_call import CallFailed, has_credentials
from workers.cli.options import DEFAULT_URL, Hosts, Urls, named_urls
from workers.health import ADDRESS_FILE
from workers.printable import printable

# As `status --check`: the answer is no.
_EXIT_NOT_WELL = 4
_STYLES = {Level.FAULT: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
_INDENT = " " * 9


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor_command)


def doctor_command(
    url: Urls = None,
    hosts: Hosts = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A data directory on this machine; its node may run."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="A node's configuration, and so it."),
    ] = None,
    backups: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of backups to look at, too.")
    ] = None,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="text or json.")
    ] = "text",
) -> None:
    """Look at everything that is known to go wrong, and say what to do about it.

    By --url, running nodes and their cluster: who takes writes, links and lag, clocks, versions,
    certificates, quorum, snapshots, damage, limits, what was put aside. By --data-dir or --config,
    a node of this machine, running or not: its configuration, the environment's variables, room,
    owners and modes, log, snapshots, open files, shared memory, and the node itself where it runs.
    Nothing is changed. Exit codes: 0, and 4 where there is a fault; warnings and notes are none.
    """
    environ = {name: value for name, value in os.environ.items() if value}
    found: list[Finding] = []
    looked_at: list[str] = []
    urls = list(url or ()) if url or hosts else []
    if hosts is not None or urls:
        urls = named_urls(url, hosts)
    is_local = data_dir is not None or config is not None
    if is_local:
        own_urls, here = _look_here(config, data_dir, environ)
        looked_at.append(str(data_dir or config))
        found += here
        urls = list(dict.fromkeys([*urls, *own_urls]))
    elif not urls and backups is None:
        urls = [DEFAULT_URL]
    if urls:
        found += _look_at_nodes(urls)
        looked_at += urls
    if backups is not None:
        found += backup_findings(backups, now_ms())
        looked_at.append(str(backups))
    found = sorted(dict.fromkeys(found), key=lambda each: each.level)
    _tell(found, looked_at, is_json=output == "json")
    if any(each.level is Level.FAULT for each in found):
        raise typer.Exit(_EXIT_NOT_WELL)


def _look_here(
    config: Path | None, data_dir: Path | None, environ: dict[str, str]
) -> tuple[list[str], list[Finding]]:
    """Look at a node of this machine; return its URL where it runs, and what is wrong."""
    found = [*variable_findings(environ), *secret_file_findings(environ)]
    loaded, faults = configuration(config, data_dir, environ)
    found += faults
    if loaded is None:
        if data_dir is None:
            return [], found
        # The directory can be looked at all the same.
        loaded = Config(data_dir=data_dir)
    else:
        found += setting_findings(loaded)
    paths = NodePaths.of(loaded)
    is_running = _is_locked(paths.lock_file)
    found += machine_findings(loaded, paths)
    found += directory_findings(paths, is_running=is_running, now_ms=now_ms())
    return list(_running_at(paths)) if is_running else [], found


def _is_locked(path: Path) -> bool:
    """Say whether a node holds the lock of its data directory."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _running_at(paths: NodePaths) -> Iterator[str]:
    try:
        yield (paths.run_dir / ADDRESS_FILE).read_text(encoding="utf-8")
    except OSError:
        return


def _look_at_nodes(urls: Sequence[str]) -> list[Finding]:
    try:
        found = cluster_status(urls)
    except CallFailed:
        # Each of them is asked below, and says so.
        found = ClusterStatus([], "")
    told = [] if has_credentials() else [row.url for row in found.nodes if row.url]
    seen = ask_nodes(list(dict.fromkeys([*urls, *told])))
    silent = {each.url for each in seen if not each.version}
    rows = [row for row in found.nodes if row.url not in silent]
    of_cluster = cluster_findings(ClusterStatus(rows, found.unknown)) if found.nodes else []
    return [*of_cluster, *findings_of(seen)]


def _tell(found: list[Finding], looked_at: list[str], *, is_json: bool) -> None:
    if is_json:
        document = {
            "well": not any(each.level is Level.FAULT for each in found),
            "looked_at": looked_at,
            "findings": [each.shown() for each in found],
        }
        typer.echo(json.dumps(document))
        return
    console = Console(highlight=False, markup=False)
    for each in found:
        head = Text(f"{each.level.word:8} ", style=_STYLES[each.level])
        console.print(head + Text(printable(each.sentence)), soft_wrap=True)
        console.print(f"{_INDENT}{printable(each.remedy)}", soft_wrap=True)
    names = ", ".join(looked_at)
    counts = {level: sum(1 for each in found if each.level is level) for level in Level}
    words = ", ".join(
        f"{count} {level.word}{'' if count == 1 else 's'}"
        for level, count in counts.items()
        if count
    )
    console.print(f"looked at {printable(names)}: {words or 'nothing is wrong'}", soft_wrap=True)
