"""The short way for GET and SET: the same answers as by the way of every request, or not taken.

The application runs in this process, on the store, the board and the writer of the shared node.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import pytest

from synap.config.keys import Config
from synap.config.loading import load_config
from synap.http.api.request import App
from tests.integration.http_support import (
    DEADLINE_SECONDS,
    make_config,
    make_generation,
    offset_of,
    open_board,
    position_of,
    replica_view,
    serving,
)
from tests.support import HOST, Answer, Node

JSON = {"Content-Type": "application/json"}
# Makes a request go the way of all, and changes nothing else.
ASIDE = {"X-Synap-Of-No-Meaning": "0"}
PLACES = ("x-synap-offset", "x-synap-position")
# What differs from one answer to the next.
MOVING = {"date", "x-request-id", "x-synap-lag-ms", "etag", *PLACES}


class Counted:
    """The short way, with what it took counted."""

    def __init__(self, fast_path: Any) -> None:
        self._fast_path = fast_path
        self.taken = 0

    def pause(self, is_paused: bool) -> None:
        self._fast_path.pause(is_paused)

    def take(self, data: bytes, client: Any) -> bool:
        is_taken: bool = self._fast_path.take(data, client)
        self.taken += is_taken
        return is_taken


class Ways:
    """Asks one application by either way, on a connection that is kept."""

    def __init__(self, port: int, fast_path: Counted) -> None:
        self.port = port
        self._fast_path = fast_path
        self._socket = socket.create_connection((HOST, port), DEADLINE_SECONDS)

    @property
    def taken(self) -> int:
        return self._fast_path.taken

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Answer, bool]:
        """Send a request in one piece; return the answer, and whether it took the short way."""
        before = self._fast_path.taken
        length = {} if body is None else {"Content-Length": str(len(body))}
        fields = {"Host": "localhost", **length, **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
        self._socket.sendall("\r\n".join(lines).encode() + (body or b""))
        answer = HTTPResponse(self._socket, method=method)
        answer.begin()
        received = {name.lower(): value for name, value in answer.getheaders()}
        found = Answer(answer.status, received, answer.read())
        if received.get("connection") == "close":
            self.close()
            self._socket = socket.create_connection((HOST, self.port), DEADLINE_SECONDS)
        return found, self._fast_path.taken > before

    def short(self, *request: Any) -> Answer:
        """Return the first answer that came by the short way.

        The first request teaches its head; one that comes while the connection still puts the one
        before it away goes the way of all.
        """
        for _ in range(10):
            answer, is_short = self.send(*request)
            if is_short:
                return answer
        raise AssertionError(f"{request} does not go the short way")

    def long(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Return the answer by the way of all."""
        answer, is_short = self.send(method, path, body, {**(headers or {}), **ASIDE})
        assert not is_short
        return answer

    @property
    def both(self) -> tuple[Any, Any]:
        return self.short, self.long

    def put(self, key: str, value: object, **more: object) -> None:
        body = json.dumps({"key": key, "value": value, **more}).encode()
        assert self.long("POST", "/kv/set", body, JSON).status == 200

    def close(self) -> None:
        self._socket.close()


def shape(answer: Answer) -> tuple[int, dict[str, str], set[str], bytes]:
    """Return what must be equal by both ways."""
    fixed = {name: value for name, value in answer.headers.items() if name not in MOVING}
    return answer.status, fixed, set(answer.headers), answer.body


def read_answer(answers: BinaryIO) -> tuple[int, bytes]:
    """Return status and body of the next answer."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline().strip()) != b"":
        name, _, value = line.partition(b": ")
        length = int(value) if name == b"content-length" else length
    return status, answers.read(length)


def _counting(counted: list[Counted]) -> Any:
    def prepare(app: App) -> None:
        app.fast_path = Counted(app.fast_path)
        counted.append(app.fast_path)

    return prepare


@contextmanager
def both_ways(config: Config) -> Iterator[Ways]:
    """Serve the application alone, and ask it by either way."""
    counted: list[Counted] = []
    with serving(config, _counting(counted)) as client:
        ways = Ways(client.port, counted[0])
        yield ways
        ways.close()


@pytest.fixture(scope="module")
def ways(http_node: Node) -> Iterator[Ways]:
    config = load_config(None, {k: str(v) for k, v in http_node.settings.items()}, environ={})
    with both_ways(config) as ways:
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
