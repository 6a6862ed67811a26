"""If-Match and If-None-Match on `/kv/…`, and X-Synap-Min-… on writes."""

from __future__ import annotations

import json

import pytest

from tests.integration.http_support import Client, error_of, other, position_of

JSON = {"Content-Type": "application/json"}
STALE = '"999-00000000"'


def set_on(client: Client, key: str, headers: dict[str, str], **more: object) -> tuple[int, object]:
    body = json.dumps({"key": key, "value": "mine", **more}).encode()
    answer = client.send("POST", "/kv/set", body, JSON | headers)
    return answer.status, answer.json().get("reason")


def etag(client: Client, key: str) -> str:
    return client.get(f"/kv/get/{key}").headers["etag"]


REFUSED = (412, "precondition_failed")


@pytest.mark.parametrize("headers", [{"If-None-Match": "*"}, {"If-Match": STALE}])
def test_set_whose_condition_does_not_hold_writes_nothing(
    client: Client, key: str, headers: dict[str, str]
) -> None:
    client.put(key, "theirs")
    assert set_on(client, key, headers) == REFUSED
    assert client.read(key) == "theirs"


def test_set_whose_condition_holds_writes(client: Client, key: str) -> None:
    assert set_on(client, key, {"If-Match": "*"}) == REFUSED
    assert set_on(client, key, {"If-None-Match": "*"}) == (200, None)
    seen = etag(client, key)
    assert set_on(client, key, {"If-Match": seen}, ttl=60) == (200, None)
    assert set_on(client, key, {"If-Match": seen}) == REFUSED
    assert set_on(client, key, {"If-None-Match": seen}) == (200, None)


def test_set_with_conditions_in_headers_and_body_is_400(client: Client, key: str) -> None:
    assert set_on(client, key, {"If-None-Match": "*"}, nx=True) == (400, "invalid_request")


def test_delete_whose_condition_does_not_hold_deletes_nothing(client: Client, key: str) -> None:
    client.put(key, "theirs")
    answer = client.send("DELETE", f"/kv/del/{key}", headers={"If-Match": STALE})
    assert error_of(answer)[:2] == REFUSED
    assert client.read(key) == "theirs"
    answer = client.send("DELETE", f"/kv/del/{key}", headers={"If-Match": etag(client, key)})
    assert answer.json() == {"deleted": True, "key": key}


@pytest.mark.parametrize("path", ["/kv/get/", "/raw/"])
def test_get_with_if_match_gives_no_other_version(client: Client, path: str) -> None:
    key = "if-match"
    client.put(key, "x")
    seen = etag(client, key)
    assert client.get(path + key, {"If-Match": seen}).status == 200
    assert error_of(client.get(path + key, {"If-Match": STALE}))[:2] == REFUSED


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/kv/set", b'{"key":"KEY","value":1}'),
        ("POST", "/kv/incr", b'{"key":"KEY"}'),
        ("PUT", "/raw/KEY", b"1"),
        ("DELETE", "/kv/del/KEY", b""),
        ("POST", "/api/v1/command", b'{"command":"kv.incr","payload":{"key":"KEY"}}'),
    ],
)
def test_write_after_a_position_that_was_lost_is_refused(
    client: Client, method: str, path: str, body: bytes
) -> None:
    key = "lost-position"
    seen = position_of(client.post("/kv/set", {"key": key, "value": 5}))
    path, body = path.replace("KEY", key), body.replace(b"KEY", key.encode())
    lost = client.send(method, path, body, JSON | {"X-Synap-Min-Position": other(seen)})
    assert error_of(lost)[:2] == (412, "position_lost")
    assert client.read(key) == "5"
    assert client.send(method, path, body, JSON | {"X-Synap-Min-Position": seen}).status == 200
