"""No body is read before the caller is known and may do what they ask for."""

from __future__ import annotations

import itertools
import socket
from base64 import b64encode
from collections.abc import Iterator

import pytest

from tests.support import HOST, Node

PASSWORD = "correct horse"
SECONDS = 10.0
ROOT = "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()
WRONG = "Basic " + b64encode(b"root:wrong").decode()
BODY = b'{"key": "k"}'

ROUTES = (
    "POST /kv/set", "POST /kv/mset", "POST /kv/mget", "POST /kv/mdel", "POST /kv/incr",
    "POST /kv/txn", "POST /kv/import", "POST /kv/k/append", "POST /kv/k/getset",
    "POST /kv/k/expire", "POST /key/k/rename", "POST /key/k/copy", "PUT /raw/k",
    "POST /auth/users", "POST /replication/promote", "POST /replication/follow",
    "POST /api/v1/command",
)  # fmt: skip
# How a body is announced, with what is sent of it.
WAYS = {
    "expect": (b"Content-Length: 1000\r\nExpect: 100-continue", b""),
    "head alone": (b"Content-Length: 1000", b""),
    "half a body": (b"Content-Length: 1000", b"{"),
    "half a chunk": (b"Transfer-Encoding: chunked", b"3e8\r\n{"),
}


@pytest.fixture(scope="module", params=["synap", "uvicorn"])
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    settings = {
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
        "auth.roles": '{"gone": [{"resource": "kv:gone", "action": "all"}]}',
        "server.request_timeout_secs": 60,
    }
    folder = tmp_path_factory.mktemp("unread")
    with Node(folder, "node", settings, {"SYNAP_WORKER_CLASS": request.param}) as node:
        yield node


@pytest.fixture(scope="module")
def callers(node: Node) -> dict[str, tuple[str, int]]:
    """Return headers of those who may not, each with the status that they get."""
    made = {}
    for name, permissions in (("of another key", "kv:gone"), ("of the node", "node:cluster")):
        wanted = [{"resource": permissions, "action": "all"}]
        answer = node.request(
            "POST", "/auth/keys", {"name": "k", "permissions": wanted}, {"Authorization": ROOT}
        )
        made[name] = (f"X-API-Key: {answer.json()['key']['key']}", 403)
    return made | {
        "nobody": ("X-None: 1", 401),
        "a wrong key": ("X-API-Key: sk_" + "a" * 32, 401),
        "a wrong password": (f"Authorization: {WRONG}", 401),
    }


def ask(node: Node, route: str, caller: str, line: bytes) -> socket.socket:
    client = socket.create_connection((HOST, node.port), SECONDS)
    head = f"{route} HTTP/1.1\r\nHost: localhost\r\n{caller}\r\n".encode()
    client.sendall(head + line + b"\r\n\r\n")
    return client


def received(client: socket.socket) -> bytes:
    """Return what comes until the server's end.

    Raises:
        OSError: the connection was reset, or did not end.
    """
    return b"".join(iter(lambda: client.recv(65536), b""))


# A key that is in the body is not known before it, and of a command nothing is; an mget refuses
# no key.
ASKED_BY_ANYBODY = ("POST /api/v1/command", "POST /kv/mget")
REFUSED = [
    *itertools.product(("nobody", "a wrong key"), ROUTES),
    *itertools.product(("of the node",), (each for each in ROUTES if each not in ASKED_BY_ANYBODY)),
    *itertools.product(("of another key",), (each for each in ROUTES if "/k/" in each)),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("caller", "route"), REFUSED)
def test_refusal_comes_before_the_body_and_no_reset_after_it(
    node: Node, callers: dict[str, tuple[str, int]], caller: str, route: str, way: str
) -> None:
    line, part = WAYS[way]
    header, status = callers[caller]
    with ask(node, route, header, line) as client:
        client.sendall(part)
        first = client.recv(65536)
        assert int(first.split()[1]) == status, first
        # A client that has not read yet sends the rest.
        client.sendall(b"x" * 900)
        client.shutdown(socket.SHUT_WR)
        assert b"100 Continue" not in first + received(client)


@pytest.mark.parametrize("caller", ["nobody", "a wrong password", "of the node"])
def test_client_that_sends_a_body_without_waiting_gets_its_answer(
    node: Node, callers: dict[str, tuple[str, int]], caller: str
) -> None:
    header, status = callers[caller]
    length = 3_000_000
    with ask(node, "PUT /raw/k", header, b"Content-Length: %d" % length) as client:
        client.sendall(b"x" * length)
        client.shutdown(socket.SHUT_WR)
        assert int(received(client).split()[1]) == status


@pytest.mark.parametrize("way", WAYS)
def test_body_of_who_may_is_read_when_it_comes(node: Node, way: str) -> None:
    line, part = WAYS[way]
    with ask(node, "PUT /raw/k", f"Authorization: {ROOT}", line) as client:
        client.sendall(part)
        if b"Expect" in line:
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        is_chunked = b"chunked" in line
        rest = b"x" * 999 + b"\r\n0\r\n\r\n" if is_chunked else b"x" * (1000 - len(part))
        client.sendall(rest)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("pause", [False, True], ids=["in one read", "after the head"])
def test_mget_of_who_may_read_no_key_finds_nothing_however_it_comes(
    node: Node, callers: dict[str, tuple[str, int]], pause: bool
) -> None:
    body, (header, _) = b'{"keys": ["k"]}', callers["of the node"]
    line = b"Content-Length: %d\r\nConnection: close" % len(body)
    # What asks for its 100 has its body come by itself for certain.
    line += b"\r\nExpect: 100-continue" if pause else b""
    head = f"POST /kv/mget HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode() + line
    head += b"\r\nContent-Type: application/json\r\n\r\n"
    with socket.create_connection((HOST, node.port), SECONDS) as client:
        client.sendall(head if pause else head + body)
        if pause:
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(body)
        answer = received(client)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert answer.endswith(b'{"values":[null]}')


def test_body_of_a_login_is_refused_by_its_length(node: Node) -> None:
    line = b"Content-Length: 5000\r\nExpect: 100-continue"
    with ask(node, "POST /auth/login", "X-None: 1", line) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
