"""Results as tables: on the terminal, and kept in docs/benchmarks.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a section, kept in a file beside the document.

    Attributes:
        file: Its name.
        caption: What it shows.
        svg: Its content.
    """

    file: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Section:
    """What one group of rows found.

    Attributes:
        title: Heading of the section.
        text: How it was measured, in a paragraph.
        header: The columns' names; the first column names the row.
        rows: Cells, as many as the header has.
        faults: What failed, each in a sentence; where there is one, a cell is missing.
        pictures: Shown below the table.
    """

    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    faults: Sequence[str] = field(default=())
    pictures: Sequence[Picture] = field(default=())


def print_section(console: Console, section: Section) -> None:
    """Print a section as a table, and its faults below it."""
    table = Table(title=section.title, caption=section.text, caption_justify="left")
    for number, name in enumerate(section.header):
        table.add_column(name, justify="right" if number else "left")
    for row in section.rows:
        table.add_row(*row)
    console.print(table)
    for fault in section.faults:
        console.print(f"failed: {fault}", style="red", highlight=False, markup=False)


def markdown(section: Section, machine: str) -> str:
    """Return a section as Markdown, with its heading and the machine it was measured on."""
    alignment = ["---", *("---:" for _ in section.header[1:])]
    lines = [f"| {' | '.join(cells)} |" for cells in (section.header, alignment, *section.rows)]
    faults = [f"- failed: {fault}" for fault in section.faults]
    parts = [f"## {section.title}", section.text, f"Machine: {machine}.", "\n".join(lines)]
    if faults:
        parts.append("\n".join(faults))
    parts += [f"![{each.caption}]({each.file})" for each in section.pictures]
    return "\n\n".join(parts) + "\n"


def keep(file: Path, section: Section, machine: str) -> None:
    """Put a section into `file` in place of the one with its title, or at the end.

    Its pictures come into the same folder.
    """
    for picture in section.pictures:
        file.with_name(picture.file).write_text(picture.svg, encoding="utf-8")
    text = file.read_text(encoding="utf-8") if file.exists() else "# Benchmarks\n"
    file.write_text(with_section(text, section.title, markdown(section, machine)), encoding="utf-8")


def with_section(text: str, title: str, section: str) -> str:
    """Return `text` with `section` in place of the one headed `title`, or at the end."""
    before, after = _around(text, title)
    return "\n\n".join(part.strip() for part in (before, section, after) if part.strip()) + "\n"


def _around(text: str, title: str) -> tuple[str, str]:
    """Return what stands before and after the section `title`; all and nothing without it."""
    pattern = rf"^## {re.escape(title)}\n.*?(?=^## |\Z)"
    found = re.search(pattern, text, re.DOTALL | re.MULTILINE)
    if found is None:
        return text, ""
    return text[: found.start()], text[found.end() :]
