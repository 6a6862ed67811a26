"""Fixtures for tests that run real processes; what they start is gone when the test ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

from tests.support import Cluster, Node

# Bytecode is kept whatever the environment says: else each process of each node that a test starts
# compiles every module anew, a quarter of its start, and so does each of xdist's processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What commands remember of clusters is not this user's, and not another test's.
os.environ["XDG_STATE_HOME"] = "/dev/null"

# The same examples at every run, however slow the machine is; SYNAP_EXPLORE=1 looks for new ones.
hypothesis.settings.register_profile(
    "quiet",
    deadline=None,
    derandomize="SYNAP_EXPLORE" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("quiet")

_SHORT = ("tests/unit/", "clients/")
# Files of one process that take as long as those of real nodes.
_LONG_UNIT_FILES = ("tests/unit/test_simulation.py", "tests/unit/http/server/test_connection.py")


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Have xdist, which gives out file after file, begin with the long ones.

    Those of real nodes wait much and compute little: with the others evenly among them no
    processor rests meanwhile. The short ones come last, so that all workers end together.
    """
    if not hasattr(config, "workerinput"):
        return
    kinds: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for item in items:
        file = item.nodeid.partition("::")[0]
        if not file.startswith(_SHORT) or file in _LONG_UNIT_FILES:
            kinds[file.startswith(("tests/system/", "tests/chaos/"))][file] = None
    places = {
        file: number / len(files) for files in kinds.values() for number, file in enumerate(files)
    }
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], 1.0))


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


@pytest.fixture(scope="module")
def module_node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """The node behind `shared_node`; SHARED_SETTINGS of the file are its settings."""
    settings = getattr(request.module, "SHARED_SETTINGS", {})
    node = Node(tmp_path_factory.mktemp("shared") / "node", "node", settings)
    yield node
    node.kill()


@pytest.fixture
def shared_node(module_node: Node) -> Node:
    """A running node that the tests of a file share, with whatever those before left in it."""
    if not module_node.is_running:
        module_node.start()
    return module_node


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A healthy cluster of one master and three replicas."""
    with Cluster(tmp_path, replicas=3) as cluster:
        yield cluster
