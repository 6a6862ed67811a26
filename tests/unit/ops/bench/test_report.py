"""The benchmark's results as Markdown."""

from __future__ import annotations

from pathlib import Path

from ops.bench.report import Picture, Section, keep, markdown, with_section

SECTION = Section("Speed", "How.", ("", "Synap"), [("GET", "10")], ["SET: it failed"])


def test_markdown_of_a_section_has_table_machine_and_faults() -> None:
    assert markdown(SECTION, "2 cores").splitlines() == [
        "## Speed", "", "How.", "", "Machine: 2 cores.", "",
        "|  | Synap |", "| --- | ---: |", "| GET | 10 |", "", "- failed: SET: it failed",
    ]  # fmt: skip


def test_with_section_replaces_the_section_of_that_title_alone() -> None:
    text = "# Benchmarks\n\nIntro.\n\n## Speed\n\nold\n\n## Size\n\nkept\n"
    expected = "# Benchmarks\n\nIntro.\n\n## Speed\n\nnew\n\n## Size\n\nkept\n"
    assert with_section(text, "Speed", "## Speed\n\nnew\n") == expected


def test_with_section_of_a_new_title_comes_last() -> None:
    assert with_section("# Benchmarks\n", "Speed", "## Speed\n") == "# Benchmarks\n\n## Speed\n"


def test_keep_puts_pictures_beside_the_document(tmp_path: Path) -> None:
    picture = Picture("speed.svg", "Speed", "<svg/>")
    keep(tmp_path / "b.md", Section("Speed", "How.", ("",), [], [], [picture]), "2 cores")
    assert (tmp_path / "speed.svg").read_text() == "<svg/>"
    assert "![Speed](speed.svg)" in (tmp_path / "b.md").read_text()
