"""What one may hold that all share: one takes all that they get, and another is served beside.

Once they are users, whose keys and addresses count together, and once addresses of a node that
asks nobody for a name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.http.api.test_auth import As, basic, bearer
from tests.support import Answer, Cluster, Node

PASSWORD = "correct horse"
CONNECTIONS = 60
SETTINGS: dict[str, Any] = {
    "server__trusted_proxies": "127.0.0.0/8",
    "server__max_connections": CONNECTIONS,
    "replication__read_wait_ms": 4000,
    "replication__ack_timeout_ms": 3000,
    "server__transaction_timeout_secs": 300,
}

Credentials = Mapping[str, str]


class Crowd:
    """A node, two ways to be the one who takes all, and another who wants to be served."""

    def __init__(self, node: Node, greedy: list[Credentials], modest: Credentials) -> None:
        self.node = node
        self.greedy = greedy
        self.modest = modest

    def batch(self, who: Credentials, commands: list[dict[str, Any]], **more: str) -> Counter[str]:
        """Send a batch; return how often there was which error, "" for none."""
        body = {"type": "batch", "commands": commands}
        answer = self.node.request(
            "POST", "/api/v1/command", body, {**who, **more}, timeout_seconds=30
        )
        return Counter(str(each["error"] or "")[:80] for each in answer.json()["results"])

    def run(self, who: Credentials, name: str, **payload: Any) -> Answer:
        body = {"command": name, "payload": payload}
        return self.node.request("POST", "/api/v1/command", body, who)

    def read(self, who: Credentials) -> tuple[int, str]:
        """Read with a wait that comes to nothing."""
        more = {**who, "X-Synap-Min-Offset": "1000000000"}
        answer = self.node.request("GET", "/kv/get/k", None, more)
        return answer.status, answer.json()["reason"]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    more = {"auth__enabled": True, "auth__root__password": PASSWORD}
    with Cluster(tmp_path_factory.mktemp("users"), 0, **SETTINGS, **more) as cluster:
        keys = []
        for name in ("eve", "ann"):
            user = {"username": name, "password": PASSWORD, "roles": ["readwrite"]}
            assert As(cluster.master, basic("root")).post("/auth/users", user).status == 200
            keys.append([As(cluster.master, basic(name)).key()[0] for _ in range(2)])
        greedy = [
            {**bearer(key), "X-Forwarded-For": f"192.0.2.{number}"}
            for number, key in enumerate(keys[0])
        ]
        yield Crowd(cluster.master, greedy, bearer(keys[1][0]))


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    with Cluster(tmp_path_factory.mktemp("addresses"), 0, **SETTINGS) as cluster:
        of_one_network = [{"X-Forwarded-For": f"2001:db8::{number}"} for number in (1, 2)]
        yield Crowd(cluster.master, of_one_network, {"X-Forwarded-For": "192.0.2.1"})


@pytest.fixture(params=["users", "addresses"])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    made: Crowd = request.getfixturevalue(request.param)
    return made


def opening(at: int) -> list[dict[str, Any]]:
    payloads = [{"client_id": str(at * 1000 + number)} for number in range(1000)]
    return [{"command": "transaction.multi", "payload": payload} for payload in payloads]


def watching(at: int) -> list[dict[str, Any]]:
    return [
        {
            "command": "transaction.watch",
            "payload": {
                "client_id": f"w{at}-{number}",
                "keys": [f"{at}-{number}-{key}-{'k' * 400}" for key in range(1000)],
            },
        }
        for number in range(20)
    ]


def queueing(at: int) -> list[dict[str, Any]]:
    multi = {"command": "transaction.multi", "payload": {"client_id": f"q{at}"}}
    payload = {"client_id": f"q{at}", "key": "k", "value": "v" * 100_000}
    return [multi, *[{"command": "kv.set", "payload": payload}] * 80]


@pytest.mark.parametrize("fill", [opening, queueing, watching])
def test_open_transactions_of_one_leave_room_for_another(
    crowd: Crowd, fill: Callable[[int], list[dict[str, Any]]]
) -> None:
    told: Counter[str] = Counter()
    for at in range(11):
        told += crowd.batch(crowd.greedy[at % 2], fill(at))
    refused = {error for error in told if "come to at most" in error}
    assert refused, told
    assert crowd.run(crowd.modest, "transaction.watch", client_id="a", keys=["k"]).status == 200
    assert crowd.run(crowd.modest, "transaction.multi", client_id="a").status == 200
    assert crowd.run(crowd.modest, "kv.set", client_id="a", key="k", value="v" * 100).status == 200
    done = crowd.run(crowd.modest, "transaction.exec", client_id="a").json()
    assert done["payload"]["success"], done


def test_refusal_for_a_share_is_429_and_names_the_limit(users: Crowd) -> None:
    for at in range(11):
        users.batch(users.greedy[0], opening(at))
    refused = users.run(users.greedy[1], "transaction.multi", client_id="one more")
    told = refused.json()
    assert (refused.status, told["reason"], told["retryable"]) == (429, "share_taken", True)
    assert re.search("at most (10000 in number|67108864 bytes)", told["error"]), told
    assert refused.headers["retry-after"] == "1"


def test_waiting_reads_of_one_leave_room_for_another(crowd: Crowd) -> None:
    wanted = CONNECTIONS // 2 + 5
    with ThreadPoolExecutor(wanted + 1) as threads:
        asked = [threads.submit(crowd.read, crowd.greedy[at % 2]) for at in range(wanted)]
        other = threads.submit(crowd.read, crowd.modest)
        answers = Counter(each.result() for each in asked)
    assert answers[429, "share_taken"] >= 5, answers
    assert answers[503, "not_caught_up"] <= CONNECTIONS // 2
    assert other.result() == (503, "not_caught_up")


def test_writes_of_one_that_wait_for_replicas_leave_room_for_another(crowd: Crowd) -> None:
    writes = [{"command": "kv.set", "payload": {"key": "k", "value": "v"}}] * 1000
    waiting = {"X-Synap-Min-Replicas": "1"}
    with ThreadPoolExecutor(12) as threads:
        asked = [
            threads.submit(crowd.batch, crowd.greedy[at % 2], writes, **waiting) for at in range(11)
        ]
        one = json.dumps({"key": "mine", "value": 1}).encode()
        headers = {**crowd.modest, **waiting, "Content-Type": "application/json"}
        other = threads.submit(crowd.node.request, "POST", "/kv/set", one, headers)
        told = sum((each.result() for each in asked), Counter())
    assert sum(count for error, count in told.items() if "come to at most" in error) >= 2000, told
    assert other.result().json()["reason"] == "quorum_timeout"
