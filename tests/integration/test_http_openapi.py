"""What the API says of itself against what it does: requests made from its description."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode, checks

from synap.http.openapi import describe
from tests.integration.http_support import Client, error_of
from tests.support import HOST, Node

# Requests for each operation and kind of request; `make test` makes few, a look for faults many.
EXAMPLES = int(os.environ.get("SYNAP_API_EXAMPLES", "2"))
DESCRIPTION = describe(is_guarded=False)
# These end the node's service, hand its role over, or copy the whole store.
NOT_CALLED = (
    "/replication/promote",
    "/replication/follow",
    "/replication/pause",
    "/replication/step-down",
    "/snapshot",
    "/backup",
)
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
OPERATIONS = [
    result.ok()
    for result in schemathesis.openapi.from_dict(DESCRIPTION).get_all_operations()
    if result.ok().path not in NOT_CALLED
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for these calls alone, which write whatever they like."""
    settings = {"replication.read_wait_ms": 1, "kv_store.max_value_size_bytes": 100_000}
    node = Node(tmp_path_factory.mktemp("openapi"), "openapi", settings)
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def can_be_wrong(operation: Any) -> bool:
    """Whether a request can fail to fit the description: a header alone is just any text."""
    return operation.definition.raw.get("requestBody") is not None or any(
        each["in"] == "query" for each in operation.definition.raw["parameters"] if "in" in each
    )


REQUESTS = [(GenerationMode.POSITIVE, each) for each in OPERATIONS] + [
    (GenerationMode.NEGATIVE, each) for each in OPERATIONS if can_be_wrong(each)
]


@pytest.mark.parametrize(
    ("mode", "operation"), REQUESTS, ids=[f"{mode} {each.label}" for mode, each in REQUESTS]
)
def test_answer_to_a_request_made_from_the_description_is_as_described(
    node: Node, session: requests.Session, mode: GenerationMode, operation: Any
) -> None:
    @seed(1)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call(base_url=f"http://{HOST}:{node.port}", session=session)
        assert response.status_code != 500, response.text
        case.validate_response(response, checks=CHECKS)

    ask()


def test_method_that_is_not_described_is_405(node: Node) -> None:
    client = Client(node.port)
    for path, methods in DESCRIPTION["paths"].items():
        described = {method.upper() for method in methods}
        target = path.replace("{", "").replace("}", "")
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - described:
            answer = client.send(method, target)
            assert error_of(answer) == (405, "method_not_allowed", False), (method, target)
            assert described <= {each.strip() for each in answer.headers["allow"].split(",")}


def test_page_and_its_files_come_with_their_types_and_a_policy(node: Node) -> None:
    client = Client(node.port)
    for path, kind in (
        ("/docs", "text/html"),
        ("/docs/page.js", "text/javascript"),
        ("/docs/page.css", "text/css"),
    ):
        answer = client.get(path)
        assert answer.status == 200
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/openapi.json").json() == DESCRIPTION
