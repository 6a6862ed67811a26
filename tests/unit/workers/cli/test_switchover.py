"""The steps of a switchover, on nodes that exist in memory alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.cli.http_call import CallFailed, CallRefused
from workers.cli.switchover import Moved, Switchover, SwitchoverFailed

MASTER, HEIR, OTHER = "http://m:1", "http://h:1", "http://o:1"


class Cluster:
    """A master with two replicas that do as they are told, as the HTTP API shows them.

    Attributes:
        calls: Every POST, as (node, action).
        breaks: Raises in place of an answer to a POST, by (node, action).
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, str]] = []
        self.breaks: dict[tuple[str, str], Exception] = {}
        self.offset = 100
        self.held_offset = 100
        self.entries_a_look = 0
        self.master = MASTER
        self.epoch = 1
        self.pause_ends = 0.0
        self.has_stepped_down = False
        self.followers = {HEIR: MASTER, OTHER: MASTER}
        self.heard_at = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get(self, url: str, path: str, timeout_seconds: float) -> dict[str, Any]:
        assert path == "/health/replication"
        facts: dict[str, Any] = {
            "node_id": name_of(url),
            "epoch": self.epoch,
            "read_only": None,
            "replica_listen_address": "0.0.0.0:2",
            "sync_listen_address": "0.0.0.0:3",
        }
        if url in self.followers:
            self.held_offset = min(self.offset, self.held_offset + self.entries_a_look)
            return facts | {
                "role": "replica", "master_url": self.followers[url], "status": "in_sync",
                "lag_ms": 0, "lag_entries": 0, "local_offset": self.held_offset,
            }  # fmt: skip
        read_only = "stale_epoch" if url == MASTER and self.has_stepped_down else None
        heard = self.followers if self.now >= self.heard_at else ()
        replicas = [{"id": name_of(each), "url": each} for each in heard]
        return facts | {"role": "master", "read_only": read_only, "replicas": replicas}

    def post(
        self, url: str, path: str, body: dict[str, Any] | None, timeout_seconds: float
    ) -> dict[str, Any]:
        action = path.removeprefix("/replication/")
        self.calls.append((name_of(url), action))
        if (error := self.breaks.get((name_of(url), action))) is not None:
            raise error
        answers: dict[str, Callable[[str, dict[str, Any]], None]] = {
            "pause": self._pause, "resume": self._resume, "step-down": self._step_down,
            "promote": self._promote, "follow": self._follow,
        }  # fmt: skip
        answers[action](url, body or {})
        return {"offset": self.offset, "epoch": self.epoch}

    @property
    def takes_writes(self) -> bool:
        return not self.has_stepped_down and self.now >= self.pause_ends

    def _pause(self, url: str, body: dict[str, Any]) -> None:
        self.pause_ends = self.now + body["seconds"]

    def _resume(self, url: str, body: dict[str, Any]) -> None:
        self.pause_ends = 0.0

    def _step_down(self, url: str, body: dict[str, Any]) -> None:
        assert self.now < self.pause_ends, "the pause was over"
        assert body == {"offset": self.offset, "master_url": HEIR}
        self.has_stepped_down = True

    def _promote(self, url: str, body: dict[str, Any]) -> None:
        self.followers.pop(url, None)
        self.epoch += 1
        if url == MASTER:
            self.has_stepped_down, self.pause_ends = False, 0.0

    def _follow(self, url: str, body: dict[str, Any]) -> None:
        assert body == {"master_address": "h:2", "master_sync_address": "h:3"}
        self.followers[url] = HEIR


def name_of(url: str) -> str:
    return url.removeprefix("http://").partition(":")[0]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def move(cluster: Cluster, url: str = MASTER, to: str = "h", *named: str) -> Moved:
    switchover = Switchover(
        cluster, timeout_seconds=5.0, tell=lambda _: None, named=named,
        now=lambda: cluster.now, sleep=cluster.sleep,
    )  # fmt: skip
    return switchover.run(url, to)


def test_master_that_was_promoted_moments_ago_gets_time_to_hear_its_replicas(
    cluster: Cluster,
) -> None:
    cluster.heard_at = 1.0
    assert move(cluster).strays == {}
    assert cluster.followers == {MASTER: HEIR, OTHER: HEIR}


def test_replica_that_its_master_never_hears_is_told_where_it_was_named(cluster: Cluster) -> None:
    cluster.followers.pop(OTHER)
    move(cluster, MASTER, "h", "http://x:1")
    assert ("x", "follow") in cluster.calls


def test_name_of_no_replica_is_refused_with_those_that_there_are(cluster: Cluster) -> None:
    with pytest.raises(SwitchoverFailed, match="its replicas are: h, o"):
        move(cluster, MASTER, "typo")
    assert cluster.now < 5.0


@pytest.mark.parametrize(("url", "to"), [(MASTER, "h"), (OTHER, "h"), (HEIR, HEIR)])
def test_switchover_moves_the_master_from_any_node_and_repoints_everyone(
    cluster: Cluster, url: str, to: str
) -> None:
    """W3, W4."""
    moved = move(cluster, url, to)
    assert (moved.master.id, moved.epoch, moved.offset, moved.strays) == ("h", 2, 100, {})
    steps = ("pause", "step-down", "promote")
    assert [call for call in cluster.calls if call[1] in steps] == [
        ("m", "pause"), ("m", "step-down"), ("h", "promote"),
    ]  # fmt: skip
    assert cluster.followers == {MASTER: HEIR, OTHER: HEIR}


def test_switchover_waits_until_the_replica_has_everything(cluster: Cluster) -> None:
    """W3."""
    cluster.held_offset, cluster.entries_a_look = 0, 10
    move(cluster)
    assert cluster.held_offset == 100


def test_replica_that_stays_behind_leaves_the_master_in_office(cluster: Cluster) -> None:
    """W3: aborted with something of the pause left."""
    cluster.held_offset = 99
    with pytest.raises(SwitchoverFailed, match="did not have offset 100 in time"):
        move(cluster)
    assert cluster.now < 5.0
    assert cluster.takes_writes
    assert cluster.calls == [("m", "pause"), ("m", "resume")]


@pytest.mark.parametrize("action", ["pause", "step-down"])
def test_master_that_refuses_a_step_goes_on(cluster: Cluster, action: str) -> None:
    cluster.breaks["m", action] = CallRefused("no")
    with pytest.raises(CallRefused):
        move(cluster)
    assert cluster.takes_writes
    assert ("h", "promote") not in cluster.calls


def test_replica_that_refuses_its_promotion_has_the_old_master_promoted(cluster: Cluster) -> None:
    """W4."""
    cluster.breaks["h", "promote"] = CallRefused("its port is taken")
    with pytest.raises(SwitchoverFailed, match="m is the master again, epoch 2"):
        move(cluster)
    assert cluster.takes_writes
    assert cluster.followers == {HEIR: MASTER, OTHER: MASTER}


def test_promotion_of_unknown_outcome_promotes_nobody_else(cluster: Cluster) -> None:
    """W4: two masters would be worse than none."""
    cluster.breaks["h", "promote"] = CallFailed("no answer")
    with pytest.raises(SwitchoverFailed, match="it is unknown whether h was promoted"):
        move(cluster)
    assert ("m", "promote") not in cluster.calls


def test_node_that_can_t_be_told_is_named(cluster: Cluster) -> None:
    cluster.breaks["o", "follow"] = CallFailed("no answer")
    assert move(cluster).strays == {"o": "no answer"}


def test_name_of_no_replica_changes_nothing(cluster: Cluster) -> None:
    with pytest.raises(SwitchoverFailed, match="x is no replica of m; its replicas are: h, o"):
        move(cluster, to="x")
    assert cluster.calls == []


def test_master_that_has_stepped_down_is_not_moved(cluster: Cluster) -> None:
    cluster.has_stepped_down = True
    with pytest.raises(SwitchoverFailed, match=r"no master that takes writes \(stale_epoch\)"):
        move(cluster)
    assert cluster.calls == []
