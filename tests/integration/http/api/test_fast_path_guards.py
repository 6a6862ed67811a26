"""The short way with authentication: who may not does not."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.both_ways import JSON, Ways, both_ways, config_of, shape
from tests.support import Answer, Node, eventually

PASSWORD = "correct horse"
ROOT = {"Authorization": "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()}
BODY = json.dumps({"key": "guard:a", "value": "v"}).encode()


@pytest.fixture(scope="module")
def guarded(http_node: Node) -> Iterator[Ways]:
    config = config_of(http_node, auth__enabled=True, auth__root__password=PASSWORD)
    with both_ways(config) as ways:
        assert ways.send("POST", "/kv/set", BODY, {**ROOT, **JSON})[0].status == 200
        yield ways


def post(ways: Ways, path: str, body: object = None, headers: Any = ROOT) -> Answer:
    """Ask with a JSON body by whatever way."""
    content = b"{}" if body is None else json.dumps(body).encode()
    return ways.send("POST", path, content, {**headers, **JSON})[0]


def make_key(ways: Ways, **more: object) -> tuple[dict[str, str], str]:
    """Make an API key of the root user's; return the header with it, and its id."""
    made = post(ways, "/auth/keys", {"name": "k", **more}).json()["key"]
    return {"Authorization": f"Bearer {made['key']}"}, made["id"]


def both(ways: Ways, *request: Any) -> tuple[Answer, Answer]:
    return ways.short(*request), ways.long(*request)


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
def test_credentials_that_were_right_before_go_the_short_way(guarded: Ways, name: str) -> None:
    key, _ = make_key(guarded)
    credentials = key if name == "Authorization" else {name: key["Authorization"].split()[1]}
    for each in (credentials, ROOT):
        set_short, set_long = both(guarded, "POST", "/kv/set", BODY, {**each, **JSON})
        assert shape(set_short) == shape(set_long)
        short, long = both(guarded, "GET", "/kv/get/guard:a", None, {**each, "traceparent": "1"})
        assert short.status == 200
        assert shape(short) == shape(long)


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": "Bearer sk_none"}, {"Authorization": "Basic bm9uZQ=="},
        {"Authorization": "Digest x"}, {"X-API-Key": "none"}, {**ROOT, "X-API-Key": "none"},
    ],
)  # fmt: skip
def test_what_is_refused_or_doubtful_goes_the_way_of_all(
    guarded: Ways, headers: dict[str, str]
) -> None:
    for _ in range(3):
        answer, is_short = guarded.send("GET", "/kv/get/guard:a", None, headers)
        assert not is_short
        assert answer.status == (
            200 if "X-API-Key" in headers and ROOT.items() <= headers.items() else 401
        )


def test_revoked_key_is_refused_by_the_next_request_of_its_connection(guarded: Ways) -> None:
    key, id = make_key(guarded)
    for _ in range(3):
        guarded.short("GET", "/kv/get/guard:a", None, key)
        guarded.short("POST", "/kv/set", BODY, {**key, **JSON})
        assert guarded.send("DELETE", f"/auth/keys/{id}", None, ROOT)[0].status == 200
        assert guarded.send("GET", "/kv/get/guard:a", None, key)[0].status == 401
        assert guarded.send("POST", "/kv/set", BODY, {**key, **JSON})[0].status == 401
        key, id = make_key(guarded)


def test_disabled_user_is_refused_by_the_next_request(guarded: Ways) -> None:
    post(guarded, "/auth/users", {"username": "guest", "password": PASSWORD, "roles": ["readonly"]})
    guest = {"Authorization": "Basic " + b64encode(f"guest:{PASSWORD}".encode()).decode()}
    assert guarded.short("GET", "/kv/get/guard:a", None, guest).status == 200
    assert guarded.send("POST", "/kv/set", BODY, {**guest, **JSON})[0].status == 403
    assert post(guarded, "/auth/users/guest/disable").status == 200
    assert guarded.send("GET", "/kv/get/guard:a", None, guest)[0].status == 401
    assert post(guarded, "/auth/users/guest/enable").status == 200
    assert guarded.short("GET", "/kv/get/guard:a", None, guest).status == 200
    assert post(guarded, "/auth/users/guest/roles", {"role": "readwrite"}).status == 200
    assert guarded.short("POST", "/kv/set", BODY, {**guest, **JSON}).status == 200


def test_permissions_hold_on_the_short_way_and_refusals_are_in_the_audit_log_once(
    guarded: Ways, caplog: pytest.LogCaptureFixture
) -> None:
    permission = [{"resource": "kv:guard:*", "action": "read"}]
    key, _ = make_key(guarded, permissions=permission)
    assert guarded.short("GET", "/kv/get/guard:a", None, key).status == 200
    assert guarded.short("POST", "/kv/mget", b'{"keys":["guard:a","x"]}', key).json() == {
        "values": ["v", None]
    }
    caplog.set_level(logging.INFO)
    for method, path, body in (("GET", "/kv/get/x", None), ("POST", "/kv/set", BODY)):
        caplog.clear()
        answer, is_short = guarded.send(method, path, body, key)
        assert (answer.status, is_short) == (403, False)
        refused = [each for each in caplog.records if getattr(each, "action", "") == "refused"]
        assert len(refused) == 1


@pytest.mark.parametrize("networks", [["127.0.0.0/8"], ["192.0.2.0/24"]])
def test_keys_of_some_addresses_go_the_way_of_all(guarded: Ways, networks: list[str]) -> None:
    key, _ = make_key(guarded, allowed_ips=networks)
    for _ in range(3):
        answer, is_short = guarded.send("GET", "/kv/get/guard:a", None, key)
        assert not is_short
        assert answer.status == (200 if networks[0].startswith("127") else 401)


def test_key_is_refused_from_the_moment_of_its_expiry_on(guarded: Ways) -> None:
    key, _ = make_key(guarded, expires_in_seconds=1)
    assert guarded.short("GET", "/kv/get/guard:a", None, key).status == 200
    eventually(lambda: guarded.send("GET", "/kv/get/guard:a", None, key)[0].status == 401)
