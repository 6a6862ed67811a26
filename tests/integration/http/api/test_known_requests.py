"""What nobody would hear is refused by name, on every route of the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from synap.http.api.known_requests import CONDITION_HEADERS
from synap.http.api.openapi.route import Route
from synap.http.api.openapi.routes import ROUTES
from tests.integration.http_support import Client, error_of
from tests.support import Node

TABLE = [route for routes in ROUTES.values() for route in routes]
NAMES = [f"{route.method} {route.path}" for route in TABLE]
JSON = {"Content-Type": "application/json"}


def path_of(route: Route) -> str:
    return route.path.replace("{", "some-").replace("}", "")


@pytest.mark.parametrize("route", TABLE, ids=NAMES)
def test_parameter_that_a_route_does_not_have_is_400_that_names_it(
    client: Client, route: Route
) -> None:
    answer = client.send(route.method, path_of(route) + "?no_such=1", b"")
    assert error_of(answer) == (400, "unknown_parameter", False)
    assert "'no_such'" in answer.json()["error"]


@pytest.mark.parametrize(
    "route", [route for route in TABLE if not route.takes_bytes], ids=lambda route: route.path
)
def test_field_that_a_route_does_not_have_is_422_that_names_it(
    client: Client, route: Route
) -> None:
    answer = client.send(route.method, path_of(route), b'{"no_such": 1}', JSON)
    if route.path == "/api/v1/command":
        assert "'command'" in answer.json()["error"]
        return
    assert error_of(answer) == (422, "unknown_field", False)
    assert "'no_such'" in answer.json()["error"]


@pytest.mark.parametrize("route", TABLE, ids=NAMES)
@pytest.mark.parametrize("header", CONDITION_HEADERS.values())
def test_condition_that_does_not_count_on_a_route_is_400_that_names_it(
    client: Client, route: Route, header: str
) -> None:
    is_read = route.method == "GET" or route.kind == "read"
    is_harmless = (header == "If-Modified-Since" and route.method == "GET") or (
        header == "Idempotency-Key" and is_read
    )
    if header in route.conditions or is_harmless:
        return
    answer = client.send(route.method, path_of(route), b"", {header: "1"})
    assert error_of(answer) == (400, "condition_unsupported", False)
    assert header in answer.json()["error"]


@pytest.mark.parametrize(
    ("request_line", "hint"),
    [
        ("PUT /raw/k?TTL=60", "'ttl'"),
        ("PUT /raw/k?nx=1", "known are ttl"),
        ("GET /kv/scan?match=a*", "'pattern'"),
        ("GET /kv/scan?count=10", "'limit'"),
        ("GET /kv/scan?prefx=a", "'prefix'"),
        ("POST /kv/set?nx=1", "there are none"),
        (f"GET /health?{'x' * 3000}=1", "…"),
    ],
)
def test_unknown_parameter_comes_with_what_was_probably_meant(
    client: Client, request_line: str, hint: str
) -> None:
    method, _, target = request_line.partition(" ")
    answer = client.send(method, target, b"x")
    assert error_of(answer)[:2] == (400, "unknown_parameter")
    assert hint in answer.json()["error"]
    assert len(answer.body) < 500


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        (
            "/kv/set",
            {"key": "k", "value": 1, "tll": 60},
            "unknown field 'tll'; did you mean 'ttl'?",
        ),
        ("/kv/set", {"key": "k", "value": 1, "ex": 60}, "did you mean 'ttl'?"),
        ("/kv/set", {"key": "k", "value": 1, "colour": 1}, "known are expiry, get, "),
        ("/kv/mset", {"pairs": [{"key": "k", "value": "v", "TTL": 1}]}, "'pairs[0].TTL'; did you"),
        ("/kv/mset", {"pairs": [{"key": "k", "value": 1, "TTL": 1}]}, "'pairs[0].TTL'; did you"),
        ("/kv/k/append", {"value": 1, "ttl": 1}, "known are value"),
        ("/kv/set", {"key": "k", "value": 1, "expiry": {"typ": "x"}}, "'expiry.typ'; did you mean"),
    ],
)
def test_unknown_field_comes_with_what_was_probably_meant(
    client: Client, path: str, body: object, hint: str
) -> None:
    answer = client.post(path, body)
    assert error_of(answer)[:2] == (422, "unknown_field")
    assert hint in answer.json()["error"]


@pytest.mark.parametrize("cursor", ["zzz", "zzzz", "a2V5", "AAAA", "x" * 900])
def test_cursor_that_no_page_gave_is_400(client: Client, cursor: str) -> None:
    assert error_of(client.get(f"/kv/scan?cursor={cursor}"))[:2] == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/kv/mset", "/kv/msetnx"])
@pytest.mark.parametrize("value", ["text", 1])
def test_ttl_of_a_pair_counts(client: Client, key: str, path: str, value: object) -> None:
    name = f"{key}{path}{value}".replace("/", "")
    pairs = [{"key": name, "value": value, "ttl": 60}, [name + "2", value]]
    assert client.post(path, {"pairs": pairs}).json()["success"] is True
    assert 0 < client.get(f"/kv/{name}/ttl").json()["ttl"] <= 60
    assert client.get(f"/kv/{name}2/ttl").json() == {"ttl": None}


def test_body_of_a_request_that_takes_none_may_be_empty_or_an_empty_object(client: Client) -> None:
    for body in (b"", b"{}", b"null", b" {} "):
        assert client.send("DELETE", "/kv/del/none-such", body, JSON).status == 200
    answer = client.send("DELETE", "/kv/del/none-such", b"text")
    assert error_of(answer)[:2] == (400, "invalid_request")


def by_name(client: Client, command: str, **payload: object) -> dict[str, object]:
    answer = client.post("/api/v1/command", {"command": command, "payload": payload, "more": 1})
    assert answer.status == 200
    body = answer.json()
    assert isinstance(body, dict)
    return body


def test_command_by_name_may_have_more_fields_but_no_condition_that_does_not_count(
    client: Client, key: str
) -> None:
    assert by_name(client, "kv.set", key=key, value=1, colour="red")["success"]
    refused = by_name(client, "kv.incr", key=key, colour="red", nx=True)
    assert refused["error"] == "Invalid request: field 'nx' does not count for kv.incr"
    assert client.read(key) == "1"


def test_delete_by_name_takes_a_version(client: Client, key: str) -> None:
    client.put(key, "x")
    kept = by_name(client, "kv.del", key=key, if_version=0)
    assert kept["payload"] == {"deleted": False, "reason": "version_differs"}
    version = client.get(f"/kv/get/{key}").headers["etag"].strip('"')
    assert by_name(client, "kv.del", key=key, if_version=version)["payload"] == {"deleted": True}


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"server.unknown_fields": "ignore"}
    with Node(tmp_path_factory.mktemp("lenient"), "lenient", settings) as node:
        yield Client(node.port)


def test_node_that_ignores_unknown_fields_passes_over_them_as_it_did(lenient: Client) -> None:
    lenient.put("k", 1, colour="red")
    assert lenient.get("/kv/get/k?colour=red").json() == "1"
    pairs = [{"key": "a", "value": "1", "colour": 1}]
    assert lenient.post("/kv/mset", {"pairs": pairs}).status == 200
    assert lenient.send("DELETE", "/kv/del/k", b'{"colour":1}', JSON).json()["deleted"] is True


def test_node_that_ignores_unknown_fields_still_refuses_conditions(lenient: Client) -> None:
    answer = lenient.send("POST", "/kv/incr", b'{"key":"n"}', JSON | {"If-Match": '"1-00000000"'})
    assert error_of(answer)[:2] == (400, "condition_unsupported")
