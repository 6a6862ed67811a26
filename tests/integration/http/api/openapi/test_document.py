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
SOUND: tuple[tuple[str, dict[str, str], object], ...] = (
    ("POST /kv/set", {}, {"key": "k", "value": "text", "get": True}),
    ("GET /kv/get/{key}", {"key": "k"}, {"type": "bytes"}),
    ("GET /raw/{key}", {"key": "k"}, None),
    ("PUT /raw/{key}", {"key": "k"}, b"more text"),
    ("GET /key/{key}/type", {"key": "k"}, None),
    ("GET /key/{key}/exists", {"key": "k"}, None),
    ("GET /memory/{key}/usage", {"key": "k"}, None),
    ("POST /kv/{key}/append", {"key": "k"}, {"value": "x"}),
    ("GET /kv/{key}/getrange", {"key": "k"}, {"start": 0, "end": -2}),
    ("POST /kv/{key}/setrange", {"key": "k"}, {"offset": 2, "value": "x"}),
    ("GET /kv/{key}/strlen", {"key": "k"}, None),
    ("POST /kv/{key}/getset", {"key": "k"}, {"value": [1]}),
    ("POST /kv/{key}/expire", {"key": "k"}, {"ttl": 99}),
    ("GET /kv/{key}/ttl", {"key": "k"}, None),
    ("POST /kv/{key}/persist", {"key": "k"}, None),
    ("POST /kv/mset", {}, {"pairs": [["a", 1], {"key": "b", "value": 2}]}),
    ("POST /kv/msetnx", {}, {"pairs": [["a", 1]]}),
    ("POST /kv/mget", {}, {"keys": ["a", "none"]}),
    ("POST /kv/incr", {}, {"key": "a", "amount": 5}),
    ("POST /kv/decr", {}, {"key": "a"}),
    ("POST /kv/incrbyfloat", {}, {"key": "a", "amount": 0.5}),
    ("GET /kv/scan", {}, {"limit": 1, "pattern": "*"}),
    ("GET /kv/stats", {}, None),
    ("GET /key/randomkey", {}, None),
    ("POST /key/{key}/copy", {"key": "a"}, {"destination": "c"}),
    ("POST /key/{key}/rename", {"key": "c"}, {"destination": "d"}),
    ("POST /key/{key}/renamenx", {"key": "d"}, {"destination": "e"}),
    ("POST /api/v1/command", {}, {"command": "kv.get", "payload": {"key": "a"}}),
    ("POST /api/v1/command", {}, {"type": "batch", "commands": [{"command": "kv.dbsize"}]}),
    ("GET /kv/export", {}, {"prefix": "a"}),
    ("GET /watch", {}, {"prefix": "a", "from": "0-00000000", "wait": 0}),
    ("POST /kv/import", {}, b'{"key":"imported","value":"1"}'),
    ("POST /kv/txn", {}, {"if": [{"key": "a", "exists": False}], "then": [{"get": {"key": "a"}}],
                          "else": [{"set": {"key": "b", "value": 2}}, {"del": {"key": "none"}}]}),
    ("GET /idempotency/{key}", {"key": "named"}, None),
    ("POST /kv/mdel", {}, {"keys": ["a", "b"]}),
    ("DELETE /kv/del/{key}", {"key": "e"}, None),
    ("DELETE /raw/{key}", {"key": "k"}, None),
    *(
        (f"GET {path}", {}, None)
        for path in (
            "/", "/health", "/liveness", "/primary", "/read-only", "/health/replication",
            "/cluster",
            "/stats", "/info", "/metrics", "/slowlog", "/clients", "/digest", "/digest/range",
            "/openapi.json", "/docs", "/docs/page.js", "/docs/page.css", "/auth/me", "/auth/roles",
        )
    ),
    ("GET /readiness", {}, {"verbose": ""}),
    ("DELETE /slowlog", {}, None),
    ("POST /snapshot", {}, None),
    ("POST /verify", {}, None),
    ("GET /backup", {}, None),
    ("POST /auth/users", {}, {"username": "ann", "password": PASSWORD}),
    ("POST /auth/users/{name}/roles", {"name": "ann"}, {"role": "readonly"}),
    ("GET /auth/users", {}, None),
    ("GET /auth/users/{name}", {"name": "ann"}, None),
    ("POST /auth/login", {}, {"username": "ann", "password": PASSWORD}),
    ("POST /auth/users/{name}/password", {"name": "ann"}, {"new_password": PASSWORD}),
    ("DELETE /auth/users/{name}/roles/{role}", {"name": "ann", "role": "readonly"}, None),
    ("POST /auth/users/{name}/disable", {"name": "ann"}, None),
    ("POST /auth/users/{name}/enable", {"name": "ann"}, None),
    ("DELETE /auth/users/{name}", {"name": "ann"}, None),
    ("POST /auth/keys", {}, {"name": "key", "permissions": [{"resource": "*", "action": "read"}]}),
    ("GET /auth/keys", {}, None),
    ("DELETE /auth/keys/{id}", {"id": "NEWEST"}, None),
    ("POST /replication/pause", {}, {"seconds": 0.1}),
    ("POST /replication/resume", {}, None),
    ("POST /replication/promote", {}, {}),
    ("POST /clock/confirm", {}, None),
)  # fmt: skip
# Whose request is remembered.
NAMED = "POST /kv/decr"
# A standalone node has no answer of 200 to these.
NEVER_SOUND = {
    "GET /replica",
    "POST /replication/seal",
    "POST /replication/follow",
    "POST /replication/step-down",
    "POST /replication/accept",
    "POST /replication/forget",
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


def test_every_operation_answers_a_sound_request_as_described(
    node: Node, session: requests.Session
) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    key_id = ""
    for label, fields, sent in SOUND:
        method, _, path = label.partition(" ")
        place = {"query": sent} if method == "GET" else {"body": sent}
        if isinstance(sent, bytes):
            place["media_type"] = "application/octet-stream"
        elif sent is not None and method != "GET":
            place["media_type"] = "application/json"
        case = schema[path][method].Case(
            path_parameters={name: key_id if value == "NEWEST" else value
                             for name, value in fields.items()},
            headers={"Idempotency-Key": "named"} if label == NAMED else {},
            **({} if sent is None else place),
        )  # fmt: skip
        response = case.call(base_url=f"http://{HOST}:{node.port}", session=session)
        assert response.status_code == 200, (label, response.text)
        case.validate_response(response, checks=CHECKS)
        if label == "POST /auth/keys":
            key_id = response.json()["key"]["id"]
    described = {
        f"{method.upper()} {path}" for path in DESCRIPTION["paths"]
        for method in DESCRIPTION["paths"][path]
    }  # fmt: skip
    assert {label for label, _, _ in SOUND} | NEVER_SOUND == described


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
