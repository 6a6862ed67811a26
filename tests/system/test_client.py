"""The Python client on a real cluster: its README's examples, and where its reads and writes go."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import httpx
import pytest
from synap_client import (
    AsyncClient,
    Change,
    Client,
    KeySet,
    NotForACluster,
    Options,
    PositionLost,
    Progress,
    Refused,
    Unreachable,
    Watched,
    WatchReset,
    txn,
)

from tests.chaos.client_load import Load
from tests.chaos.stage import Stage
from tests.support import HOST, Cluster, Node, eventually, free_port
from tests.system.test_roles import HEARTBEAT

README = Path(__file__).parents[2] / "clients/python/README.md"
_EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NODES = re.compile(r"^NODES = .*$", re.MULTILINE)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and a replica, level, whose reads do not wait long for a position."""
    folder = tmp_path_factory.mktemp("client")
    with Cluster(folder, 1, **HEARTBEAT, replication__read_wait_ms=100) as cluster:
        first = {"key": "first", "value": 1}
        quorum = {"X-Synap-Min-Replicas": "1"}
        eventually(lambda: cluster.master.request("POST", "/kv/set", first, quorum).status == 200)
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(urls(*cluster.replicas, cluster.master)) as client:
        yield client


def urls(*nodes: Node) -> list[str]:
    return [f"http://{HOST}:{node.port}" for node in nodes]


@contextmanager
def stalled(node: Node) -> Iterator[None]:
    """Have a node apply nothing meanwhile; it answers as ever."""
    pid = node.owner_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_examples_of_the_readme_run(cluster: Cluster) -> None:
    examples = _EXAMPLE.findall(README.read_text())
    assert len(examples) == 4
    nodes = f"NODES = {urls(*cluster.nodes)!r}"
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(_NODES.sub(nodes, example), str(README), "exec"), names)


def test_reads_see_the_own_write_where_the_replica_lags(cluster: Cluster, client: Client) -> None:
    with stalled(cluster.replicas[0]):
        for number in range(3):
            client.set("own", number)
            assert client.get("own") == str(number)


def test_reads_go_to_a_replica_and_writes_to_the_master(client: Client) -> None:
    client.set("where", 1)
    answers = [client.http.get("/kv/get/where") for _ in range(4)]
    assert all("x-synap-lag-ms" in answer.headers for answer in answers)
    commands = {"type": "batch", "commands": [{"command": "kv.incr", "payload": {"key": "where"}}]}
    results = client.http.post("/api/v1/command", json=commands).json()["results"]
    assert results[0]["payload"] == {"value": 2}
    assert client.mget(["where", "nowhere"]) == ["2", None]


def test_read_that_names_a_lost_position_says_so_once(cluster: Cluster) -> None:
    with Client(urls(*cluster.nodes)) as client:
        # As after a fail-over that lost it: no node's log has it.
        client.see("99999-0123abcd")
        with pytest.raises(PositionLost):
            client.get("first")
        assert client.get("first") == "1"


def test_position_has_another_client_see_the_write(cluster: Cluster, client: Client) -> None:
    with stalled(cluster.replicas[0]), Client(urls(*cluster.nodes)) as other:
        client.set("handed", "over")
        other.see(client.position)
        assert other.get("handed") == "over"
        with pytest.raises(ValueError, match="no position"):
            other.see("12")


def test_any_key_and_any_bytes_come_back(client: Client) -> None:
    data = bytes(range(256))
    for key in ("a/b", "..", ".", "ü 😀", "a%2Fb", "?x#y", "a+b&c"):
        version = client.set_bytes(key, data)
        found = client.get_value(key)
        assert found is not None
        assert (found.data, found.version) == (data, version)
        assert client.set_bytes(key, b"", nx=True) is None
        assert not client.delete(key, if_version="1-00000000")
        assert client.delete(key, if_version=version)
        assert client.get(key) is None


def test_scan_goes_over_pages(client: Client) -> None:
    client.mset({f"page:{number}": number for number in range(5)})
    assert list(client.scan("page:", page_size=2)) == [f"page:{number}" for number in range(5)]
    assert list(client.scan("page:", pattern="*[34]")) == ["page:3", "page:4"]


def test_errors_of_a_node_are_told_as_they_are(client: Client) -> None:
    client.set("text", "no number")
    with pytest.raises(Refused, match="not a decimal integer") as told:
        client.incr("text")
    assert (told.value.status, told.value.reason) == (400, "invalid_value")
    with pytest.raises(Refused, match=r"parts|then") as told:
        client.txn(then=[txn.set("a", 1), {"nothing": {}}])
    assert told.value.status == 422


def test_own_idempotency_key_is_kept(client: Client) -> None:
    for _ in range(2):
        sent = {"Idempotency-Key": "mine"}
        answer = client.http.post("/kv/incr", json={"key": "once"}, headers=sent)
        assert answer.json()["value"] == 1


def test_what_is_for_one_node_is_not_sent(client: Client) -> None:
    with pytest.raises(NotForACluster, match="/replication/promote"):
        client.http.post("/replication/promote", json={})


def test_nodes_that_are_not_there_are_told_in_time() -> None:
    options = Options(deadline_seconds=0.3)
    with Client([f"http://{HOST}:{free_port()}"], options) as client:
        with pytest.raises(Unreachable, match=r"no node answered in 0\.3 s"):
            client.get("first")
        with pytest.raises(httpx.TransportError):
            client.incr("first")


def test_old_data_is_not_read_where_it_is_too_old(cluster: Cluster) -> None:
    replica = cluster.replicas[0]
    options = Options(deadline_seconds=0.5, max_lag_ms=0)
    with Client(urls(replica), options) as client, stalled(replica):
        eventually(
            lambda: int(replica.request("GET", "/kv/get/first").headers["x-synap-lag-ms"]) > 0
        )
        with pytest.raises(Unreachable, match="older than 0 ms"):
            client.get("first")


def test_watch_from_where_no_log_goes_on_is_a_reset(client: Client) -> None:
    with pytest.raises(WatchReset) as told:
        next(client.watch(start="99999-0123abcd"))
    assert told.value.reason == "diverged"


def test_async_watch_begins_with_a_position_to_go_on_from(cluster: Cluster) -> None:
    async def talk() -> Change:
        async with AsyncClient(urls(*cluster.nodes)) as client:
            watched = Watched(keys=["followed"])
            async with aclosing(client.watch(watched)) as events:
                begun = await anext(events)
                assert isinstance(begun, Progress)
            await client.incr("followed")
            async with aclosing(client.watch(watched, start=begun.position)) as events:
                return await anext(event async for event in events if isinstance(event, Change))

    (written,) = asyncio.run(talk()).changes
    assert isinstance(written, KeySet)
    assert written.data == b"1"


# Several starts of processes, which a busy machine is slow at. The last test: roles change.
@pytest.mark.timeout(180)
def test_client_rides_on_kills_a_switchover_and_a_promotion(cluster: Cluster) -> None:
    """No write that was answered is lost, and none counts twice; tests/chaos has the long form."""
    stage, load = Stage(cluster), Load(cluster)
    with load.running():
        for fault in (stage.lose_writer, stage.switch_over, stage.lose_master):
            load.await_more()
            fault()
        load.await_more()
    load.check(stage.master)
