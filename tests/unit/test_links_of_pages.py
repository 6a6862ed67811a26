"""Every link of a page leads to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.pages import ROOT

PAGES = [
    ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "clients/python/README.md",
    *sorted(ROOT.glob("docs/*.md")),
]  # fmt: skip
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


@cache
def anchors_of(path: Path) -> frozenset[str]:
    """Return what a page's headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", path.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return frozenset(re.sub(r"\s+", "-", heading) for heading in plain)


def dead_links(path: Path) -> list[str]:
    dead = []
    for target, anchor in _LINK.findall(_BLOCK.sub("", path.read_text())):
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            dead.append(f"{target}#{anchor}")
    return dead


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_every_page_is_in_the_sites_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert [path.name for path in ROOT.glob("docs/*.md") if path.name not in nav] == []
