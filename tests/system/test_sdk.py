"""The published Python SDK, unchanged, against a real cluster over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from synap_sdk import SynapClient, SynapConfig
from synap_sdk.exceptions import SynapException

from tests.support import HOST, Cluster, Node, eventually

Found = TypeVar("Found")
Talk = Callable[[SynapClient], Awaitable[Found]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master with two HTTP workers and one replica."""
    with Cluster(
        tmp_path_factory.mktemp("sdk"),
        replicas=1,
        server__workers=2,
        kv_store__allow_flush_commands=True,
    ) as cluster:
        yield cluster


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return f"sdk:{request.node.name}:"


def run(node: Node, talk: Talk[Found]) -> Found:
    """Return what `talk` does with a client of `node`."""

    async def session() -> Found:
        async with SynapClient(SynapConfig(f"http://{HOST}:{node.port}", timeout=10)) as client:
            return await talk(client)

    return asyncio.run(session())


def await_same_offset(cluster: Cluster) -> None:
    """Wait until the replica has applied what the master has logged."""

    def is_caught_up() -> bool:
        master, replica = [node.request("GET", "/health/replication").json() for node in nodes]
        return bool(master["current_offset"] == replica["local_offset"])

    nodes = cluster.nodes
    eventually(is_caught_up)


@pytest.mark.parametrize(
    "value", ["text", "ü€😀", "", 42, -1.5, True, None, [1, "a"], {"a": {"b": 1}}]
)
def test_set_then_get_gives_the_value_back(cluster: Cluster, key: str, value: Any) -> None:
    async def talk(client: SynapClient) -> Any:
        await client.kv.set(key, value)
        return await client.kv.get(key)

    assert run(cluster.master, talk) == value


def test_set_with_ttl_expires(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> tuple[Any, Any]:
        await client.kv.set(key, "v", ttl=0)
        await client.kv.set(key + "lives", "v", ttl=60)
        return await client.kv.get(key), await client.kv.get(key + "lives")

    assert run(cluster.master, talk) == (None, "v")


def test_delete_and_exists(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[Any]:
        await client.kv.set(key, "v")
        before = await client.kv.exists(key)
        await client.kv.delete(key)
        return [before, await client.kv.exists(key), await client.kv.get(key)]

    assert run(cluster.master, talk) == [True, False, None]


def test_incr_and_decr(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[int]:
        kv = client.kv
        return [
            await kv.incr(key),
            await kv.incr(key, 9),
            await kv.decr(key),
            await kv.decr(key, 5),
        ]

    assert run(cluster.master, talk) == [1, 10, 9, 4]


def test_scan_lists_by_prefix_up_to_the_limit(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[list[str]]:
        for number in range(5):
            await client.kv.set(f"{key}{number}", number)
        return [await client.kv.scan(key), await client.kv.scan(key, limit=2)]

    names = [f"{key}{number}" for number in range(5)]
    assert run(cluster.master, talk) == [names, names[:2]]


def test_stats_and_health(cluster: Cluster) -> None:
    async def talk(client: SynapClient) -> tuple[dict[str, Any], dict[str, Any]]:
        return await client.kv.stats(), await client.health()

    stats, health = run(cluster.master, talk)
    assert stats["operations"].keys() == {"gets", "sets", "dels", "hits", "misses"}
    assert health["status"] == "healthy"


def test_error_is_readable(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> None:
        await client.kv.set(key, "text")
        await client.kv.incr(key)

    with pytest.raises(SynapException, match=r"Server Error: Invalid value: .* integer"):
        run(cluster.master, talk)


async def _queue(client: SynapClient, command: str, **payload: object) -> None:
    answer = await client.send_command(command, payload)
    assert answer == {"success": True, "queued": True}


def test_transaction_commits(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[Any]:
        started = await client.transaction.multi(client_id=key)
        await _queue(client, "kv.set", key=key, value="5", client_id=key)
        await _queue(client, "kv.incr", key=key, amount=2, client_id=key)
        between = await client.kv.get(key)
        done = await client.transaction.exec(client_id=key)
        return [started, between, done, await client.kv.get(key)]

    started = {"success": True, "message": "Transaction started"}
    done = {"success": True, "results": [{"ok": True}, {"value": 7}]}
    assert run(cluster.master, talk) == [started, None, done, 7]


def test_transaction_is_discarded(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[Any]:
        await client.transaction.multi(client_id=key)
        await _queue(client, "kv.set", key=key, value="5", client_id=key)
        ended = await client.transaction.discard(client_id=key)
        with pytest.raises(SynapException, match="No transaction in progress"):
            await client.transaction.exec(client_id=key)
        return [ended["message"], await client.kv.get(key)]

    assert run(cluster.master, talk) == ["Transaction discarded", None]


def test_transaction_with_a_watched_key_changed_by_another_client_aborts(
    cluster: Cluster, key: str
) -> None:
    async def other(client: SynapClient) -> None:
        await client.kv.set(key, "theirs")

    async def talk(client: SynapClient) -> list[Any]:
        await client.transaction.watch([key], client_id=key)
        await client.transaction.multi(client_id=key)
        await _queue(client, "kv.set", key=key, value="mine", client_id=key)
        await asyncio.to_thread(run, cluster.master, other)
        return [await client.transaction.exec(client_id=key), await client.kv.get(key)]

    aborted = {
        "success": False,
        "aborted": True,
        "message": "Transaction aborted: watched keys changed",
    }
    assert run(cluster.master, talk) == [aborted, "theirs"]


def test_transaction_without_client_id_takes_no_commands(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[Any]:
        await client.transaction.multi()
        await client.kv.set(key, "at once")
        value = await client.kv.get(key)
        return [value, await client.transaction.exec()]

    assert run(cluster.master, talk) == ["at once", {"success": True, "results": []}]


def test_replica_serves_reads(cluster: Cluster, key: str) -> None:
    async def write(client: SynapClient) -> None:
        await client.kv.set(key + "a", {"x": 1})
        await client.transaction.multi(client_id=key)
        await _queue(client, "kv.set", key=key + "b", value="in one", client_id=key)
        await client.transaction.exec(client_id=key)

    async def read(client: SynapClient) -> list[Any]:
        kv = client.kv
        return [await kv.get(key + "a"), await kv.exists(key + "b"), await kv.scan(key)]

    run(cluster.master, write)
    await_same_offset(cluster)
    assert run(cluster.replicas[0], read) == [{"x": 1}, True, [key + "a", key + "b"]]


@pytest.mark.parametrize("write", ["set", "delete", "incr"])
def test_replica_refuses_writes_readably_and_names_the_master(
    cluster: Cluster, key: str, write: str
) -> None:
    async def talk(client: SynapClient) -> None:
        arguments = (key, "v") if write == "set" else (key,)
        await getattr(client.kv, write)(*arguments)

    master = f"http://{HOST}:{cluster.master.port}"
    with pytest.raises(SynapException, match=f"Server Error: Read-only replica: .*{master}"):
        run(cluster.replicas[0], talk)


def test_replica_refuses_transactions(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> None:
        await client.transaction.multi(client_id=key)

    with pytest.raises(SynapException, match="Read-only replica"):
        run(cluster.replicas[0], talk)


def test_replica_refuses_writes_of_a_batch_and_serves_its_reads(cluster: Cluster, key: str) -> None:
    commands = [
        {"command": "kv.set", "payload": {"key": key, "value": 1}},
        {"command": "kv.exists", "payload": {"key": key}},
    ]
    body = {"type": "batch", "commands": commands}
    answer = cluster.replicas[0].request("POST", "/api/v1/command", body)
    refused, read = answer.json()["results"]
    assert refused["error"].startswith("Read-only replica: ")
    assert (read["success"], read["payload"]) == (True, {"exists": False})
    assert "x-synap-lag-ms" in answer.headers


def test_replica_refuses_a_conditional_raw_write_as_any_other(cluster: Cluster, key: str) -> None:
    sent = {"If-Match": '"1"'}
    answer = cluster.replicas[0].request("PUT", f"/raw/{key}", b"x", sent)
    assert (answer.status, answer.json()["reason"]) == (421, "read_only_replica")


def test_flush_empties_master_and_replica(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> list[Any]:
        await client.kv.set(key, 1)
        size = await client.send_command("kv.dbsize")
        flushed = await client.send_command("kv.flushall")
        return [flushed["flushed"] == size["size"], await client.send_command("kv.dbsize")]

    assert run(cluster.master, talk) == [True, {"size": 0}]
    await_same_offset(cluster)
    digests = [node.request("GET", "/digest").json() for node in cluster.nodes]
    assert digests[0]["keys"] == 0
    assert digests[0] == digests[1]


def test_restarted_writer_carries_out_no_part_of_a_transaction(cluster: Cluster, key: str) -> None:
    async def talk(client: SynapClient) -> Any:
        await client.transaction.multi(client_id=key)
        await _queue(client, "kv.decr", key=key + "from", client_id=key)
        await _restart_writer(cluster.master, client, key + "probe")
        with pytest.raises(SynapException, match="No transaction of this client is open"):
            await _queue(client, "kv.incr", key=key + "to", client_id=key)
        with pytest.raises(SynapException, match="No transaction in progress"):
            await client.transaction.exec(client_id=key)
        return [await client.kv.exists(key + end) for end in ("from", "to")]

    assert run(cluster.master, talk) == [False, False]


async def _restart_writer(node: Node, client: SynapClient, probe: str) -> None:
    """Kill the writer, and wait until its successor takes writes."""
    old = node.owner_pid()
    os.kill(old, signal.SIGKILL)
    eventually(lambda: node.owner_pid() not in (0, old))
    async with asyncio.timeout(20):
        while not await _takes_writes(client, probe):
            await asyncio.sleep(0.05)


async def _takes_writes(client: SynapClient, key: str) -> bool:
    try:
        await client.kv.set(key, 1)
    except SynapException:
        return False
    return True
