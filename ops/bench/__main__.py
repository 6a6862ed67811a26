"""Run the groups of rows, print them, and keep them in docs/benchmarks.md."""

from __future__ import annotations

import sys
import time
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
    real,
    replicas,
    replication,
    restart,
    snapshots,
    throughput,
    watch,
    workers,
)
from ops.bench.fleet import Fleet
from ops.bench.report import Section, keep, print_section
from ops.bench.settings import Settings

# A group is a module of its own; it comes into the benchmark by its line here.
GROUPS: dict[str, Callable[[Settings], Section]] = {
    "throughput": throughput.run,
    "pace": pace.run,
    "real": real.run,
    "many": many.run,
    "replicas": replicas.run,
    "workers": workers.run,
    "restart": restart.run,
    "snapshots": snapshots.run,
    "footprint": footprint.run,
    "growth": growth.run,
    "replication": replication.run,
    "watch": watch.run,
}
# What `--quick` runs where nothing is chosen.
QUICK_GROUPS = ("throughput", "pace", "many", "replicas", "growth")
_FILE_COLUMNS = 140
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Two minutes, for a look at some; keeps nothing.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each system.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a measurement.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(GROUPS)}.")] = None,
    folder: Annotated[
        Path, typer.Option(help="Place on the disk to measure; it is left as it was.")
    ] = Path("/var/tmp"),
    write: Annotated[bool, typer.Option(help="Keep the result in docs/benchmarks.md.")] = True,
) -> None:
    """Measure Synap beside other programs, on this machine, in the same run."""
    # Into a file it has no width of its own, and the tables want one.
    console = Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    unknown = set(only or ()) - set(GROUPS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: allowed is {', '.join(GROUPS)}")
    description = machine.describe(folder)
    console.print(description, highlight=False)
    has_faults = False
    with Fleet(folder) as fleet:
        settings = Settings(fleet, folder, rounds, seconds)
        if quick:
            settings = replace(settings, rounds=1, seconds=1, keys=10_000, stored=20_000)
            settings = replace(settings, largest=100_000, stride=4, calibrations=1)
        for name in only or (QUICK_GROUPS if quick else GROUPS):
            began = time.monotonic()
            section = GROUPS[name](settings)
            print_section(console, section)
            console.print(f"{name} took {time.monotonic() - began:.0f} s\n", highlight=False)
            if write and not quick:
                keep(DOCUMENT, section, description)
            has_faults = has_faults or bool(section.faults)
    if has_faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
