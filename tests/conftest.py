"""Fixtures for tests that run real processes; what they start is gone when the test ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support import Cluster, Node


class StartNode(Protocol):
    """Starts a node in a folder of the test; `settings` are keys as `server__workers`."""

    def __call__(self, name: str = "node", **settings: object) -> Node: ...


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Start nodes that answer `/health` before the call returns, and kill them at the end."""
    with ExitStack() as stack:

        def start(name: str = "node", **settings: object) -> Node:
            node = Node(tmp_path / name, name, settings)
            stack.callback(node.kill)
            node.start()
            return node

        yield start


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A healthy cluster of one master and three replicas."""
    cluster = Cluster(tmp_path, replicas=3)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
