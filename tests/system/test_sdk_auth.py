"""The published Python SDK against a node that asks for credentials."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from synap_sdk import SynapClient, SynapConfig
from synap_sdk.exceptions import SynapException

from tests.support import HOST, Answer, Node

PASSWORD = "correct horse"
ROOT = {"Authorization": "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node where everybody needs credentials."""
    settings = {
        "auth.enabled": True,
        "auth.root.username": "root",
        "auth.root.password": PASSWORD,
    }
    with Node(tmp_path_factory.mktemp("sdk_auth"), "sdk", settings) as node:
        yield node


@pytest.fixture(scope="module")
def keys(node: Node) -> dict[str, str]:
    """API keys: `all` may do everything, `read` may read, `own` may do all with `own:…`."""
    permissions = {
        "all": [{"resource": "*", "action": "all"}],
        "read": [{"resource": "kv:*", "action": "read"}],
        "own": [{"resource": "kv:own:*", "action": "all"}],
    }
    made = {}
    for name, allowed in permissions.items():
        body = {"name": name, "permissions": allowed}
        answer = node.request("POST", "/auth/keys", body, ROOT)
        assert answer.status == 200, answer.body
        made[name] = answer.json()["key"]["key"]
    return made


def run(node: Node, talk: Callable[[SynapClient], Awaitable[Any]], **credentials: str) -> Any:
    """Return what `talk` does with a client that has `credentials`."""

    async def session() -> Any:
        config = SynapConfig(f"http://{HOST}:{node.port}", timeout=10, **credentials)
        async with SynapClient(config) as client:
            return await talk(client)

    return asyncio.run(session())


async def set_and_get(client: SynapClient) -> Any:
    await client.kv.set("own:a", 5)
    return await client.kv.get("own:a")


def ask(node: Node, key: str, body: object) -> Answer:
    return node.request("POST", "/api/v1/command", body, {"Authorization": f"Bearer {key}"})


def test_basic_and_bearer_are_let_in(node: Node, keys: dict[str, str]) -> None:
    assert run(node, set_and_get, username="root", password=PASSWORD) == 5
    assert run(node, set_and_get, auth_token=keys["all"]) == 5


@pytest.mark.parametrize(
    "credentials",
    [{}, {"username": "root", "password": "wrong"}, {"auth_token": "sk_" + "x" * 32}],
    ids=["none", "wrong password", "wrong key"],
)
def test_without_right_credentials_the_error_tells_401(
    node: Node, credentials: dict[str, str]
) -> None:
    with pytest.raises(SynapException, match=r"HTTP Error \(401\)"):
        run(node, set_and_get, **credentials)


def test_read_only_key_reads_and_is_refused_readably(node: Node, keys: dict[str, str]) -> None:
    run(node, set_and_get, auth_token=keys["all"])

    async def read(client: SynapClient) -> Any:
        return await client.kv.get("own:a")

    assert run(node, read, auth_token=keys["read"]) == 5
    refusal = "Server Error: Forbidden: Insufficient permissions for resource: kv:own:a"
    with pytest.raises(SynapException, match=refusal):
        run(node, set_and_get, auth_token=keys["read"])


# Every way in which the endpoint writes.
WRITES: list[tuple[str, dict[str, object]]] = [
    ("kv.set", {"key": "k", "value": 1}),
    ("kv.set", {"key": "k", "value": 1, "client_id": "c"}),
    ("kv.del", {"key": "k"}),
    ("kv.del", {"keys": ["k"]}),
    ("kv.incr", {"key": "k"}),
    ("kv.decr", {"key": "k", "client_id": "c"}),
    ("kv.incrbyfloat", {"key": "k", "amount": 1}),
    ("kv.mset", {"pairs": [["k", 1]]}),
    ("kv.msetnx", {"key": "k", "value": 1}),
    ("kv.mdel", {"keys": ["k"]}),
    ("kv.flushall", {}),
    ("kv.flushdb", {}),
    ("kv.expire", {"key": "k", "ttl": 1}),
    ("kv.persist", {"key": "k"}),
    ("kv.append", {"key": "k", "value": 1}),
    ("kv.setrange", {"key": "k", "offset": 0, "value": 1}),
    ("kv.getset", {"key": "k", "value": 1}),
    ("key.rename", {"source": "k", "destination": "l"}),
    ("key.renamenx", {"source": "k", "destination": "l"}),
    ("key.copy", {"source": "k", "destination": "l"}),
]


def test_read_only_key_writes_by_no_command_alone_or_in_a_batch(
    node: Node, keys: dict[str, str]
) -> None:
    commands = [{"command": command, "payload": payload} for command, payload in WRITES]
    multi = {"command": "transaction.multi", "payload": {"client_id": "c"}}
    batch = ask(node, keys["read"], {"type": "batch", "commands": [multi, *commands]}).json()
    answers = [ask(node, keys["read"], each).json() for each in commands]
    for answer in [*batch["results"][1:], *answers]:
        assert answer["error"].startswith("Forbidden: Insufficient permissions"), answer
    assert node.request("GET", "/digest", headers=ROOT).json()["keys"] == 1


def test_batch_is_checked_one_command_by_one(node: Node, keys: dict[str, str]) -> None:
    commands = [
        {"command": "kv.set", "payload": {"key": "own:b", "value": 1}},
        {"command": "kv.set", "payload": {"key": "other", "value": 1}},
        {"command": "kv.get", "payload": {"key": "own:b"}},
        {"command": "kv.get", "payload": {"key": "other"}},
        {"command": "transaction.watch", "payload": {"keys": ["own:b", "other"]}},
    ]
    answer = ask(node, keys["own"], {"type": "batch", "commands": commands}).json()
    assert [each["success"] for each in answer["results"]] == [True, False, True, False, False]


def test_transactions_of_two_users_with_one_client_id_are_apart(
    node: Node, keys: dict[str, str]
) -> None:
    def transact(key: str, command: str) -> Any:
        body = {"command": f"transaction.{command}", "payload": {"client_id": "same"}}
        return ask(node, key, body).json()

    made = {"username": "ann", "password": PASSWORD, "roles": ["readwrite"]}
    assert node.request("POST", "/auth/users", made, ROOT).status == 200
    ann = {"Authorization": "Basic " + b64encode(f"ann:{PASSWORD}".encode()).decode()}
    body = {"command": "transaction.multi", "payload": {"client_id": "same"}}
    assert node.request("POST", "/api/v1/command", body, ann).json()["success"] is True
    assert transact(keys["all"], "exec")["error"].endswith("No transaction in progress")
    assert transact(keys["all"], "multi")["success"] is True
    assert transact(keys["all"], "discard")["success"] is True
    body = {"command": "transaction.exec", "payload": {"client_id": "same"}}
    assert node.request("POST", "/api/v1/command", body, ann).json()["success"] is True
