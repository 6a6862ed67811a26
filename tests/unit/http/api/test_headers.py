"""The list of headers: nothing else in the application reads any."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import synap.http.api
from synap.http.api import headers
from synap.http.api.headers import Way, way_of

_FOLDER = Path(synap.http.api.__file__).parent
_SOURCES = sorted(_FOLDER.rglob("*.py"))
# Falcon's own ways to a request's headers.
_OTHER_WAYS = re.compile(
    r"\breq\.(get_header|headers|headers_lower|cookies|get_cookie|auth|accept)\b"
)


@pytest.mark.parametrize(
    "path", _SOURCES, ids=[str(each.relative_to(_FOLDER)) for each in _SOURCES]
)
def test_application_reads_headers_by_the_names_of_the_list_alone(path: Path) -> None:
    source = path.read_text()
    if path.name != "headers.py":
        assert "HeaderName(" not in source
        names = {
            each.value for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Constant)
        }
        assert not names & headers.read_names()
    assert not _OTHER_WAYS.search(source)


@pytest.mark.parametrize(
    "name",
    [
        "origin",
        "if-match",
        "if-modified-since",
        "x-synap-new",
        "sec-fetch-mode",
        "x-synap-min-offset",
    ],
)
def test_header_with_a_meaning_of_its_own_goes_the_long_way(name: str) -> None:
    assert way_of(name.encode()) is Way.ASIDE


def test_header_that_is_added_is_special_until_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(headers, "_ways", dict(headers._ways))
    assert way_of(b"x-new") is Way.PLAIN
    headers._header("x-new")
    assert way_of(b"x-new") is Way.ASIDE
