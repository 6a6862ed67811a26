"""What a worker holds for many clients who mean no good stays within its budget."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.support import HOST, Node, children_of, eventually

PASSWORD = "correct horse"
MIB = 1024 * 1024
BUDGET_MIB = 96
VALUE_BYTES = 4 * MIB
# `make chaos` has the long form.
CONNECTIONS = 1000 if "SYNAP_CHAOS_ROUNDS" in os.environ else 300
PUSH_SECONDS = 1.5
SERVED_SECONDS = 10.0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings = {
        "server.worker_memory_mb": BUDGET_MIB,
        "server.max_connections_per_address": 0,
        "kv_store.max_value_size_bytes": VALUE_BYTES,
        "replication.read_wait_ms": 30_000,
        "persistence.snapshot.enabled": False,
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
    }
    with Node(tmp_path_factory.mktemp("memory"), "memory", settings) as node:
        yield node


@pytest.fixture(scope="module")
def key(node: Node) -> str:
    root = "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()
    answer = node.request("POST", "/auth/keys", {"name": "k"}, {"Authorization": root})
    made: str = answer.json()["key"]["key"]
    body = {"key": "large", "value": "x" * VALUE_BYTES}
    assert node.request("POST", "/kv/set", body, {"X-API-Key": made}).status == 200
    return made


def _post(path: str, body: bytes, length: int | None = None) -> bytes:
    announced = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nKEYContent-Length: {announced}\r\n\r\n"
    return head.encode() + body


GET = b"GET /kv/get/large HTTP/1.1\r\nHost: localhost\r\nKEY\r\n"
WAIT = b"GET /kv/get/a HTTP/1.1\r\nHost: localhost\r\nKEYX-Synap-Min-Offset: 99999999\r\n\r\n"
LONG_HEAD = b"GET /kv/get/a HTTP/1.1\r\nHost: localhost\r\nKEYA: " + b"a" * 3000 + b"\r\n\r\n"
MGET = json.dumps({"keys": ["large"] * 2}).encode()
BATCH = json.dumps(
    {"type": "batch", "commands": [{"command": "kv.get", "payload": {"key": "large"}}] * 100}
).encode()
FLOODS = {
    "half bodies of strangers": _post("/kv/set", b"[" * MIB, 9 * MIB).replace(b"KEY", b""),
    "half bodies": _post("/kv/set", b"[" * MIB, 9 * MIB),
    "pipelined bodies": WAIT + _post("/kv/set", b"[" * 60_000) * 40,
    "pipelined heads": WAIT + LONG_HEAD * 400,
    "unread values": GET * 8,
    "unread mgets": _post("/kv/mget", MGET) * 8,
    "unread batches": _post("/api/v1/command", BATCH) * 8,
}


def push(clients: list[tuple[socket.socket, bytes]], seconds: float) -> None:
    """Send as much as the node takes, and read nothing."""
    left = {client: memoryview(request) for client, request in clients}
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        for client, rest in tuple(left.items()):
            try:
                left[client] = rest[client.send(rest[: 256 * 1024]) :]
            except BlockingIOError:
                continue
            except OSError:
                del left[client]
                continue
            if not left[client]:
                del left[client]
        time.sleep(0.005)


def worker_of(node: Node) -> int:
    return eventually(lambda: next(iter(children_of(node.http_pid())), 0))


def reset_peak(pid: int) -> int:
    """Return what the process has in memory, in MiB, and begin to look for a new peak."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_of(pid)


def peak_of(pid: int) -> int:
    """Return the most that the process had in memory of its own, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].split()[0]) // 1024


def is_served(node: Node, key: str) -> bool:
    """Whether a small read is answered; a missing key is."""
    with suppress(OSError):
        answer = node.request("GET", "/kv/get/none", None, {"X-API-Key": key}, SERVED_SECONDS)
        return answer.status == HTTPStatus.NOT_FOUND
    return False


@pytest.mark.parametrize("name", FLOODS)
def test_worker_stays_within_its_budget(node: Node, key: str, name: str) -> None:
    request = FLOODS[name].replace(b"KEY", f"X-API-Key: {key}\r\n".encode())
    pid = worker_of(node)
    before = reset_peak(pid)
    with ExitStack() as stack:
        clients = []
        for _ in range(CONNECTIONS):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((HOST, node.port))
            client.setblocking(False)
            clients.append((client, request))
        pushing = threading.Thread(target=push, args=(clients, PUSH_SECONDS))
        pushing.start()
        pushing.join()
        eventually(lambda: is_served(node, key), SERVED_SECONDS)
    assert worker_of(node) == pid
    assert peak_of(pid) - before < BUDGET_MIB
