"""Requests with Idempotency-Key over HTTP: every way in, and what comes when they come again."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any

import pytest

from tests.integration.http_support import Client, error_of, offset_of, position_of
from tests.support import HOST, Answer

KEY = "Idempotency-Key"


class Keyed:
    """Sends requests with one Idempotency-Key."""

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._headers = {KEY: key}

    def send(
        self, method: str, path: str, body: object = None, more: dict[str, str] | None = None
    ) -> Answer:
        headers = {**self._headers, **(more or {})}
        content = body
        if not isinstance(body, bytes | None):
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        return self._client.send(method, path, content, headers)  # type: ignore[arg-type]

    def twice(self, *request: Any) -> Answer:
        """Send the same twice; insist that the second time is a replay of the first."""
        first, again = self.send(*request), self.send(*request)
        assert first.status == 200, first.body
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.status, again.body) == (first.status, first.body)
        assert position_of(again) == position_of(first)
        assert again.headers.get("etag") == first.headers.get("etag")
        return first


@pytest.fixture
def key(key: str) -> str:
    """A key that no other test uses, of letters and digits alone."""
    return "".join(filter(str.isalnum, key))[-100:]


@pytest.fixture
def keyed(client: Client, key: str) -> Keyed:
    return Keyed(client, key)


def once_more(client: Client) -> int:
    """Return the log's end, by a write of its own."""
    return client.put("end", 1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/kv/set", {"key": "KEY", "value": 1, "get": True, "ttl": 99}),
        ("POST", "/kv/mset", {"pairs": [["KEY", 1], ["KEY2", "x"]]}),
        ("POST", "/kv/incr", {"key": "KEY"}),
        ("POST", "/kv/KEY/append", {"value": "x"}),
        ("POST", "/kv/KEY/getset", {"value": "x"}),
        ("POST", "/kv/KEY/expire", {"ttl": 5}),
        ("DELETE", "/kv/del/KEY", None),
        ("PUT", "/raw/KEY?ttl=60", b"bytes"),
        ("DELETE", "/raw/KEY", None),
        ("POST", "/api/v1/command", {"command": "kv.incr", "payload": {"key": "KEY"}}),
    ],
)
def test_every_write_takes_effect_once(
    client: Client, keyed: Keyed, key: str, method: str, path: str, body: Any
) -> None:
    content = body
    if isinstance(body, dict):
        content = json.loads(json.dumps(body).replace("KEY", key))
    first = keyed.twice(method, path.replace("KEY", key), content)
    assert once_more(client) == offset_of(first) + 1


def test_batch_takes_effect_once_each(client: Client, keyed: Keyed, key: str) -> None:
    incr = {"command": "kv.incr", "payload": {"key": key}}
    batch = {"type": "batch", "commands": [incr, {"command": "kv.dbsize"}, incr, incr]}
    first, again = (keyed.send("POST", "/api/v1/command", batch) for _ in range(2))
    values = [each["payload"].get("value") for each in first.json()["results"]]
    assert (values[0], values[2:]) == (1, [2, 3])
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["results"][2:] == first.json()["results"][2:]
    assert client.read(key) == "3"
    alone = keyed.send("POST", "/api/v1/command", incr)
    assert alone.status == 422
    assert alone.json()["reason"] == "idempotency_key_reused"


def test_exec_takes_effect_once_and_what_it_queues_has_no_key(
    client: Client, keyed: Keyed, key: str
) -> None:
    def ask(command: str, **payload: Any) -> dict[str, Any]:
        body = {"command": command, "payload": {"client_id": key, **payload}}
        answer: dict[str, Any] = client.post("/api/v1/command", body).json()
        return answer

    assert ask("transaction.multi")["success"]
    queued = {"command": "kv.incr", "payload": {"client_id": key, "key": key}}
    refused = keyed.send("POST", "/api/v1/command", queued)
    assert "of a transaction with its exec" in refused.json()["error"]
    assert ask("kv.incr", key=key)["success"]
    run = {"command": "transaction.exec", "payload": {"client_id": key}}
    keyed.twice("POST", "/api/v1/command", run)
    assert client.read(key) == "1"


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (b'{ "amount" : 1, "key": "%s"}', True),
        (b'{"key": "%s", "amount": 2}', False),
        (b'{"key": "other %s"}', False),
    ],
)
def test_request_is_known_by_what_it_asks_and_not_by_its_bytes(
    keyed: Keyed, key: str, body: bytes, same: bool
) -> None:
    headers = {"Content-Type": "application/json"}
    keyed.send("POST", "/kv/incr", b'{"key": "%s"}' % key.encode(), headers)
    answer = keyed.send("POST", "/kv/incr", body % key.encode(), headers)
    if same:
        assert answer.headers["idempotent-replayed"] == "true"
    else:
        assert error_of(answer) == (422, "idempotency_key_reused", False)


@pytest.mark.parametrize(
    ("path", "body", "same"),
    [
        ("/kv/mset", b'{"pairs": [["a", 1], ["b", "x"]]}',
         b'{"pairs": [{"key": "a", "value": 1}, {"value": "x", "ttl": null, "key": "b"}]}'),
        ("/kv/set", b'{"key": "a", "value": {"x": [1]}, "nx": false}',
         b'{"value": {"x" : [ 1 ]}, "key": "\\u0061", "ttl": null}'),
        ("/kv/txn", b'{"then": [{"incr": {"key": "idem-n"}}]}',
         b'{"if": [], "then": [{"incr": {"amount": 1, "key": "idem-n"}}], "else": []}'),
        ("/kv/import", b'{"key": "a", "value": "x", "version": "1-9f2c11aa"}',
         b'\n{"value": "x", "expires_at_ms": null, "key": "a"}\n'),
    ],
)  # fmt: skip
def test_request_in_another_form_is_the_same(
    keyed: Keyed, path: str, body: bytes, same: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    assert keyed.send("POST", path, body, headers).status == 200
    assert keyed.send("POST", path, same, headers).headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/incr", b'{"key": "a", "amount": %d}'),
        ("/kv/set", b'{"key": "a", "value": 1, "ttl": %d}'),
        ("/kv/txn", b'{"if": [{"key": "a", "version": %d}], "then": [{"get": {"key": "a"}}]}'),
        ("/api/v1/command", b'{"command": "kv.incr", "payload": {"key": "a", "amount": %d}}'),
    ],
)
def test_number_that_no_field_takes_is_refused_as_without_a_key(
    client: Client, keyed: Keyed, path: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = keyed.send("POST", path, body % 10**30, headers)
    assert (answer.status, answer.body) == (
        (plain := client.post(path, body % 10**30)).status, plain.body,
    )  # fmt: skip
    assert answer.status < 500


def test_same_key_on_another_path_or_condition_is_reused(keyed: Keyed, key: str) -> None:
    assert keyed.send("PUT", "/raw/idem", b"1").status == 200
    for request in (
        ("PUT", "/raw/idem2", b"1"),
        ("PUT", "/raw/idem?ttl=1", b"1"),
        ("PUT", "/raw/idem", b"1", {"If-Match": "*"}),
        ("DELETE", "/raw/idem"),
        ("POST", "/kv/set", {"key": "idem", "value": "1"}),
    ):
        assert error_of(keyed.send(*request)) == (422, "idempotency_key_reused", False)


def test_absence_that_held_the_first_time_holds(keyed: Keyed, key: str) -> None:
    answer = keyed.twice("PUT", f"/raw/{key}", b"new", {"If-None-Match": "*"})
    assert answer.json()["success"] is True


@pytest.mark.parametrize(("method", "body"), [("PUT", b"new"), ("DELETE", None)])
def test_version_that_held_the_first_time_holds(
    client: Client, keyed: Keyed, key: str, method: str, body: bytes | None
) -> None:
    path = f"/raw/{key}"
    client.send("PUT", path, b"old")
    headers = {"If-Match": client.get(path).headers["etag"]}
    keyed.twice(method, path, body, headers)
    assert client.get(path).status == (200 if method == "PUT" else 404)


def test_condition_that_did_not_hold_is_looked_at_again(
    client: Client, keyed: Keyed, key: str
) -> None:
    client.put("idem:condition", 1)
    request = ("PUT", "/raw/idem:condition", b"new", {"If-None-Match": "*"})
    assert keyed.send(*request).status == 412
    client.send("DELETE", "/raw/idem:condition")
    assert keyed.send(*request).status == 200


def test_answer_that_is_too_large_is_replayed_without_it(
    client: Client, keyed: Keyed, key: str
) -> None:
    client.put(key, "x" * 90_000)
    body = {"key": key, "value": "new", "get": True}
    assert len(keyed.send("POST", "/kv/set", body).json()["old_value"]) == 90_000
    again = keyed.send("POST", "/kv/set", body)
    assert again.json() == {"success": True, "replayed_without_result": True}
    assert again.headers["idempotent-replayed"] == "true"
    assert client.read(key) == "new"


@pytest.mark.parametrize("bad", ["", '""', "x" * 129, "two words", "smörgås", "tab\there"])
def test_key_that_is_none_is_400(client: Client, bad: str) -> None:
    answer = client.send("PUT", "/raw/idem:bad", b"v", {KEY: bad})
    assert error_of(answer) == (400, "invalid_request", False)
    assert "1 to 128" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/raw/idem:twice", "/raw/idem:twice?ttl=60"])
def test_key_that_comes_twice_is_400(client: Client, path: str) -> None:
    """Else who sends it once the next time would have it done again."""
    with closing(http.client.HTTPConnection(HOST, client.port, timeout=5)) as connection:
        connection.putrequest("PUT", path)
        for name, value in ((KEY, "twice"), ("Content-Length", "1"), (KEY.lower(), "twice")):
            connection.putheader(name, value)
        connection.endheaders(b"v")
        answer = connection.getresponse()
        assert (answer.status, b"come once" in answer.read()) == (400, True)


def test_quotes_around_a_key_are_not_part_of_it(client: Client, key: str) -> None:
    client.send("DELETE", "/raw/x", None, {KEY: f'"{key}"'})
    answer = client.send("DELETE", "/raw/x", None, {KEY: key})
    assert answer.headers["idempotent-replayed"] == "true"


def test_node_tells_whether_a_request_has_happened(client: Client, keyed: Keyed) -> None:
    unknown = client.get("/idempotency/has-it-happened")
    assert error_of(unknown) == (404, "request_unknown", False)
    first = Keyed(client, "has-it-happened").send("PUT", "/raw/idem:told", b"v")
    told = client.get("/idempotency/has-it-happened")
    assert told.json()["position"] == position_of(first)
    assert told.json()["outcome"] == "changed"
    assert told.json()["expires_at_ms"] > 0


def test_batch_has_happened_where_any_of_its_writes_has(
    client: Client, keyed: Keyed, key: str
) -> None:
    client.put(f"{key}-text", "x")
    incr = [{"command": "kv.incr", "payload": {"key": each}} for each in (f"{key}-text", key)]
    first = keyed.send("POST", "/api/v1/command", {"type": "batch", "commands": incr})
    assert [each["success"] for each in first.json()["results"]] == [False, True]
    told = client.get(f"/idempotency/{key}")
    assert (told.status, told.json()["outcome"]) == (200, "changed")
    assert told.json()["position"] == position_of(first)


def test_request_without_a_key_is_not_remembered(client: Client, key: str) -> None:
    body = {"key": key}
    assert [client.post("/kv/incr", body).json()["value"] for _ in range(2)] == [1, 2]


def test_key_goes_with_no_change_of_accounts(client: Client) -> None:
    answer = Keyed(client, "k").send("POST", "/auth/users", {"username": "x", "password": "y" * 9})
    assert error_of(answer) == (400, "condition_unsupported", False)


def test_headers_ahead_of_a_body_are_no_way_around_the_key(client: Client, key: str) -> None:
    """A request whose head is known takes no short way where it has a key."""
    for _ in range(3):
        client.post("/kv/incr", {"key": key})
    headers = {"Content-Type": "application/json", KEY: key}
    body = json.dumps({"key": key}).encode()
    values = [client.send("POST", "/kv/incr", body, headers).json()["value"] for _ in range(3)]
    assert values == [4, 4, 4]
