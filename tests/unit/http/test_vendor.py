"""Files of others that the package carries: what they are is known, and they are unchanged."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from synap.http.vendor import FOLDER

LISTED: list[dict[str, Any]] = json.loads((FOLDER / "vendor.json").read_text())
_FIELDS = {"file", "name", "version", "source", "licence", "licence_files", "sha256"}


def test_list_names_every_file_and_no_other() -> None:
    there = {
        str(path.relative_to(FOLDER))
        for path in FOLDER.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    licences = {name for row in LISTED for name in row["licence_files"]}
    listed = {row["file"] for row in LISTED}
    assert there == listed | licences | {"vendor.json", "__init__.py"}


@pytest.mark.parametrize("row", LISTED, ids=[row["file"] for row in LISTED])
def test_vendored_file_is_as_it_was_published(row: dict[str, Any]) -> None:
    assert row.keys() == _FIELDS
    assert all(row.values())
    assert hashlib.sha256((FOLDER / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    for name in row["licence_files"]:
        assert "opyright" in (FOLDER / name).read_text()
