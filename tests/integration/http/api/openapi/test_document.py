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

from synap.http.api.openapi.document import describe
from synap.http.api.openapi.examples import Example, examples
from tests.integration.http_support import Client, error_of
from tests.support import HOST, Node

# Requests for each operation and kind of request; `make test` makes few, a look for faults many.
EXAMPLES = int(os.environ.get("SYNAP_API_EXAMPLES", "2"))
DESCRIPTION = describe(is_guarded=False)
# These end the node's service, hand its role over, or copy the whole store.
NOT_CALLED = (
    "/replication/promote",
    "/replication/seal",
    "/replication/follow",
    "/replication/pause",
    "/replication/step-down",
    "/snapshot",
    "/verify",
    "/backup",
    # Waits: see the sound request, and the feed's own tests.
    "/watch",
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
    with Node(tmp_path_factory.mktemp("openapi"), "openapi", settings) as node:
        yield node


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


PASSWORD = "correct horse"
# A request of each operation that is answered with 200, in an order in which they all are. Fields
# of the path come first, then the query or the body.
# Beside the examples, in which each operation is once.
MORE_SOUND = (
    Example("GET /kv/get/{key}", {"key": "user:100"}, {"type": "bytes"}),
    Example(
        "POST /api/v1/command", body={"type": "batch", "commands": [{"command": "kv.dbsize"}]}
    ),
    *(
        Example(f"GET {path}")
        for path in (
            "/backup", "/openapi.json", "/docs", "/docs/page.js", "/docs/page.css",
            "/docs/swagger-ui.js", "/docs/swagger-ui.css", "/console", "/console/settings.json",
        )
    ),
)  # fmt: skip
# A standalone node has no answer of 200 to these.
NEVER_SOUND = {
    "GET /replica",
    "POST /replication/seal",
    "POST /replication/follow",
    "POST /replication/step-down",
    "POST /replication/accept",
    "POST /replication/forget",
    # A node without slots has none to move.
    "POST /cluster/slots/step",
    "POST /cluster/slots/clear",
    "POST /cluster/slots/requests",
}


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


def test_every_operation_answers_a_sound_request_as_described_and_as_its_example(
    node: Node, session: requests.Session
) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    sound = [each for each in (*examples(), *MORE_SOUND) if each.operation not in NEVER_SOUND]
    newest = ""
    for each in sound:
        method, _, path = each.operation.partition(" ")
        place: dict[str, Any] = {"query": each.query} if each.query else {}
        if each.text is not None:
            place = {"body": each.text.encode(), "media_type": "application/octet-stream"}
        elif each.body is not None:
            place = {"body": each.body, "media_type": "application/json"}
        # An id is made when its operation is carried out.
        fields = each.path | ({"id": newest} if "id" in each.path else {})
        case = schema[path][method].Case(path_parameters=fields, headers=each.headers, **place)
        response = case.call(base_url=f"http://{HOST}:{node.port}", session=session)
        assert response.status_code == 200, (each.operation, response.text)
        case.validate_response(response, checks=CHECKS)
        if isinstance(each.answer, dict):
            assert response.json().keys() == each.answer.keys(), each.operation
        if each.operation == "POST /auth/keys":
            newest = response.json()["key"]["id"]
    described = {
        f"{method.upper()} {path}" for path in DESCRIPTION["paths"]
        for method in DESCRIPTION["paths"][path]
    }  # fmt: skip
    assert {each.operation for each in sound} | NEVER_SOUND == described
    assert {each.operation for each in examples()} >= NEVER_SOUND


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
        ("/docs/swagger-ui.js", "text/javascript"),
        ("/docs/swagger-ui.css", "text/css"),
    ):
        answer = client.get(path)
        assert answer.status == 200
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        held = {"If-None-Match": answer.headers["etag"]}
        assert client.get(path, held).status == 304
    assert client.get("/openapi.json").json() == DESCRIPTION
