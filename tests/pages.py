"""Pages of docs/ that name tests for what they claim, as `file.py`, `test_name` below tests/."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FILE = r"`((?:unit|integration|system|chaos)/[\w/]+\.py)`"
NAMED_TEST = re.compile(rf"{_FILE}, `(\w+)`")


def page(name: str) -> str:
    """Return a page's text."""
    return (ROOT / "docs" / name).read_text()


def named_tests(text: str) -> set[tuple[str, str]]:
    """Return file and function of each test that a page names."""
    return set(NAMED_TEST.findall(text))


def missing_tests(text: str) -> list[str]:
    """Return the files and tests that a page names and that are not there."""
    files = set(re.findall(_FILE, text))
    gone = sorted(file for file in files if not (ROOT / "tests" / file).is_file())
    named = sorted((file, name) for file, name in named_tests(text) if file not in gone)
    return gone + [f"{file}, {name}" for file, name in named if name not in _functions_of(file)]


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one."""
    _, found, rest = text.partition(f"{heading}\n")
    assert found, f"there is no {heading!r}"
    return rest.partition("\n#")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of the tables, without rules."""
    found = re.findall(r"^\| (?!-)(.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in found]


@cache
def _functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))
