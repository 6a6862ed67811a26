"""What `synap status` makes of what nodes tell of themselves and of each other."""

from __future__ import annotations

import pytest

from workers.cli.cluster_status import (
    NodeStatus,
    _lost,
    _masters_beside,
    _merged,
    _Told,
    _with_names,
)
from workers.cli.http_call import CallFailed

MASTER = NodeStatus("m", "http://m:1", "master", "writable", 1, 9)


def replica(state: str, lag_ms: int = 0, lag_entries: int = 0) -> NodeStatus:
    return NodeStatus("r", "http://r:1", "replica", state, 1, 9, lag_entries, lag_ms)


def merged(own: NodeStatus, told: NodeStatus) -> NodeStatus:
    rows = _merged([_Told(own, [], ""), _Told(MASTER, [told], "")])
    return next(row for row in rows if row.node == "r")


def test_replica_whose_master_misses_it_is_shown_as_the_master_knows_it() -> None:
    row = merged(replica("in_sync"), replica("disconnected", 40_000, 7))
    assert (row.state, row.lag_ms, row.lag_entries) == ("disconnected", 40_000, 7)
    assert row.note == "says in_sync, and its master disconnected"


def test_masters_that_replicas_tell_count_for_want_of_another_alone() -> None:
    gone = NodeStatus("old", "http://old:1", "master", "disconnected")
    told = _Told(replica("in_sync"), [gone], "others")
    assert [row.node for row in _merged([told])] == ["r", "old"]
    assert [row.node for row in _merged([told, _Told(MASTER, [], "")])] == ["r", "m"]
    itself = _Told(NodeStatus("old", "http://old:1", "replica", "in_sync"), [], "others")
    assert [row.node for row in _merged([told, itself])] == ["r", "old"]


def test_master_whose_reign_is_over_says_nothing_of_replicas_that_others_have() -> None:
    over = NodeStatus("o", "http://o:1", "master", "stale_epoch", 1, 5)
    lost = replica("disconnected", 40_000, 7)
    rows = _merged([_Told(over, [lost], ""), _Told(replica("in_sync"), [], "")])
    assert next(row for row in rows if row.node == "r") == replica("in_sync")
    rows = _merged([_Told(over, [lost], ""), _Told(MASTER, [replica("in_sync", 3)], "")])
    assert next(row for row in rows if row.node == "r") == replica("in_sync", 3)


@pytest.mark.parametrize("own", ["replica_silent", "diverged"])
def test_replica_that_is_unwell_is_shown_as_itself_tells(own: str) -> None:
    assert merged(replica(own, 50_000), replica("in_sync", 3)).state == own
    assert merged(replica(own, 50_000), replica("in_sync", 3)).lag_ms == 50_000


def test_master_that_has_left_the_cluster_and_runs_again_has_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = {
        "http://m:1": _Told(MASTER, [replica("disconnected")], ""),
        "http://r:1": _Told(replica("in_sync"), [], ""),
        "http://x:1": _Told(NodeStatus("y", "http://x:1", "master", "writable", 1, 9), [], ""),
    }
    monkeypatch.setattr(
        "workers.cli.cluster_status._ask", lambda url: runs.get(url) or CallFailed("no answer")
    )
    before = {"m": "http://m:1", "r": "http://r:1", "x": "http://x:1", "gone": "http://gone:1"}
    assert _masters_beside(before, ["other"]) == [MASTER]
    assert _masters_beside(before, ["m"]) == []


def test_silent_node_gets_the_name_that_its_address_had_before() -> None:
    silent = [NodeStatus("", "http://m:1", "", "unreachable")]
    before = {"m": "http://m:1", "r": "http://r:1"}
    assert _with_names(before, [replica("in_sync")], silent)[1][0].node == "m"
    # Others tell of it already.
    assert _with_names(before, [MASTER], silent)[1] == []
    assert _with_names({}, [], silent)[1] == silent


def test_node_that_was_seen_before_and_is_told_by_nobody_has_a_row() -> None:
    (row,) = _lost({"m": "http://m:1", "r": "http://r:1"}, [replica("in_sync")])
    assert (row.node, row.state) == ("m", "unreachable")
