"""One real node that the HTTP tests share. Each test uses keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.http_support import Client
from tests.integration.key_ring import KeyRing
from tests.integration.linked_nodes import Bench
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
    with Node(folder, "http", settings, {"SYNAP_WORKER_CLASS": worker_class}) as node:
        yield node


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


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of the test's own, for nodes that it makes in this process."""
    path = tmp_path / "run"
    monkeypatch.setenv("SYNAP_RUN_DIR", str(path))
    return path


@pytest.fixture
def bench(tmp_path: Path, run_dir: Path) -> Bench:
    """Makes masters and replicas on the test's loop."""
    return Bench(tmp_path)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """Key files for nodes that `bench` makes."""
    return KeyRing(tmp_path)
