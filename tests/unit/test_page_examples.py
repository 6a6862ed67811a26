"""The blocks of YAML in pages are configurations that a node takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from synap.config.loading import load_config
from tests.page_examples import documents
from tests.pages import ROOT

PAGES = sorted(path for path in ROOT.glob("docs/*.md") if documents(path.read_text()))
# A service of Compose, and a part of a configuration with … in it.
OTHER = ("container_name:", "…")


def test_pages_with_configurations_are_found() -> None:
    names = {path.stem for path in PAGES}
    assert {"operations", "security", "scaling", "configuration"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_configurations_of_a_page_are_valid(page: Path, tmp_path: Path) -> None:
    for text in documents(page.read_text()):
        if not any(part in text for part in OTHER):
            (tmp_path / "node.yaml").write_text(text)
            load_config(tmp_path / "node.yaml", environ={})
