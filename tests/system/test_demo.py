"""The demonstration's checks, against real nodes."""

from __future__ import annotations

import pytest

from ops.demo import DemoFailed, Nodes, demonstrate, equal_digest
from ops.packages import Package
from tests.conftest import StartNode
from tests.support import HOST, Cluster, Node

PACKAGES: list[Package] = [
    {"Package": f"p{number}", "Version": "1", "Architecture": "all", "Description": "ü\n" * number}
    for number in range(200)
]


def test_demonstration_ends_with_the_digest_that_all_nodes_have(cluster: Cluster) -> None:
    replicas = tuple(map(url_of, cluster.replicas))
    table = demonstrate(Nodes(url_of(cluster.master), replicas), PACKAGES, connections=4)
    names, values = (list(column.cells) for column in table.columns)
    shown = dict(zip(names, values, strict=True))
    assert (shown["nodes with equal digests"], shown["keys"]) == ("4", "200")


def test_demonstration_on_nodes_that_differ_fails(start_node: StartNode) -> None:
    one, other = start_node("one"), start_node("other")
    one.request("POST", "/kv/set", {"key": "only", "value": "here"})
    with pytest.raises(DemoFailed, match="the nodes differ"):
        equal_digest(Nodes(url_of(one), (url_of(other),)))


def url_of(node: Node) -> str:
    """Return where a node's HTTP listens."""
    return f"http://{HOST}:{node.port}"
