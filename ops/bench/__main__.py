"""Run the groups of rows, print them, and keep them in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ops.bench import footprint, machine, replication, restart, snapshots, throughput, workers
from ops.bench.report import Section, keep, print_section
from ops.bench.settings import Settings

# A group is a module of its own; it comes into the benchmark by its line here.
GROUPS: dict[str, Callable[[Settings], Section]] = {
    "throughput": throughput.run,
    "workers": workers.run,
    "restart": restart.run,
    "snapshots": snapshots.run,
    "footprint": footprint.run,
    "replication": replication.run,
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes, for a look; keeps nothing.")
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
        settings = replace(settings, rounds=3, seconds=3, stored=100_000)
    unknown = set(only or ()) - set(GROUPS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: allowed is {', '.join(GROUPS)}")
    description = machine.describe(folder)
    console.print(description, highlight=False)
    sections = [GROUPS[name](settings) for name in only or GROUPS]
    for section in sections:
        print_section(console, section)
        if write and not quick:
            keep(DOCUMENT, section, description)
    if any(section.faults for section in sections):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
