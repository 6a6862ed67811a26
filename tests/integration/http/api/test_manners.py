"""What caches, browsers, balancers and people with curl look at, beside the answer itself."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from tests.integration.http_support import Client, error_of
from tests.support import HOST

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ORIGIN = {"Origin": "https://app.example"}
BYTES = b"\xff\xfe"
TOLD = {"value_base64": "//4="}


def wire(client: Client, request: bytes) -> bytes:
    """Return all that a connection brings for a request."""
    with socket.create_connection((HOST, client.port), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_root_tells_what_this_is_and_where_to_look(client: Client) -> None:
    facts = client.get("/").json()
    assert facts["service"] == "synap"
    assert client.get(facts["health"]).status == client.get(facts["openapi"]).status == 200


@pytest.mark.parametrize(
    "request_line", [b"OPTIONS * HTTP/1.1\r\nHost: localhost", b"OPTIONS / HTTP/1.0"]
)
def test_options_of_the_server_as_a_whole_is_200(client: Client, request_line: bytes) -> None:
    assert wire(client, request_line + b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/kv/a%20b", "/kv/get/a%20b"), ("/kv/incrr", "did you mean /kv/incr?"),
        ("/helth", "did you mean /health?"), ("/x/y/z", "/openapi.json"),
    ],
)  # fmt: skip
def test_unknown_path_hints_at_what_was_meant(client: Client, path: str, hint: str) -> None:
    answer = client.get(path)
    assert error_of(answer)[:2] == (404, "not_found")
    assert hint in answer.json()["error"]


def test_unknown_method_says_which_are_known(client: Client) -> None:
    assert "it knows POST" in client.get("/kv/set").json()["error"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/kv/get/KEY", "private, no-cache"), ("/raw/KEY", "private, no-cache"),
        ("/kv/get/none", "no-store"), ("/primary", "no-store"), ("/kv/scan?limit=1", "no-store"),
        ("/nothing", "no-store"), ("/kv/KEY/strlen", "no-store"),
    ],
)  # fmt: skip
def test_answers_forbid_caching_without_a_question(client: Client, path: str, told: str) -> None:
    client.put("manners", "v")
    for _ in range(3):
        answer = client.get(path.replace("KEY", "manners"))
        assert answer.headers["cache-control"] == told
    assert client.post("/kv/set", {"key": "manners", "value": "v"}).headers["cache-control"] == (
        "no-store"
    )


def test_body_of_curl_is_taken_for_json_and_a_pages_is_not(client: Client) -> None:
    body = b'{"key": "curl", "value": "v"}'
    assert client.send("POST", "/kv/set", body, FORM).status == 200
    for page in (ORIGIN, {"Sec-Fetch-Site": "same-origin"}):
        assert client.send("POST", "/kv/set", body, FORM | page).status == 415


def test_packed_body_is_unpacked_or_refused(client: Client) -> None:
    packed = {"Content-Encoding": "gzip"}
    body = gzip.compress(b'{"key": "packed", "value": "v"}')
    assert client.send("POST", "/kv/set", body, packed).status == 200
    assert client.send("PUT", "/raw/packed", gzip.compress(BYTES), packed).status == 200
    assert client.get("/raw/packed").body == BYTES
    refused = client.send("PUT", "/raw/packed", BYTES, {"Content-Encoding": "br"})
    assert (refused.status, refused.headers["accept-encoding"]) == (415, "gzip")
    assert client.send("PUT", "/raw/packed", BYTES, packed).status == 400


def test_refusal_before_the_application_can_be_read_by_a_page_and_found_in_a_log(
    client: Client,
) -> None:
    headers = ORIGIN | {"X-Request-Id": "r-1", "Content-Length": "99000000"}
    answer = client.send("PUT", "/raw/k", None, headers)
    assert answer.status == 413
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert b"x-request-id" in wire(client, b"\0\r\n\r\n")


def test_old_bytes_are_told_before_they_are_gone(client: Client) -> None:
    client.send("PUT", "/raw/old", BYTES)
    assert client.post("/kv/old/getset", {"value": "n"}).json() == TOLD
    client.send("PUT", "/raw/old", BYTES)
    answer = client.post("/kv/set", {"key": "old", "value": "n", "get": True})
    assert answer.json()["old_value"] == TOLD


@pytest.mark.parametrize(
    ("stored", "shape", "told"),
    [
        (b'{"a":1}', "json", {"a": 1}), (b"text", "json", "text"), (BYTES, "json", TOLD),
        (BYTES, "base64", "//4="), (b"text", "base64", "dGV4dA=="), (b"42", "json", 42),
    ],
)  # fmt: skip
def test_value_is_told_in_the_shape_that_is_asked_for(
    client: Client, stored: bytes, shape: str, told: object
) -> None:
    client.send("PUT", "/raw/shape", stored)
    assert client.get(f"/kv/get/shape?type={shape}").json() == told
    assert client.get(f"/kv/shape/getrange?start=0&end=-1&type={shape}").json() == told
    assert client.post("/kv/mget", {"keys": ["shape", "no"], "type": shape}).json() == {
        "values": [told, None]
    }


def test_commands_tell_bytes_as_routes_do(client: Client) -> None:
    client.send("PUT", "/raw/named", BYTES)
    results = []
    for command, payload in (
        ("kv.mget", {"keys": ["named"]}),
        ("kv.getset", {"key": "named", "value": "n"}),
    ):
        body = {"command": command, "payload": payload}
        results.append(client.post("/api/v1/command", body).json()["payload"])
    assert results == [{"values": [TOLD]}, TOLD]


def test_values_that_many_languages_write_with_a_fraction_are_whole(client: Client) -> None:
    client.put("whole", "v", ttl=3600.0)
    assert client.get("/kv/whole/ttl").json()["ttl"] in (3599, 3600)
    assert client.send("PUT", "/raw/whole?ttl=9999.0", b"v").status == 200
    answer = client.post("/kv/set", json.loads('{"key":"whole","value":1,"ttl":1.5}'))
    assert error_of(answer)[:2] == (422, "invalid_field")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/set", {"key": "told", "value": 1}),
        ("/kv/set", {"key": "told", "value": 1, "xx": True}),
        ("/kv/incr", {"key": "told"}), ("/kv/incrbyfloat", {"key": "told", "amount": 1}),
        ("/kv/told/append", {"value": "1"}), ("/kv/told/setrange", {"offset": 0, "value": "2"}),
        ("/kv/told/expire", {"ttl": 9999}), ("/kv/told/persist", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [None, "once"])
def test_write_tells_the_version_that_its_key_has(
    client: Client, path: str, body: dict[str, object], name: str | None
) -> None:
    client.put("told", 1, ttl=9999)
    headers = {} if name is None else {"Idempotency-Key": f"{name}{path}{len(body)}"}
    for _ in range(2):
        answer = client.send("POST", path, json.dumps(body).encode(), headers)
        told = answer.json().get("version")
        if told is None:
            # The second persist finds nothing to do.
            assert path == "/kv/told/persist"
            continue
        assert client.get("/raw/told").headers["etag"] == f'"{told}"'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/gone/expire", {"ttl": 9999}), ("/kv/gone/expire", {"ttl": 0}),
        ("/kv/gone/persist", {}),
        ("/kv/gone/setrange", {"offset": 0, "value": ""}),
        ("/kv/set", {"key": "gone", "value": 1, "xx": True}),
    ],
)  # fmt: skip
def test_write_that_left_no_key_tells_no_version(
    client: Client, path: str, body: dict[str, object]
) -> None:
    client.send("DELETE", "/kv/del/gone")
    assert "version" not in client.post(path, body).json()


def test_version_of_an_unwritten_set_is_the_one_to_try_again_with(client: Client) -> None:
    client.put("lock", "a")
    refused = client.post("/kv/set", {"key": "lock", "value": "b", "nx": True}).json()
    assert (refused["written"], refused["reason"]) == (False, "key_exists")
    again = {"key": "lock", "value": "b", "if_version": refused["version"]}
    assert client.post("/kv/set", again).json()["written"]


def test_command_says_which_condition_did_not_hold(client: Client) -> None:
    client.put("named", "a")
    for command, payload, reason in (
        ("kv.set", {"value": 1, "nx": True}, "key_exists"),
        ("kv.set", {"value": 1, "if_version": 0}, "version_differs"),
        ("kv.del", {"if_version": 0}, "version_differs"),
    ):
        body = {"command": command, "payload": {"key": "named", **payload}}
        assert client.post("/api/v1/command", body).json()["payload"]["reason"] == reason


@pytest.mark.parametrize(
    ("path", "is_packed"),
    [
        ("/openapi.json", True), ("/metrics", True), ("/kv/scan?limit=1000&prefix=long:", True),
        ("/kv/export?prefix=long:", True), ("/health", False), ("/kv/get/long:0", False),
        ("/raw/long:0", False),
    ],
)  # fmt: skip
def test_long_answer_is_packed_for_those_who_ask(
    client: Client, path: str, is_packed: bool
) -> None:
    client.post("/kv/mset", {"pairs": [[f"long:{n:0100}", "v" * 100] for n in range(100)]})
    client.put("long:0", "v" * 50_000)
    plain = client.get(path)
    packed = client.get(path, {"Accept-Encoding": "gzip, br"})
    assert "content-encoding" not in plain.headers
    assert packed.headers.get("content-encoding") == ("gzip" if is_packed else None)
    body = gzip.decompress(packed.body) if is_packed else packed.body
    assert len(body) == pytest.approx(len(plain.body), rel=0.1)
    if "openapi" in path or "scan" in path or "export" in path:
        assert body == plain.body
        assert len(packed.body) < len(plain.body) / 3


def test_packed_bodies_one_after_the_other_are_held_no_longer_than_they_are_asked_for(
    client: Client,
) -> None:
    # More than both workers may hold at once.
    pairs = [[f"packed{number}", "v" * 90_000] for number in range(10)]
    body = gzip.compress(json.dumps({"pairs": pairs}).encode())
    for _ in range(80):
        assert client.send("POST", "/kv/mset", body, {"Content-Encoding": "gzip"}).status == 200
