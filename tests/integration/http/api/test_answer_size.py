"""How much one answer may hold: no request makes the worker build more than it is allowed to."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.http_support import Client, error_of
from tests.support import Answer, Node, descendants_of

PASSWORD = "correct horse"
ROOT = {"Authorization": "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()}
JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024
VALUE_BYTES = 4 * MIB
# An eighth of the worker's memory.
MOST_BYTES = 8 * MIB


class Asked:
    """A node with one large value, and who asks it: its root user, and one who may read nothing."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.client = Client(node.port)
        keys = [self.make_key({"name": "all"}), None]
        self.everything = {"X-API-Key": str(keys[0])}
        self.nothing = {
            "X-API-Key": self.make_key(
                {"name": "none", "permissions": [{"resource": "kv:other", "action": "read"}]}
            )
        }

    def make_key(self, body: dict[str, Any]) -> str:
        answer = self.post("/auth/keys", body, ROOT)
        made: str = answer.json()["key"]["key"]
        return made

    def post(self, path: str, body: object, who: dict[str, str]) -> Answer:
        return self.client.send("POST", path, json.dumps(body).encode(), {**who, **JSON})

    def peak_mib(self) -> int:
        """Return the most that one process of the node had in memory since the last call."""
        peaks = []
        for pid in descendants_of(self.node.pid):
            with open(f"/proc/{pid}/status") as status:
                peaks += [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
            with open(f"/proc/{pid}/clear_refs", "w") as clear:
                clear.write("5")
        return max(peaks) // 1024


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    settings = {
        "server.worker_memory_mb": 64,
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
        "kv_store.max_value_size_bytes": VALUE_BYTES,
        "persistence.snapshot.enabled": False,
    }
    with Node(tmp_path_factory.mktemp("answers"), "answers", settings) as node:
        asked = Asked(node)
        body = {"key": "large", "value": "x" * VALUE_BYTES}
        assert asked.post("/kv/set", body, asked.everything).status == 200
        asked.peak_mib()
        yield asked


def test_mget_of_a_large_value_many_times_is_413_and_takes_no_memory(asked: Asked) -> None:
    before = asked.peak_mib()
    answer = asked.post("/kv/mget", {"keys": ["large"] * 100}, asked.everything)
    assert error_of(answer) == (413, "answer_too_large", False)
    assert asked.peak_mib() < before + 3 * MOST_BYTES // MIB


def test_mget_of_who_may_not_read_touches_nothing(asked: Asked) -> None:
    before = asked.peak_mib()
    answer = asked.post("/kv/mget", {"keys": ["large"] * 100}, asked.nothing)
    assert answer.json() == {"values": [None] * 100}
    assert asked.peak_mib() < before + 3


def test_mget_of_what_fits_is_answered_in_order(asked: Asked) -> None:
    asked.post("/kv/set", {"key": "small", "value": "s"}, asked.everything)
    keys = ["small", "large", "none", "small"]
    values = asked.post("/kv/mget", {"keys": keys}, asked.everything).json()["values"]
    assert [value and len(value) for value in values] == [1, VALUE_BYTES, None, 1]


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("kv.get", {"key": "large"}),
        ("kv.get", {"key": "large", "type": "bytes"}),
        ("kv.mget", {"keys": ["large"]}),
        ("kv.getset", {"key": "swapped", "value": "y" * MIB}),
        ("kv.set", {"key": "swapped", "value": "y" * MIB, "get": True}),
    ],
)
def test_batch_ends_where_its_answer_is_too_large(
    asked: Asked, command: str, payload: dict[str, Any]
) -> None:
    count = 9 if "value" in payload else 100
    commands = [{"command": command, "payload": payload}] * count
    commands += [{"command": "kv.set", "payload": {"key": "last", "value": 1}}]
    answer = asked.post(
        "/api/v1/command", {"type": "batch", "commands": commands}, asked.everything
    )
    results = answer.json()["results"]
    assert answer.status == 200
    assert len(answer.body) < 4 * MOST_BYTES
    if "value" not in payload:
        assert results[0]["success"]
        assert not results[-2]["success"]
        assert "too large" in results[-1]["error"]


def test_login_takes_no_long_body(asked: Asked) -> None:
    body = {"username": "ann", "password": "x" * 5000}
    assert error_of(asked.post("/auth/login", body, {}))[:2] == (413, "payload_too_large")
    assert asked.post("/auth/login", {"username": "ann", "password": "x" * 100}, {}).status == 401
