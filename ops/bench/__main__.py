"""Run the groups of rows, print them, and keep them in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ops.bench import (
    footprint,
    growth,
    machine,
    many,
    pace,
    replicas,
    replication,
    restart,
    snapshots,
    throughput,
    workers,
)
from ops.bench.report import Section, keep, print_section
from ops.bench.settings import Settings

# A group is a module of its own; it comes into the benchmark by its line here.
GROUPS: dict[str, Callable[[Settings], Section]] = {
    "throughput": throughput.run,
    "pace": pace.run,
    "many": many.run,
    "replicas": replicas.run,
    "workers": workers.run,
    "restart": restart.run,
    "snapshots": snapshots.run,
    "footprint": footprint.run,
    "growth": growth.run,
    "replication": replication.run,
}
# What `--quick` runs where nothing is chosen.
QUICK_GROUPS = ("throughput", "pace", "many", "replicas", "growth")
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Two minutes, for a look at some; keeps nothing.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each system.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a measurement.")] = 10,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(GROUPS)}.")] = None,
    folder: Annotated[
        Path, typer.Option(help="Place on the disk to measure; it is left as it was.")
    ] = Path("/var/tmp"),
    write: Annotated[bool, typer.Option(help="Keep the result in docs/benchmarks.md.")] = True,
) -> None:
    """Measure Synap beside other programs, on this machine, in the same run."""
    console = Console()
    settings = Settings(folder, rounds, seconds)
    if quick:
        settings = replace(settings, rounds=1, seconds=1, keys=10_000, stored=20_000)
        settings = replace(settings, largest=100_000, stride=4)
    unknown = set(only or ()) - set(GROUPS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: allowed is {', '.join(GROUPS)}")
    description = machine.describe(folder)
    console.print(description, highlight=False)
    sections = [GROUPS[name](settings) for name in only or (QUICK_GROUPS if quick else GROUPS)]
    for section in sections:
        print_section(console, section)
        if write and not quick:
            keep(DOCUMENT, section, description)
    if any(section.faults for section in sections):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
