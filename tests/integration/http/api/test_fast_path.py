"""The short way for GET and SET: the same answers as by the way of every request, or not taken.

The application runs in this process, on the store, the board and the writer of the shared node.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.integration.both_ways import JSON, Ways, both_ways, config_of, read_answer, shape
from tests.integration.http_support import (
    DEADLINE_SECONDS,
    make_config,
    make_generation,
    offset_of,
    open_board,
    position_of,
    replica_view,
)
from tests.support import HOST, Node


@pytest.fixture(scope="module")
def ways(http_node: Node) -> Iterator[Ways]:
    with both_ways(config_of(http_node)) as ways:
        yield ways


VALUES = ["v" * 64, "", "ü€😀", '"\\\n\x00', 17, 1.5, None, True, [1, {"a": "b"}]]


@pytest.mark.parametrize("value", VALUES)
def test_set_and_get_answer_the_same_by_both_ways(ways: Ways, value: object) -> None:
    body = json.dumps({"key": "fast:both", "value": value}).encode()
    short, long = (
        ways.short("POST", "/kv/set", body, JSON),
        ways.long("POST", "/kv/set", body, JSON),
    )
    assert shape(short) == shape(long)
    assert offset_of(long) == offset_of(short) + 1
    assert position_of(long).split("-")[1] == position_of(short).split("-")[1]
    short, long = (
        ways.short("GET", "/kv/get/fast:both"),
        ways.long("GET", "/kv/get/fast:both"),
    )
    assert shape(short) == shape(long)
    assert short.headers["etag"] == long.headers["etag"]
    assert position_of(short) == position_of(long)
    assert short.headers["etag"] == f'"{position_of(short)}"'


@pytest.mark.parametrize(
    "more",
    [
        {"nx": True}, {"xx": True}, {"get": True}, {"ttl": 100}, {"if_version": 0},
        {"if_version": "1-9f2c11aa"},
        {"get": True, "keepttl": True}, {"expiry": {"type": "seconds", "value": 5}},
    ],
)  # fmt: skip
def test_conditional_set_answers_the_same_by_both_ways(ways: Ways, more: dict[str, object]) -> None:
    ways.put("fast:more", "old")
    body = json.dumps({"key": "fast:more", "value": "old", **more}).encode()
    long = ways.long("POST", "/kv/set", body, JSON)
    assert shape(ways.short("POST", "/kv/set", body, JSON)) == shape(long)


@pytest.mark.parametrize(
    "segment", ["fast:none", "a%2Fb%20c", "%c3%bc", "!$&'()*+,;=:@-._~", "x" * 503]
)
def test_get_of_any_key_missing_or_there_is_the_same_by_both_ways(ways: Ways, segment: str) -> None:
    path = f"/kv/get/{segment}"
    missing = ways.short("GET", path)
    assert missing.status == 404
    assert shape(missing) == shape(ways.long("GET", path))
    ways.put(unquote(segment), "v")
    found = ways.short("GET", path)
    assert found.json() == "v"
    assert shape(found) == shape(ways.long("GET", path))
    ways.long("DELETE", f"/kv/del/{segment}")


def test_large_and_binary_values_are_read_the_same_by_both_ways(ways: Ways) -> None:
    for content in (b"x" * 90_000, b"\xff\x00\xfe"):
        assert ways.send("PUT", "/raw/fast:raw", content)[0].status == 200
        short = ways.short("GET", "/kv/get/fast:raw")
        assert shape(short) == shape(ways.long("GET", "/kv/get/fast:raw"))


def test_expired_key_is_missing_by_both_ways(ways: Ways) -> None:
    at_once = {"type": "unix_milliseconds", "value": 1}
    ways.put("fast:expired", "v", expiry=at_once)
    assert ways.short("GET", "/kv/get/fast:expired").status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "/kv/get/a?type=bytes", None, {}),
        ("HEAD", "/kv/get/a", None, {}),
        ("POST", "/kv/get/a", b"", {}),
        ("GET", "/kv/get/", None, {}),
        ("GET", "/kv/get/a/b", None, {}),
        ("GET", "/kv/get/" + "x" * 504, None, {}),
        ("GET", "/kv/get/%FF", None, {}),
        ("GET", "/kv/get/a", None, {"X-Synap-Min-Offset": "0"}),
        ("GET", "/kv/get/a", None, {"Origin": "https://app.example"}),
        ("GET", "/kv/get/a", None, {"Connection": "close"}),
        ("GET", "/kv/get/a", b"body", {}),
        ("PUT", "/kv/set", b'{"key":"a","value":1}', JSON),
        ("POST", "/kv/set", b'{"key":"a","value":1}', {"Content-Type": "text/plain"}),
        ("POST", "/kv/set", b'{"key":"a","value":1}', {**JSON, "X-Synap-Min-Replicas": "0"}),
        ("POST", "/kv/set?x=1", b'{"key":"a","value":1}', JSON),
        ("POST", "/kv/setx", b'{"key":"a","value":1}', JSON),
        ("POST", "/kv/set", b'{"key":"a","value":1', JSON),
        ("POST", "/kv/set", b'{"value":1}', JSON),
        ("POST", "/kv/set", b'{"key":"a","value":1,"nx":true,"xx":true}', JSON),
        ("POST", "/kv/set", b'{"key":"a","value":1,"if_version":1}', JSON),
        ("POST", "/kv/set", b"", JSON),
    ],
)
def test_whatever_is_special_goes_the_way_of_all(
    ways: Ways, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    for _ in range(3):
        _, is_short = ways.send(method, path, body, headers)
        assert not is_short


@pytest.mark.parametrize(
    "body",
    [
        {"key": "", "value": 1},
        {"key": "x" * 504, "value": 1},
        {"key": "a", "value": "x" * 2000, "if_version": f"{2**40}-9f2c11aa", "get": True},
    ],
)
def test_set_that_the_owner_refuses_is_the_same_error_by_both_ways(ways: Ways, body: Any) -> None:
    text = json.dumps(body).encode()
    short = ways.short("POST", "/kv/set", text, JSON)
    assert shape(short) == shape(ways.long("POST", "/kv/set", text, JSON))


# Headers of clients and proxies, `{}` being another text each time.
VARIED: dict[str, dict[str, str]] = {
    "trace": {"traceparent": "00-{}-00f067aa0ba902b7-01"},
    "proxy": {
        "X-Forwarded-For": "203.0.113.{}", "X-Forwarded-Proto": "https", "X-Real-IP": "::{}",
        "X-Forwarded-Host": "kv.example", "Via": "1.1 proxy",
    },
    "haproxy": {"X-Forwarded-For": "203.0.113.{}", "X-Unique-ID": "{}"},
    "request id": {"X-Request-Id": "{}"},
    "unknown": {"X-Own-Header": "{}"},
    "browser": {"User-Agent": "x", "Accept": "*/*", "Accept-Encoding": "gzip", "Cookie": "a={}"},
    "position": {"X-Synap-Min-Position": "0-00000000"},
    "condition": {"If-None-Match": '"{}-9f2c11aa"'},
}  # fmt: skip


def varied(headers: dict[str, str], number: int) -> dict[str, str]:
    return {name: value.replace("{}", str(number)) for name, value in headers.items()}


@pytest.mark.parametrize("headers", VARIED.values(), ids=VARIED)
def test_heads_that_differ_each_time_go_the_short_way(ways: Ways, headers: dict[str, str]) -> None:
    for number in range(1, 6):
        more = varied(headers, number)
        body = json.dumps({"key": "fast:varied", "value": "v" * number * 9}).encode()
        # A condition on a write is looked at where it is carried out.
        set_by = ways.long if "If-None-Match" in more else ways.short
        assert set_by("POST", "/kv/set", body, {**JSON, **more}).status == 200
        short, long = (way("GET", "/kv/get/fast:varied", None, more) for way in ways.both)
        assert shape(short) == shape(long)
        assert short.headers["etag"] == long.headers["etag"]
    _, is_short = ways.send("GET", "/kv/get/fast:varied", None, varied(headers, 99))
    assert is_short


OPERATIONS = [
    ("POST", "/kv/incr", {"key": "fast:n"}),
    ("POST", "/kv/decr", {"key": "fast:n", "amount": 3}),
    ("POST", "/kv/incrbyfloat", {"key": "fast:n", "amount": 1.5}),
    ("POST", "/kv/mget", {"keys": ["fast:a", "fast:b", "fast:a"]}),
    ("POST", "/kv/mset", {"pairs": [["fast:a", "1"], {"key": "fast:b", "value": 2}]}),
    ("POST", "/kv/msetnx", {"pairs": [["fast:a", "1"]]}),
    ("POST", "/kv/mdel", {"keys": ["fast:none"]}),
    ("POST", "/kv/fast:a/append", {"value": "x"}),
    ("POST", "/kv/fast:a/getset", {"value": "x"}),
    ("POST", "/kv/fast:a/expire", {"ttl": 100}),
    ("POST", "/kv/fast:a/persist", None),
    ("GET", "/kv/fast:a/ttl", None),
    ("GET", "/kv/fast:none/ttl", None),
    ("GET", "/kv/fast:a/strlen", None),
    ("GET", "/key/fast:a/exists", None),
    ("GET", "/key/%66ast:a/type", None),
    ("POST", "/key/fast:a/copy", {"destination": "fast:c", "replace": True}),
    ("POST", "/key/fast:none/rename", {"destination": "fast:c"}),
    ("DELETE", "/kv/del/fast:none", None),
    ("DELETE", "/kv/del/fast:a", None),
    ("GET", "/raw/fast:a", None),
    ("GET", "/raw/fast:none", None),
    ("PUT", "/raw/fast:a", "any text"),
    ("DELETE", "/raw/fast:a", None),
    ("DELETE", "/raw/fast:none", None),
]


@pytest.mark.parametrize(("method", "path", "fields"), OPERATIONS)
def test_hot_operations_answer_the_same_by_both_ways(
    ways: Ways, method: str, path: str, fields: Any
) -> None:
    body = None if fields is None else json.dumps(fields).encode()
    headers = {} if body is None else JSON
    answers = []
    for way in ways.both:
        for key, value in (("fast:n", 7), ("fast:a", "y"), ("fast:b", "z")):
            ways.put(key, value)
        answers.append(shape(way(method, path, body, headers)))
    assert answers[0] == answers[1]


COMMANDS: list[dict[str, Any]] = [
    {"command": "kv.get", "payload": {"key": "fast:a"}},
    {"command": "kv.get", "payload": {"key": "fast:a", "type": "bytes"}, "request_id": "7"},
    {"command": "kv.get", "payload": {"key": "fast:none"}},
    {"command": "kv.set", "payload": {"key": "fast:a", "value": 1}},
    {"command": "kv.set", "payload": {"key": "fast:a", "value": 1, "nx": True, "get": True}},
    {"command": "kv.set", "payload": {"key": "x" * 504, "value": 1}},
    {"command": "kv.del", "payload": {"keys": ["fast:a", "fast:none"]}},
    {"command": "kv.exists", "payload": {"key": "fast:a"}},
    {"command": "kv.incr", "payload": {"key": "fast:n"}},
    {"command": "kv.incr", "payload": {"key": "fast:a"}},
    {"command": "kv.mget", "payload": {"keys": ["fast:a", "fast:n", "fast:none"]}},
    {"command": "kv.mset", "payload": {"pairs": [["fast:a", {"x": 1}]]}},
    {"command": "kv.expire", "payload": {"key": "fast:a", "ttl": 9}},
    {"command": "kv.ttl", "payload": {"key": "fast:a"}},
    {"command": "kv.ttl", "payload": {"key": "fast:none"}},
    {"command": "key.rename", "payload": {"source": "fast:none", "destination": "fast:c"}},
    {"command": "kv.flushdb"},
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_answer_the_same_by_both_ways(ways: Ways, command: dict[str, Any]) -> None:
    answers = []
    is_refused = command["command"] == "kv.flushdb"
    for way in (ways.long, ways.long) if is_refused else ways.both:
        for key, value in (("fast:n", 7), ("fast:a", "y")):
            ways.put(key, value)
        answers.append(shape(way("POST", "/api/v1/command", json.dumps(command).encode(), JSON)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "body",
    [
        {"command": "kv.set", "payload": {"key": "fast:a", "value": 1, "client_id": "c"}},
        {"command": "transaction.multi", "payload": {"client_id": "none"}},
        {"type": "batch", "commands": [{"command": "kv.get", "payload": {"key": "a"}}]},
        {"command": "kv.scan"},
        {"command": "no.such"},
        {"command": "kv.get"},
        {},
    ],
)
def test_commands_that_wait_or_are_at_fault_go_the_way_of_all(ways: Ways, body: Any) -> None:
    for _ in range(3):
        _, is_short = ways.send("POST", "/api/v1/command", json.dumps(body).encode(), JSON)
        assert not is_short


@pytest.mark.parametrize("condition", [{"If-None-Match": "*"}, {"If-Match": '"1-00000000"'}])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_raw_writes_with_a_condition_go_the_way_of_all(
    ways: Ways, method: str, condition: dict[str, str]
) -> None:
    body = b"x" if method == "PUT" else None
    for _ in range(3):
        _, is_short = ways.send(method, "/raw/fast:a", body, condition)
        assert not is_short


@pytest.mark.parametrize("path", ["/kv/get/fast:cond", "/raw/fast:cond"])
def test_version_that_the_client_has_is_answered_the_same_by_both_ways(
    ways: Ways, path: str
) -> None:
    ways.put("fast:cond", "v")
    tag = ways.long("GET", path).headers["etag"]
    for tags in (tag, f'"1-00000000", W/{tag}', "*"):
        short, long = (way("GET", path, None, {"If-None-Match": tags}) for way in ways.both)
        assert short.status == 304
        assert shape(short) == shape(long)
    _, is_short = ways.send("GET", path, None, {"If-None-Match": "none"})
    assert not is_short


def test_short_way_counts_what_the_long_one_counts(ways: Ways) -> None:
    ways.put("fast:counted", "v")
    body = json.dumps({"key": "fast:counted", "value": "v"}).encode()

    def counts() -> dict[str, float]:
        text = ways.long("GET", "/metrics").body.decode()
        wanted = (
            'synap_reads_total{result="hit"}', 'synap_reads_total{result="miss"}',
            'synap_writes_total{operation="set"}',
            'synap_http_requests_total{code="200",method="GET",route="/kv/get/{key}"}',
            'synap_http_requests_total{code="404",method="GET",route="/kv/get/{key}"}',
            'synap_http_requests_total{code="200",method="POST",route="/kv/set"}',
        )  # fmt: skip
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return {name: float(lines.get(name, 0)) for name in wanted}

    def all_by(send: Any) -> dict[str, float]:
        before = counts()
        send("GET", "/kv/get/fast:counted")
        send("GET", "/kv/get/fast:not-there")
        send("POST", "/kv/set", body, JSON)
        after = counts()
        return {name: after[name] - before[name] for name in after}

    # Known by now, so that each is sent once.
    for request in (("GET", "/kv/get/a"), ("POST", "/kv/set", body, JSON)):
        ways.short(*request)
    short = all_by(lambda *request: ways.send(*request))
    assert short == all_by(ways.long)
    assert set(short.values()) == {1.0}


def test_read_at_a_replica_names_its_lag_by_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    config = make_config(tmp_path)
    make_generation(config, offset=5, a="x")
    with open_board(config) as board, both_ways(config) as ways:
        for behind_ms, path in ((0, "/kv/get/a"), (2000, "/kv/get/a"), (2000, "/kv/get/none")):
            since_ns = time.monotonic_ns() - behind_ms * 1_000_000 if behind_ms else 0
            board.publish(replica_view(lag_since_ns=since_ns))
            short, long = ways.short("GET", path), ways.long("GET", path)
            assert shape(short) == shape(long)
            lags = [int(answer.headers["x-synap-lag-ms"]) for answer in (short, long)]
            assert behind_ms <= lags[0] <= lags[1] <= behind_ms * 10


def test_request_ids_of_the_short_way_differ(ways: Ways) -> None:
    ids = {ways.short("GET", "/kv/get/a").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("cut", [0, 1, 9, 30])
def test_body_that_comes_after_its_head_goes_the_short_way(ways: Ways, cut: int) -> None:
    body = json.dumps({"key": "fast:parts", "value": "v" * 40}).encode()
    for _ in range(5):
        before = ways.taken
        head = f"POST /kv/set HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((HOST, ways.port), DEADLINE_SECONDS) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in (head.encode() + body[:cut], body[cut:20], body[max(cut, 20) :]):
                client.sendall(part)
            assert read_answer(client.makefile("rb"))[0] == 200
        assert ways.taken > before


def test_body_that_never_comes_is_refused_as_any_other(ways: Ways) -> None:
    head = b"POST /kv/set HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    with socket.create_connection((HOST, ways.port), DEADLINE_SECONDS) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        assert read_answer(client.makefile("rb"))[0] == 400


def test_requests_behind_a_held_set_wait_for_it_and_come_in_order(
    ways: Ways, http_node: Node
) -> None:
    body = json.dumps({"key": "fast:order", "value": "1"}).encode()
    head = f"HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    a_set, a_get = (
        b"POST /kv/set " + head + body,
        b"GET /kv/get/fast:order HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    with socket.create_connection((HOST, ways.port), DEADLINE_SECONDS) as client:
        answers = client.makefile("rb")
        for _ in range(3):
            client.sendall(a_set)
            assert read_answer(answers)[0] == 200
            client.sendall(a_get)
            assert read_answer(answers) == (200, b'"1"')
        for number in range(2, 30):
            changed = a_set.replace(b'"1"', b'"%d"' % (number % 10))
            client.sendall(changed)
            client.sendall(a_get)
            client.sendall(a_get + changed)
            assert read_answer(answers)[0] == 200
            assert read_answer(answers) == (200, b'"%d"' % (number % 10))
            assert read_answer(answers) == (200, b'"%d"' % (number % 10))
            assert read_answer(answers)[0] == 200
