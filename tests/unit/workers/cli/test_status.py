"""The table of `synap status`: what it keeps, and that it fits a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from workers.cli.cluster_status import UNREACHABLE, ClusterStatus, NodeStatus
from workers.cli.status import _table, kept_rows

MASTER = NodeStatus("m", "http://m:1", "master", "writable", 1, 9)
REPLICA = NodeStatus("r", "http://r:1", "replica", "in_sync", 1, 9, 0, 3, 100)


def test_node_that_nobody_tells_of_any_more_stays_as_unreachable() -> None:
    kept = kept_rows([MASTER, REPLICA], ClusterStatus([REPLICA], "")).nodes
    assert [(row.node, row.state) for row in kept] == [("r", "in_sync"), ("m", UNREACHABLE)]


def test_node_that_was_named_and_is_silent_keeps_its_name() -> None:
    silent = NodeStatus("", "http://m:1", "", UNREACHABLE)
    kept = kept_rows([MASTER, REPLICA], ClusterStatus([silent, REPLICA], "")).nodes
    assert [(row.node, row.role, row.state) for row in kept] == [
        ("r", "replica", "in_sync"), ("m", "master", UNREACHABLE),
    ]  # fmt: skip


def test_node_that_comes_back_is_there_once() -> None:
    lost = kept_rows([MASTER, REPLICA], ClusterStatus([REPLICA], ""))
    back = kept_rows(lost.nodes, ClusterStatus([MASTER, REPLICA], ""))
    assert back.nodes == [MASTER, REPLICA]


def test_table_of_a_cluster_fits_80_columns() -> None:
    rows = [
        NodeStatus("master", "http://127.0.0.1:15500", "master", "writable", 1, 1_234_567),
        NodeStatus(
            "replica1", "http://127.0.0.1:15510", "replica", "catching_up", 1, 1_234_000, 567,
            2_100, 300,
        ),
    ]  # fmt: skip
    text = io.StringIO()
    Console(file=text, width=80).print(_table(rows))
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "567/2.1s" in lines[2]
