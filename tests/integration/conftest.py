"""One real node that the HTTP tests share. Each test uses keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.http_support import Client
from tests.support import Node


@pytest.fixture(scope="session")
def http_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A standalone node that stays up for the whole run, with two HTTP workers."""
    folder: Path = tmp_path_factory.mktemp("http")
    settings = {
        "server.workers": 2,
        "server.max_request_size_mb": 1,
        "kv_store.max_value_size_bytes": 100_000,
        "server.cors_origins": "https://app.example",
        "replication.read_wait_ms": 300,
    }
    node = Node(folder, "http", settings)
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture
def client(http_node: Node) -> Client:
    """Asks the shared node."""
    return Client(http_node.port)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return f"{request.module.__name__}:{request.node.name}"
