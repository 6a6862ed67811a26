"""The API's description: sound, whole, and the page that shows it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from falcon.inspect import inspect_compiled_router
from openapi_spec_validator import OpenAPIV31SpecValidator

from synap.config.loading import load_config
from synap.http.api.app import create_app
from synap.http.api.openapi import docs_page
from synap.http.api.openapi.document import describe

_CONVERTER = re.compile(r"{(\w+):\w+}")


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return describe(is_guarded=False)


def references_of(part: object) -> set[str]:
    """Return what a part of the description refers to."""
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(references_of, part.values()))
    return set().union(*map(references_of, part)) if isinstance(part, list) else set()


def test_description_is_valid_openapi(description: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(description).iter_errors()) == []


def test_description_has_the_applications_routes_and_no_others(
    description: dict[str, Any], tmp_path: Path
) -> None:
    app = create_app(load_config(None, {"data_dir": str(tmp_path)}, environ={}))
    served = {
        (method.method, _CONVERTER.sub(r"{\1}", route.path))
        for route in inspect_compiled_router(app._router)
        for method in route.methods
        if not method.internal and method.method not in ("HEAD", "OPTIONS")
    }
    described = {
        (method.upper(), path)
        for path, methods in description["paths"].items()
        for method in methods
    }
    assert described == served


def test_description_has_no_component_that_nothing_names(description: dict[str, Any]) -> None:
    named = references_of(description)
    components = {
        f"#/components/{kind}/{name}"
        for kind, parts in description["components"].items()
        if kind != "securitySchemes"
        for name in parts
    }
    # A path or a method that is not described is answered with 405.
    assert components - named == {"#/components/responses/405"}


def test_operations_that_need_credentials_name_the_ways_and_public_ones_none() -> None:
    description = describe(is_guarded=True)
    assert description["security"] == [{"bearer": []}, {"apiKey": []}, {"basic": []}]
    assert {} in describe(is_guarded=False)["security"]
    assert description["paths"]["/health"]["get"]["security"] == []
    assert "401" in description["paths"]["/metrics"]["get"]["responses"]


def test_page_names_no_address_and_puts_nothing_into_the_page_as_markup() -> None:
    for path in docs_page.FOLDER.iterdir():
        text = path.read_text()
        assert not re.search(r"https?:|//\w+\.|url\(|@import", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", text), path
        assert not re.search(r"<script>|<style|\son\w+=|style=", text), path


def test_every_operation_has_an_example_as_a_command() -> None:
    for path, methods in describe(is_guarded=True)["paths"].items():
        for method, operation in methods.items():
            command = operation["description"].splitlines()[1]
            assert command.startswith("curl "), path
            assert "{" not in shlex.split(command)[-1] or method in ("post", "put"), command


def test_operations_name_the_reasons_that_they_can_have_alone() -> None:
    paths = describe(is_guarded=True)["paths"]

    def reasons(operation: str, status: int) -> set[str]:
        method, _, path = operation.partition(" ")
        answer = paths[path][method.lower()]["responses"][str(status)]
        schema = answer["content"]["application/json"]["schema"]["allOf"][1]
        return set(schema["properties"]["reason"]["enum"])

    assert reasons("GET /kv/get/{key}", 404) == {"key_not_found"}
    assert "key_exists" in reasons("POST /key/{key}/copy", 400)
    assert "key_exists" not in reasons("POST /kv/set", 400)
    assert "writer_unavailable" not in reasons("GET /kv/scan", 503)
    assert "writer_unavailable" in reasons("POST /kv/set", 503)
    assert reasons("POST /replication/forget", 404) == {"replica_unknown"}
