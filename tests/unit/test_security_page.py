"""The security page names a test for each of its claims: those tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
# What the page says that each of these can and can't do.
PLACES = (
    "A stranger who reaches HTTP",
    "A stranger who reaches the replication ports",
    "A member of the cluster",
    "A user with few permissions",
    "Another user of the machine",
    "A web page",
    "Who has a backup",
)


def named_tests() -> set[tuple[str, str]]:
    """Return file and function of each test that the page names."""
    return set(re.findall(r"`((?:unit|integration|system)/[\w/]+\.py)`, `(\w+)`", PAGE.read_text()))


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = named_tests()
    assert len(named) > 30
    assert [
        f"{file}, {name}" for file, name in sorted(named) if name not in functions_of(file)
    ] == []


def test_every_file_that_the_security_page_names_is_there() -> None:
    files = re.findall(r"`((?:unit|integration|system)/[\w/]+\.py)`", PAGE.read_text())
    assert [file for file in files if not (ROOT / "tests" / file).is_file()] == []


@pytest.mark.parametrize("place", PLACES)
def test_every_row_of_a_place_names_a_test(place: str) -> None:
    _, _, section = PAGE.read_text().partition(f"### {place}\n")
    rows = re.findall(r"^\| (?!tries|-)(.*) \|$", section.partition("\n#")[0], re.MULTILINE)
    assert rows
    assert [row for row in rows if not re.search(r"`\w+/[\w/]+\.py`, `\w+`", row)] == []
