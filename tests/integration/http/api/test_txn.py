"""`POST /kv/txn` over HTTP: its answer, its errors, one frame, and who may."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.http_support import Client, error_of, offset_of


def test_transaction_changes_all_at_once_and_tells_each(client: Client, key: str) -> None:
    client.put(f"{key}:n", 4)
    txn = {
        "if": [{"key": f"{key}:n", "value": 4}, {"key": key, "exists": False}],
        "then": [
            {"set": {"key": key, "value": {"a": 1}, "ttl": 60}},
            {"incr": {"key": f"{key}:n", "amount": 2}},
            {"del": {"key": f"{key}:none"}},
            {"get": {"key": f"{key}:n"}},
        ],
        "else": [{"get": {"key": key}}],
    }
    answer = client.post("/kv/txn", txn)
    told = answer.json()
    version = told["results"][0].pop("version")
    before = told["results"][3].pop("version")
    assert told == {
        "succeeded": True,
        "results": [{"set": True}, {"value": 6}, {"deleted": 0}, {"value": "4"}],
    }
    assert offset_of(answer) == int(version.split("-")[0]) + 1
    assert before < version
    again = client.post("/kv/txn", txn).json()
    assert again == {"succeeded": False, "results": [{"value": '{"a":1}', "version": version}]}


def test_version_of_a_condition_is_that_of_the_etag(client: Client, key: str) -> None:
    client.put(key, 1)
    version = client.get(f"/kv/get/{key}").headers["etag"].strip('"')
    swap = {
        "if": [{"key": key, "version": version}],
        "then": [{"set": {"key": key, "value": 2}}],
    }
    assert [client.post("/kv/txn", swap).json()["succeeded"] for _ in range(2)] == [True, False]


def test_bytes_that_are_no_text_are_told_in_base64(client: Client, key: str) -> None:
    client.send("PUT", f"/raw/{key}", b"\xff\x00")
    answer = client.post("/kv/txn", {"then": [{"get": {"key": key}}]}).json()
    assert answer["results"][0]["value_base64"] == "/wA="


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "nothing is to be done"),
        ({"then": [{}]}, "field 'then[0]': give any of set, del, incr or get"),
        ({"then": [{"get": {"key": "a"}, "del": {"key": "a"}}]}, "give one of set, del"),
        ({"if": [{"key": "a"}], "then": [{"get": {"key": "a"}}]}, "field 'if[0]': give any of"),
        (
            {"if": [{"key": "a", "exists": True, "value": 1}], "then": [{"get": {"key": "a"}}]},
            "give one of version, exists or value",
        ),
        ({"if": [{"key": "a", "version": 7}], "then": [{"get": {"key": "a"}}]}, "field 'if[0]'"),
        ({"then": [{"set": {"key": "a", "value": 1, "tll": 2}}]}, "did you mean 'ttl'?"),
        ({"then": [{"put": {"key": "a"}}]}, "unknown field 'then[0].put'"),
        ({"when": []}, "unknown field 'when'"),
        ({"then": [{"set": {"key": "a"}}]}, "missing field 'then[0].set.value'"),
        ({"then": [{"get": {"key": "a"}}] * 1001}, "more than 1000 elements together"),
    ],
)
def test_fault_of_a_body_is_named_with_what_to_do(client: Client, body: Any, told: str) -> None:
    answer = client.post("/kv/txn", body)
    assert answer.status == 422
    assert told in answer.json()["error"]


def test_part_that_can_not_be_done_leaves_all_as_it_was(client: Client, key: str) -> None:
    client.put(f"{key}:text", "x")
    parts = [{"set": {"key": key, "value": 1}}, {"incr": {"key": f"{key}:text"}}]
    answer = client.post("/kv/txn", {"then": parts})
    assert error_of(answer) == (400, "invalid_value", False)
    assert "then[1]" in answer.json()["error"]
    assert client.read(key) is None


def test_transaction_by_name_and_once(client: Client, key: str) -> None:
    body = {"command": "kv.txn", "payload": {"then": [{"incr": {"key": key}}]}}
    assert client.post("/api/v1/command", body).json()["payload"]["results"] == [{"value": 1}]
    headers = {"Content-Type": "application/json", "Idempotency-Key": "txn-once"}
    content = b'{"then": [{"incr": {"key": "%s"}}, {"get": {"key": "%s"}}]}' % (
        key.encode(),
        key.encode(),
    )
    first, again = (client.send("POST", "/kv/txn", content, headers) for _ in range(2))
    assert first.body == again.body
    assert again.headers["idempotent-replayed"] == "true"
    assert client.read(key) == "2"
