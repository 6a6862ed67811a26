"""The console's files: they ask nobody else, make no markup of data, and find each other."""

from __future__ import annotations

import re

import pytest

from synap.http.api.console.files import FOLDER, console_paths, file_places, page_file

OWN = sorted(path for path in FOLDER.rglob("*.*"))
MODULES = [path for path in OWN if path.suffix == ".js"]
IMPORT = re.compile(r'^import .*?"([^"]+)";', re.MULTILINE | re.DOTALL)
# The name of a form of markup, and where an address may lead that a node told.
_NAMES = r"http://www\.w3\.org/2000/svg|\^https\?:"


@pytest.mark.parametrize("path", OWN, ids=[path.relative_to(FOLDER).as_posix() for path in OWN])
def test_file_names_no_address_and_makes_no_markup_of_data(path: object) -> None:
    text = re.sub(_NAMES, "", path.read_text())  # type: ignore[attr-defined]
    assert not re.search(r"https?:|//\w+\.|url\(|@import", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|dangerously|\beval\b|Function\(", text
    )
    assert not re.search(r"<script>|<style|\son\w+=\"|\sstyle=", text)
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie", text)


def test_every_import_is_a_file_that_is_served() -> None:
    for path in MODULES:
        for name in IMPORT.findall(path.read_text()):
            wanted = (path.parent / name).resolve().relative_to(FOLDER).as_posix()
            assert wanted in file_places(), (path, name)


def test_page_names_only_files_that_are_served() -> None:
    named = re.findall(r'(?:href|src)="([^"]+)"', (FOLDER / "index.html").read_text())
    assert {f"/{name}" for name in named} < console_paths()


def test_file_has_a_tag_of_its_content_and_none_lies_outside() -> None:
    page, script = page_file(""), page_file("app.js")
    assert page is not None
    assert script is not None
    assert page.content_type.startswith("text/html")
    assert script.etag != page.etag
    assert page_file("../pages.py") is None
    assert page_file("nothing.js") is None
