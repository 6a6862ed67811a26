"""The steps of a fail-over by hand, on nodes that exist in memory alone."""

from __future__ import annotations

from typing import Any

import pytest

from workers.cli.failover import Failover, FailoverFailed, Promoted
from workers.cli.http_call import CallFailed, CallRefused
from workers.cli.switchover import Switchover


class Nodes:
    """Replicas of a master that is gone, as the HTTP API shows them.

    Attributes:
        facts: What each tells, by name.
        calls: Every POST, as (node, action).
        gone: Who does not answer.
        refuses: Who promises nothing.
        moved: The offset that one has when it is sealed, by name.
    """

    def __init__(self, quorum: int = 1, **offsets: int) -> None:
        self.calls: list[tuple[str, str]] = []
        self.gone: set[str] = set()
        self.refuses: set[str] = set()
        self.moved: dict[str, int] = {}
        self.facts: dict[str, dict[str, Any]] = {
            name: {
                "node_id": name, "role": "replica", "status": "disconnected", "epoch": 3,
                "sealed_epoch": 0, "rank": [3, 3, offset], "min_replicas_to_write": quorum,
                "voters": [f"{each}:3" for each in offsets], "read_only": None, "note": None,
                "replica_listen_address": "0.0.0.0:2", "sync_listen_address": "0.0.0.0:3",
            }
            for name, offset in offsets.items()
        }  # fmt: skip

    def get(self, url: str, path: str, timeout_seconds: float) -> dict[str, Any]:
        return self._node(url)

    def post(
        self, url: str, path: str, body: dict[str, Any] | None, timeout_seconds: float
    ) -> dict[str, Any]:
        node, action = self._node(url), path.removeprefix("/replication/")
        name = node["node_id"]
        self.calls.append((name, action))
        if action == "seal":
            if name in self.refuses:
                raise CallRefused("it knows a later one")
            rank = [3, 3, self.moved.get(name, node["rank"][2])]
            return {"epoch": (body or {})["epoch"], "rank": rank}
        if action == "promote":
            node["role"] = "master"
            return {"offset": node["rank"][2], "epoch": (body or {})["epoch"], "lost": []}
        node |= {"epoch": 4, "status": "in_sync"}
        return {}

    def _node(self, url: str) -> dict[str, Any]:
        name = url.removeprefix("http://").partition(":")[0]
        if name in self.gone:
            raise CallFailed(f"{url} does not answer")
        return self.facts[name]

    @property
    def master(self) -> list[str]:
        return [name for name, facts in self.facts.items() if facts["role"] == "master"]


def fail_over(nodes: Nodes, *, force: bool = False) -> Promoted:
    switchover = Switchover(nodes, timeout_seconds=5.0, tell=lambda _: None)
    urls = [f"http://{name}:1" for name in nodes.facts]
    return Failover(nodes, switchover, lambda _: None).run(urls, force=force)


def test_best_replica_is_promoted_and_the_others_follow() -> None:
    """Cites S3."""
    nodes = Nodes(a=10, b=12, c=11)
    promoted = fail_over(nodes)
    assert (promoted.master.id, promoted.epoch, promoted.strays) == ("b", 4, {})
    assert nodes.calls[0] == ("b", "seal")
    assert nodes.calls.index(("b", "promote")) == 3
    assert {("a", "follow"), ("c", "follow")} <= set(nodes.calls[4:])


def test_with_two_copies_of_each_write_one_replica_may_be_lost_too() -> None:
    nodes = Nodes(2, a=10, b=12, c=11)
    nodes.gone = {"b"}
    promoted = fail_over(nodes)
    assert promoted.master.id == "c"
    assert len(promoted.silent) == 1


def test_missing_replica_that_may_hold_the_only_copy_keeps_all_as_it_was() -> None:
    nodes = Nodes(1, a=10, b=12, c=11)
    nodes.gone = {"c"}
    with pytest.raises(FailoverFailed, match=r"2 of 3 voters answer, and 3 are needed.*c:3"):
        fail_over(nodes)
    assert nodes.calls == []


def test_force_goes_on_without_it_and_says_what_may_be_lost() -> None:
    nodes = Nodes(1, a=10, b=12, c=11)
    nodes.gone = {"c"}
    promoted = fail_over(nodes, force=True)
    assert promoted.master.id == "b"
    assert "behind offset 12" in promoted.lost[0]


def test_one_that_does_not_promise_is_a_seal_too_few() -> None:
    nodes = Nodes(1, a=10, b=12, c=11)
    nodes.refuses = {"c"}
    with pytest.raises(FailoverFailed, match="2 of 3 voters are sealed"):
        fail_over(nodes)
    assert nodes.master == []


def test_one_that_took_more_before_its_seal_is_named() -> None:
    nodes = Nodes(1, a=10, b=12, c=11)
    nodes.moved = {"c": 14}
    with pytest.raises(FailoverFailed, match="c holds more than b"):
        fail_over(nodes)
    assert nodes.master == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"role": "master"}, "switchover"),
        ({"status": "in_sync"}, "still heard"),
        ({"status": "diverged"}, "3 are needed|diverged"),
    ],
)
def test_master_that_is_there_and_data_that_is_none_stop_it(
    changes: dict[str, object], words: str
) -> None:
    nodes = Nodes(1, a=10)
    nodes.facts["a"] |= changes
    with pytest.raises(FailoverFailed, match=words):
        fail_over(nodes)
    assert nodes.calls == []
