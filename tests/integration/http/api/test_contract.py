"""The contract's rows about keys, one by one: request, status, whole body, headers.

What more there is to say of a row stands in the tests of its theme; the answers of the node's own
endpoints are held against their description in `test_http_openapi.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.integration.http_support import Client
from tests.support import Answer

# Stands for a number that the node chooses.
SOME = object()


class Row(NamedTuple):
    """One request and its answer; `KEY` stands for a key of the test's own.

    `before` is what the key holds; None for an absent one.
    """

    request: str
    before: str | None
    body: object
    status: int
    answer: object
    headers: Mapping[str, str] = MappingProxyType({})


WRITES = (
    Row("POST /kv/set", None, {"key": "KEY", "value": 1}, 200,
        {"success": True, "key": "KEY", "written": True, "version": SOME}),
    Row("POST /kv/set", "a", {"key": "KEY", "value": "b", "nx": True}, 200,
        {"success": True, "key": "KEY", "written": False, "reason": "key_exists",
         "version": SOME}),
    Row("POST /kv/set", None, {"key": "KEY", "value": "b", "xx": True}, 200,
        {"success": True, "key": "KEY", "written": False, "reason": "key_absent"}),
    Row("POST /kv/set", "a", {"key": "KEY", "value": "b", "get": True}, 200,
        {"success": True, "key": "KEY", "written": True, "old_value": "a",
         "version": SOME}),
    Row("POST /kv/set", None, {"key": "KEY", "value": "b", "get": True}, 200,
        {"success": True, "key": "KEY", "written": True, "old_value": None,
         "version": SOME}),
    Row("POST /kv/set", "a", {"key": "KEY", "value": "b", "if_version": 0}, 200,
        {"success": True, "key": "KEY", "written": False, "reason": "version_differs",
         "version": SOME}),
    Row("DELETE /kv/del/KEY", "a", None, 200, {"deleted": True, "key": "KEY"}),
    Row("DELETE /kv/del/KEY", None, None, 200, {"deleted": False, "key": "KEY"}),
    Row("PUT /raw/KEY", None, "bytes", 200, {"success": True, "key": "KEY", "version": SOME}),
    Row("PUT /raw/KEY?ttl=60", "a", "bytes", 200, {"success": True, "key": "KEY", "version": SOME}),
    Row("DELETE /raw/KEY", "a", None, 200, {"deleted": True, "key": "KEY"}),
    Row("POST /kv/mset", None, {"pairs": [["KEY", 1], {"key": "KEY2", "value": 2}]}, 200,
        {"success": True}),
    Row("POST /kv/mdel", "a", {"keys": ["KEY", "KEY0"]}, 200, {"deleted": 1}),
    Row("POST /kv/msetnx", "a", {"pairs": [["KEY", 1], ["KEY3", 2]]}, 200,
        {"success": False, "written": False, "reason": "key_exists"}),
    Row("POST /kv/msetnx", None, {"pairs": [{"key": "KEY", "value": 1}]}, 200,
        {"success": True, "written": True}),
    Row("POST /kv/incr", "4", {"key": "KEY"}, 200, {"value": 5, "version": SOME}),
    Row("POST /kv/incr", None, {"key": "KEY", "amount": -3}, 200, {"value": -3, "version": SOME}),
    Row("POST /kv/decr", "4", {"key": "KEY", "amount": 2}, 200, {"value": 2, "version": SOME}),
    Row("POST /kv/incr", str(2**53), {"key": "KEY"}, 200,
        {"value": str(2**53 + 1), "version": SOME}),
    Row("POST /kv/incr", str(2**53 - 2), {"key": "KEY"}, 200,
        {"value": 2**53 - 1, "version": SOME}),
    Row("POST /kv/decr", str(1 - 2**53), {"key": "KEY"}, 200,
        {"value": str(-(2**53)), "version": SOME}),
    Row("POST /kv/incrbyfloat", "10.50", {"key": "KEY", "amount": 0.1}, 200,
        {"value": 10.6, "version": SOME}),
    Row("POST /kv/incrbyfloat", None, {"key": "KEY", "amount": -3}, 200,
        {"value": -3, "version": SOME}),
    Row("POST /kv/KEY/append", "ab", {"value": "é"}, 200, {"length": 4, "version": SOME}),
    Row("POST /kv/KEY/setrange", "ab", {"offset": 3, "value": "x"}, 200,
        {"length": 4, "version": SOME}),
    Row("POST /kv/KEY/getset", "ab", {"value": "x"}, 200, "ab"),
    Row("POST /kv/KEY/getset", None, {"value": "x"}, 200, None),
    Row("POST /kv/KEY/expire", "a", {"ttl": 60}, 200, {"result": True, "version": SOME}),
    Row("POST /kv/KEY/expire", None, {"ttl": 60}, 200, {"result": False}),
    Row("POST /kv/KEY/persist", "a", None, 200, {"result": False}),
    Row("POST /key/KEY/rename", "a", {"destination": "KEY4"}, 200,
        {"success": True, "source": "KEY", "destination": "KEY4"}),
    Row("POST /key/KEY/renamenx", "a", {"destination": "KEY5"}, 200,
        {"success": True, "source": "KEY", "destination": "KEY5"}),
    Row("POST /key/KEY/copy", "a", {"destination": "KEY6", "replace": True}, 200,
        {"success": True, "source": "KEY", "destination": "KEY6"}),
)  # fmt: skip
READS = (
    Row("GET /kv/get/KEY", "a", None, 200, "a"),
    Row("GET /kv/get/KEY?type=string", "42", None, 200, "42"),
    Row("GET /kv/get/KEY?type=bytes", "ab", None, 200, [97, 98]),
    Row("POST /kv/mget", "a", {"keys": ["KEY", "KEY0"]}, 200, {"values": ["a", None]}),
    Row("GET /kv/KEY/getrange?start=1&end=-1", "abc", None, 200, "bc"),
    Row("GET /kv/KEY/getrange?start=7&end=9", "abc", None, 200, ""),
    Row("GET /kv/KEY/strlen", "é", None, 200, {"length": 2}),
    Row("GET /kv/KEY/strlen", None, None, 200, {"length": 0}),
    Row("GET /kv/KEY/ttl", "a", None, 200, {"ttl": None}),
    Row("GET /kv/scan?prefix=KEY", "a", None, 200,
        {"keys": ["KEY"], "count": 1, "cursor": None, "has_more": False}),
    Row("GET /kv/scan?prefix=KEY", None, None, 200,
        {"keys": [], "count": 0, "cursor": None, "has_more": False}),
    Row("GET /kv/stats", None, None, 200,
        {"total_keys": SOME, "total_memory_bytes": SOME, "hit_rate": SOME,
         "operations": dict.fromkeys(("gets", "sets", "dels", "hits", "misses"), SOME)}),
    Row("GET /key/KEY/type", "a", None, 200, {"key": "KEY", "type": "string"}),
    Row("GET /key/KEY/type", None, None, 200, {"key": "KEY", "type": "none"}),
    Row("GET /key/KEY/exists", "a", None, 200, {"key": "KEY", "exists": True}),
    Row("GET /key/KEY/exists", None, None, 200, {"key": "KEY", "exists": False}),
    Row("GET /memory/KEY/usage", "a", None, 200, {"key": "KEY", "bytes": SOME, "human": SOME}),
)  # fmt: skip
REFUSALS = (
    Row("POST /kv/set", None, {"key": "KEY", "value": 1, "nx": True, "xx": True}, 422,
        "invalid_field"),
    Row("POST /kv/set", None, {"value": 1}, 422, "invalid_field"),
    Row("POST /kv/set", None, {"key": "", "value": 1}, 400, "key_invalid"),
    Row("POST /kv/set", None, {"key": "KEY" * 200, "value": 1}, 400, "key_invalid"),
    Row("POST /kv/set", None, {"key": "KEY", "value": "x" * 100_001}, 413, "value_too_large"),
    Row("GET /kv/get/KEY", None, None, 404, "key_not_found"),
    Row("GET /kv/get/KEY?type=other", "a", None, 400, "invalid_request"),
    Row("GET /raw/KEY", None, None, 404, "key_not_found"),
    Row("PUT /raw/KEY", "a", "x", 412, "precondition_failed", {"If-None-Match": "*"}),
    Row("PUT /raw/KEY", "a", "x", 412, "precondition_failed", {"If-Match": '"0"'}),
    Row("DELETE /raw/KEY", "a", None, 412, "precondition_failed", {"If-Match": '"0"'}),
    Row("POST /kv/incr", "text", {"key": "KEY"}, 400, "invalid_value"),
    Row("POST /kv/incr", str(2**63 - 1), {"key": "KEY"}, 400, "invalid_value"),
    Row("POST /kv/incrbyfloat", "text", {"key": "KEY", "amount": 1}, 400, "invalid_value"),
    Row("POST /kv/incrbyfloat", "1e308", {"key": "KEY", "amount": 1e308}, 400, "invalid_value"),
    Row("POST /kv/incrbyfloat", "1", {"key": "KEY", "amount": "1"}, 422, "invalid_field"),
    Row("GET /kv/KEY/getrange?start=0&end=1", None, None, 404, "key_not_found"),
    Row("GET /kv/KEY/getrange?start=0", "a", None, 400, "invalid_request"),
    Row("GET /kv/KEY/ttl", None, None, 404, "key_not_found"),
    Row("POST /key/KEY/rename", None, {"destination": "KEY7"}, 404, "key_not_found"),
    Row("POST /key/KEY/renamenx", "a", {"destination": "KEY"}, 400, "key_exists"),
    Row("GET /memory/KEY/usage", None, None, 404, "key_not_found"),
    Row("GET /kv/get/KEY", "a", None, 503, "not_caught_up", {"X-Synap-Min-Offset": "999999999"}),
    Row("GET /kv/get/KEY", "a", None, 412, "position_lost", {"X-Synap-Min-Position": "1-9f2c11aa"}),
    Row("POST /kv/set", "a", {"key": "KEY", "value": 1, "if_version": 1}, 422, "invalid_field"),
    Row("POST /kv/incr", "1", {"key": "KEY"}, 415, "unsupported_media_type",
        {"Content-Type": "text/plain"}),
    Row("PATCH /kv/set", None, None, 405, "method_not_allowed"),
    Row("GET /nothing", None, None, 404, "not_found"),
)  # fmt: skip


def named(part: Any, key: str) -> Any:
    """Return `part` with the test's key in the place of `KEY`."""
    return json.loads(json.dumps(part).replace("KEY", key))


def ask(client: Client, row: Row, key: str) -> Answer:
    if row.before is not None:
        client.put(key, row.before)
    method, _, path = row.request.replace("KEY", key).partition(" ")
    is_json = isinstance(row.body, dict)
    body = json.dumps(named(row.body, key)) if is_json else row.body
    headers = {"Content-Type": "application/json"} if is_json else {}
    content = None if body is None else str(body).encode()
    return client.send(method, path, content, {**headers, **row.headers})


def fits(answer: Any, expected: Any, key: str) -> bool:
    """Whether an answer is the expected one, down to its fields and no others."""
    if expected is SOME:
        return answer is not None
    if isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(
            fits(answer[name], value, key) for name, value in expected.items()
        )
    return bool(answer == named(expected, key))


def ids_of(rows: tuple[Row, ...]) -> list[str]:
    return [f"{number} {row.request}" for number, row in enumerate(rows)]


@pytest.mark.parametrize("row", WRITES + READS, ids=ids_of(WRITES + READS))
def test_row_of_the_contract_is_answered_so(client: Client, row: Row) -> None:
    key = f"row{(WRITES + READS).index(row)}"
    before = client.put("before", key)
    answer = ask(client, row, key)
    assert answer.status == row.status, answer.body
    assert fits(answer.json(), row.answer, key), answer.body
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["x-synap-offset"]) >= before
    assert "x-synap-lag-ms" not in answer.headers


@pytest.mark.parametrize("row", REFUSALS, ids=ids_of(REFUSALS))
def test_refusal_of_the_contract_has_its_form(client: Client, row: Row) -> None:
    answer = ask(client, row, f"refused{REFUSALS.index(row)}")
    body = answer.json()
    assert body.keys() == {"error", "code", "reason", "retryable"}
    assert (answer.status, body["code"], body["reason"]) == (row.status, row.status, row.answer)
    assert body["retryable"] is (row.answer == "not_caught_up")
    assert answer.headers["content-type"] == "application/json"
    assert ("allow" in answer.headers) == (row.status == 405)
