"""All of a worker's connections are taken, in every way there is; others are served yet."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.support import HOST, Node

PASSWORD = "correct horse"
PLACES = 40
# So many addresses that the bound on one does not help.
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 9)]
SERVED_SECONDS = 1.0
SETTLED_SECONDS = 10.0
PROBES = ("/health", "/liveness", "/readiness", "/primary")
VALUE_BYTES = 256 * 1024


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = {
        "server.max_connections": PLACES,
        "replication.role": "master",
        "replication.read_wait_ms": 30_000,
        "replication.ack_timeout_ms": 25_000,
        "server.write_timeout_ms": 30_000,
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
    }
    with Node(tmp_path_factory.mktemp("places"), "places", settings) as node:
        yield node


@pytest.fixture(scope="module")
def key(node: Node) -> str:
    """A key of the root user's, so that nobody hashes."""
    root = "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()
    answer = node.request("POST", "/auth/keys", {"name": "k"}, {"Authorization": root})
    made: str = answer.json()["key"]["key"]
    headers = {"X-API-Key": made}
    for name, value in (("a", "served"), ("large", "x" * VALUE_BYTES)):
        assert node.request("POST", "/kv/set", {"key": name, "value": value}, headers).status == 200
    return made


def _set(lines: str, body: str = "") -> str:
    return f"POST /kv/set HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n{body}"


BODY = json.dumps({"key": "b", "value": 1})
LENGTH = f"Content-Length: {len(BODY)}"
# What each connection sends; KEY stands for a user's credentials.
HOLDS = {
    "nothing": "",
    "half a head": "GET /kv/get/a HTTP/1.1\r\nHost: ",
    "expect": _set(f"{LENGTH}\r\nExpect: 100-continue"),
    "expect with credentials": _set(f"KEY\r\n{LENGTH}\r\nExpect: 100-continue"),
    "half a body": _set(LENGTH, BODY[:9]),
    "half a body with credentials": _set(f"KEY\r\n{LENGTH}", BODY[:9]),
    "a long body with credentials": _set("KEY\r\nContent-Length: 9000000", "[" * 100_000),
    "half a chunk with credentials": _set("KEY\r\nTransfer-Encoding: chunked", "5\r\n{"),
    "unread metrics": "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300,
    "unread values": "GET /kv/get/large HTTP/1.1\r\nHost: localhost\r\nKEY\r\n\r\n" * 16,
    "reads that wait": "GET /kv/get/a HTTP/1.1\r\nHost: localhost\r\nKEY\r\n"
    "X-Synap-Min-Offset: 999999999\r\n\r\n" * 3,
    "writes that wait": _set(f"KEY\r\n{LENGTH}\r\nX-Synap-Min-Replicas: 1", BODY) * 3,
}


def hold(node: Node, stack: ExitStack, request: bytes, count: int) -> list[socket.socket]:
    """Take places, from several addresses, and keep them."""
    taken = []
    for address in itertools.islice(itertools.cycle(ADDRESSES), count):
        client = socket.socket()
        stack.callback(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        client.bind((address, 0))
        client.connect((HOST, node.port))
        client.setblocking(False)
        # There may be no room for it.
        with suppress(OSError):
            client.send(request)
        taken.append(client)
    return taken


def trickle(taken: list[socket.socket]) -> None:
    """Let each show a sign of life."""
    for client in taken:
        with suppress(OSError):
            client.send(b"1\r\n \r\n")


def seconds_until_served(node: Node, path: str, headers: dict[str, str]) -> float:
    """Ask again while there is no room; return the seconds until the answer with 200."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < SETTLED_SECONDS:
        with suppress(OSError, http.client.HTTPException):
            if node.request("GET", path, None, headers, timeout_seconds=2.0).status == 200:
                return time.monotonic() - began
        time.sleep(0.02)
    return waited


def test_one_address_can_not_take_all_places(node: Node, key: str) -> None:
    with ExitStack() as stack:
        honest = []
        for _ in range(PLACES // 4):
            client = stack.enter_context(socket.create_connection((HOST, node.port), 5))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            honest.append(client)
        for _ in range(PLACES * 3):
            client = stack.enter_context(socket.socket())
            client.bind((ADDRESSES[0], 0))
            client.connect((HOST, node.port))
        for client in honest:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("way", HOLDS)
def test_probes_and_honest_clients_are_served_while_all_places_are_taken(
    node: Node, key: str, way: str
) -> None:
    credentials = {"X-API-Key": key}
    request = HOLDS[way].replace("KEY", f"X-API-Key: {key}").encode()
    with ExitStack() as stack:
        taken = hold(node, stack, request, PLACES * 2)
        # What was sent at once is worked off first, on whatever processor there is for it.
        assert seconds_until_served(node, "/liveness", {}) < SETTLED_SECONDS
        for path in (*PROBES, "/kv/get/a", *PROBES, "/kv/get/a"):
            headers = credentials if path == "/kv/get/a" else {}
            trickle(taken) if "chunk" in way else None
            assert seconds_until_served(node, path, headers) < SERVED_SECONDS, path
