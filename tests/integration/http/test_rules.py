"""The rules that hold for every endpoint, on a whole node with either class of HTTP worker."""

import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.integration.conftest import running_node
from tests.integration.http_support import DEADLINE_SECONDS, Client, error_of, offset_of
from tests.support import HOST, Node

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", params=["synap", "uvicorn"])
def client(
    request: pytest.FixtureRequest, http_node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Ask the shared node, and then one whose HTTP is uvicorn-worker's."""
    if request.param == "synap":
        yield Client(http_node.port)
        return
    with running_node(tmp_path_factory.mktemp("uvicorn"), request.param) as node:
        yield Client(node.port)


@pytest.mark.parametrize(
    "name", ["a/b", "/", "a b", "ü/€/😀", "100%", "?#&=+", "..", "a\x00b", "get", "scan", "x" * 503]
)
def test_path_key_is_one_percent_encoded_segment(client: Client, name: str) -> None:
    client.put(name, name)
    path = f"/kv/get/{quote(name, safe='')}"
    assert client.get(path).json() == name
    deleted = client.send("DELETE", path.replace("/get/", "/del/")).json()
    assert deleted == {"deleted": True, "key": name}


def test_path_key_in_raw_utf8_or_lower_case_hex_is_the_same_key(client: Client, key: str) -> None:
    client.put("ü" + key, 1)
    assert client.get(f"/kv/get/%c3%bc{key}").json() == "1"


@pytest.mark.parametrize("path", ["/kv/get/", "/kv//ttl", "/key//exists"])
def test_empty_path_key_is_400_that_names_the_limit(client: Client, path: str) -> None:
    answer = client.get(path)
    assert error_of(answer)[:2] == (400, "key_invalid")
    assert "503" in answer.json()["error"]


@pytest.mark.parametrize("segment", ["%FF", "%C3", "%ED%A0%80", "a%FFb"])
def test_path_key_that_is_not_utf8_is_400(client: Client, segment: str) -> None:
    assert error_of(client.get(f"/kv/get/{segment}"))[:2] == (400, "key_invalid")


def test_key_over_the_limit_is_400_that_names_it_everywhere(client: Client) -> None:
    long = "x" * 504
    for answer in (
        client.get(f"/kv/get/{long}"),
        client.post("/kv/set", {"key": long, "value": 1}),
        client.post("/kv/mget", {"keys": [long]}),
        client.post("/key/a/rename", {"destination": long}),
    ):
        assert error_of(answer)[:2] == (400, "key_invalid")
        assert "503" in answer.json()["error"]


def test_fixed_word_under_kv_wins_over_a_key_of_that_name(client: Client) -> None:
    client.put("scan", "x")
    assert client.get("/kv/scan/ttl").status == 404
    assert client.get("/kv/%73can/ttl").status == 404
    assert client.get("/kv/get/scan").json() == "x"
    assert client.get("/kv/get/ttl").json()["reason"] == "key_not_found"


def test_every_write_names_an_offset_that_reads_have_reached(client: Client, key: str) -> None:
    first = client.put(key, 1)
    second = offset_of(client.post("/kv/incr", {"key": key}))
    removed = offset_of(client.send("DELETE", f"/kv/del/{key}"))
    assert first < second < removed
    assert offset_of(client.get(f"/kv/get/{key}")) >= removed


@pytest.mark.parametrize(
    "path",
    ["/kv/get/k", "/kv/k/strlen", "/kv/k/ttl", "/kv/scan", "/kv/stats", "/key/k/type",
     "/key/k/exists", "/key/randomkey", "/digest", "/stats"],
)  # fmt: skip
def test_every_read_names_its_offset_and_no_lag_on_a_master(client: Client, path: str) -> None:
    before = client.put("k", "x")
    answer = client.get(path)
    assert offset_of(answer) >= before
    assert "x-synap-lag-ms" not in answer.headers


def test_min_offset_that_is_applied_is_served_at_once(client: Client, key: str) -> None:
    offset = client.put(key, "x")
    answer = client.get(f"/kv/get/{key}", {"X-Synap-Min-Offset": str(offset)})
    assert answer.json() == "x"


@pytest.mark.parametrize("path", ["/kv/get/k", "/kv/scan", "/kv/k/strlen", "/digest"])
def test_min_offset_that_is_not_reached_is_503(client: Client, path: str) -> None:
    answer = client.get(path, {"X-Synap-Min-Offset": "99999999"})
    assert error_of(answer) == (503, "not_caught_up", True)
    assert "99999999" in answer.json()["error"]


@pytest.mark.parametrize("offset", ["-1", "x", "", "1.5", "9" * 30])
def test_min_offset_that_is_none_is_400(client: Client, offset: str) -> None:
    answer = client.get("/kv/get/k", {"X-Synap-Min-Offset": offset})
    assert error_of(answer)[:2] == (400, "invalid_request")


def test_head_answers_as_get_does_without_the_body(client: Client, key: str) -> None:
    client.put(key, "value")
    for path in (f"/kv/get/{key}", "/kv/scan", f"/kv/{key}/ttl", "/health", "/kv/get/none-such"):
        head, get = client.send("HEAD", path), client.get(path)
        assert (head.status, head.body) == (get.status, b"")
        assert set(head.headers) == set(get.headers)
    assert client.send("HEAD", f"/kv/get/{key}").headers["content-length"] == "7"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/kv/set", "POST"),
        ("POST", "/kv/get/k", "GET"),
        ("PUT", "/kv/del/k", "DELETE"),
        ("PROPFIND", "/kv/scan", "GET"),
        ("DELETE", "/health", "GET"),
        ("GET", "/key/k/rename", "POST"),
    ],
)
def test_wrong_method_is_405_with_allow(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = client.send(method, path)
    assert error_of(answer)[:2] == (405, "method_not_allowed")
    assert allowed in answer.headers["allow"].split(", ")


@pytest.mark.parametrize("path", ["/kv", "/kv/nope", "/kv/k/nope", "/kv/get/a/b", "/nope"])
def test_unknown_path_is_404(client: Client, path: str) -> None:
    assert error_of(client.get(path))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nope", b'{"key":"a","value":NaN}', b'{"key":"a","value":01}', b"\xff",
     b'{"key":"a","value":"\xff"}', b'{"key":"a","value":{"b":"\xff"}}',
     b'{"key":"\xff","value":1}', b'{"key":"a","value":"\\ud800"}', b'{"key":"a","value":1} x',
     b'{"key":"a","value":' + b"[" * 9000 + b"]" * 9000 + b"}"],
)  # fmt: skip
def test_body_that_is_not_json_is_400(client: Client, body: bytes) -> None:
    assert error_of(client.post("/kv/set", body)) == (400, "invalid_request", False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": 1}, "'key'"),
        ({"key": "a"}, "'value'"),
        ({"key": 1, "value": 1}, "'key'"),
        ({"key": "a", "value": 1, "ttl": -1}, "'ttl'"),
        ({"key": "a", "value": 1, "ttl": 1.5}, "'ttl'"),
        ({"key": "a", "value": 1, "ttl": "60"}, "'ttl'"),
        ({"key": "a", "value": 1, "ttl": 10**30}, "'ttl'"),
        ({"key": "a", "value": 1, "nx": 1}, "'nx'"),
        ({"key": "a", "value": 1, "nx": True, "xx": True}, "'nx'"),
        ({"key": "a", "value": 1, "if_version": 2**70}, "'if_version'"),
        ({"key": "a", "value": 1, "expiry": {"type": "days", "value": 1}}, "'expiry.type'"),
        ({"key": "a", "value": 1, "expiry": {"type": "seconds"}}, "'expiry.value'"),
        ({"key": "a", "value": 1, "expiry": {"type": "seconds", "value": 2**63}}, "'expiry'"),
        ([], "body"),
    ],
)
def test_wrong_field_is_422_that_names_it(client: Client, body: object, field: str) -> None:
    answer = client.post("/kv/set", body)
    assert error_of(answer) == (422, "invalid_field", False)
    assert field in answer.json()["error"]


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "application/xml"])
def test_other_content_type_is_415(client: Client, content_type: str) -> None:
    answer = client.send("POST", "/kv/set", b"{}", {"Content-Type": content_type})
    assert error_of(answer)[:2] == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", [None, "Application/JSON; charset=utf-8"])
def test_json_content_type_in_any_spelling_or_none_is_taken(
    client: Client, key: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps({"key": key, "value": 1}).encode()
    assert client.send("POST", "/kv/set", body, headers).status == 200


def test_body_over_the_limit_is_413_whether_announced_or_not(client: Client, key: str) -> None:
    body = json.dumps({"key": key, "value": "x" * 1_100_000}).encode()
    assert error_of(client.send("POST", "/kv/set", body, JSON))[:2] == (413, "payload_too_large")
    connection = http.client.HTTPConnection(HOST, client.port, timeout=DEADLINE_SECONDS)
    try:
        parts = [body[at : at + 65536] for at in range(0, len(body), 65536)]
        connection.request("POST", "/kv/set", iter(parts), JSON, encode_chunked=True)
        assert connection.getresponse().status == 413
    finally:
        connection.close()
    assert client.read(key) is None


def test_body_in_chunks_is_put_together(client: Client, key: str) -> None:
    body = json.dumps({"key": key, "value": "x" * 50_000}).encode()
    connection = http.client.HTTPConnection(HOST, client.port, timeout=DEADLINE_SECONDS)
    try:
        parts = iter([body[:7], body[7:20_000], body[20_000:]])
        headers = JSON | {"Transfer-Encoding": "chunked"}
        connection.request("POST", "/kv/set", parts, headers, encode_chunked=True)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    assert client.read(key) == "x" * 50_000


def test_value_over_the_limit_is_413_that_names_it(client: Client, key: str) -> None:
    assert client.put(key, "x" * 100_000)
    answer = client.post(f"/kv/{key}/append", {"value": "x"})
    assert error_of(answer) == (413, "value_too_large", False)
    assert "max_value_size_bytes" in answer.json()["error"]


def test_cors_allows_the_configured_origin_alone(client: Client) -> None:
    allowed = client.get("/health", {"Origin": "https://app.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "X-Synap-Offset" in allowed.headers["access-control-expose-headers"]
    other = client.get("/health", {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_query_with_bytes_beyond_ascii_is_answered_in_the_contracts_form(client: Client) -> None:
    with socket.create_connection((HOST, client.port), DEADLINE_SECONDS) as raw:
        raw.sendall(
            b"GET /kv/scan?limit=\xff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Traceback" not in answer
