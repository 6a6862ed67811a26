"""One real node that the HTTP tests share. Each test uses keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.http_support import Client
from tests.support import Node


@contextmanager
def running_node(folder: Path, worker_class: str) -> Iterator[Node]:
    """Run a standalone node with two HTTP workers of this class."""
    settings = {
        "server.workers": 2,
        "server.max_request_size_mb": 1,
        "kv_store.max_value_size_bytes": 100_000,
        "server.cors_origins": "https://app.example",
        "replication.read_wait_ms": 300,
    }
    node = Node(folder, "http", settings, {"SYNAP_WORKER_CLASS": worker_class})
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture(scope="session")
def http_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that stays up for the whole run."""
    with running_node(tmp_path_factory.mktemp("http"), "synap") as node:
        yield node


@pytest.fixture
def client(http_node: Node) -> Client:
    """Asks the shared node."""
    return Client(http_node.port)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return f"{request.module.__name__}:{request.node.name}"
