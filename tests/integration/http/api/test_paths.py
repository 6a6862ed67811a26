"""Spellings of a path: one means the route by every way in, the others mean none by any."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration.http_support import DEADLINE_SECONDS, Client
from tests.support import HOST, Node

PASSWORD = "correct horse"
SPELLINGS = [
    "//kv/get/{key}", "///kv/get/{key}", "/./kv/get/{key}", "/kv/./get/{key}", "/kv//get/{key}",
    "/kv/get//{key}", "/kv/get/./{key}", "/kv/get/../get/{key}", "/%2Fkv/get/{key}",
    "%2Fkv/get/{key}", "/kv%2Fget%2F{key}", "/kv%2fget/{key}", "/%6Bv/get/{key}", "/KV/get/{key}",
    "/kv/get/{key}/", "/kv/get/{key}//", "/;/kv/get/{key}", "/kv;a/get/{key}", "\\kv\\get\\{key}",
    "//", "//health", "//kv/scan", "//kv/stats", "//metrics", "/health/", "//auth/users",
    "//auth/login", "/auth//users", "/%2e/health",
]  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = {"auth.enabled": True, "auth.root.password": PASSWORD, "rate_limit.enabled": True}
    with Node(tmp_path_factory.mktemp("paths"), "paths", settings) as node:
        yield Client(node.port)


def statuses(client: Client, method: str, path: str) -> set[int]:
    """Send a request three times on one connection, as one that the short way may learn."""
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    found = set()
    with socket.create_connection((HOST, client.port), DEADLINE_SECONDS) as raw:
        for _ in range(3):
            raw.sendall(request)
            answer = raw.recv(65536)
            if not answer:
                break
            found.add(int(answer.split()[1]))
    return found


@pytest.mark.parametrize("path", SPELLINGS)
def test_other_spelling_is_no_route_by_any_way(
    client: Client, guarded: Client, key: str, path: str
) -> None:
    client.put(key, "kept")
    named = path.format(key=key.replace("[", "").replace("]", ""))
    for method in ("GET", "POST", "DELETE"):
        assert statuses(client, method, named) <= {400, 404, 405}
        assert statuses(guarded, method, named) <= {400, 401}
