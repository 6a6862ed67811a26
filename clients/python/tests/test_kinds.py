"""What a request is."""

from __future__ import annotations

import json

import pytest
from synap_client.rules.kinds import COMMAND_PATH, Way, kind_of


def way(method: str, path: str, **headers: str) -> Way:
    return kind_of(method, path, headers, b"").way


def command(name: str, **payload: object) -> dict[str, object]:
    return {"command": name, "payload": payload}


def batch(*commands: object) -> dict[str, object]:
    return {"type": "batch", "commands": list(commands)}


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/kv/get/a", Way.READ),
        ("HEAD", "/raw/a", Way.READ),
        ("POST", "/kv/mget", Way.READ),
        ("GET", "/idempotency/k", Way.READ),
        ("GET", "/health", Way.NODE),
        ("GET", "/watch", Way.NODE),
        ("POST", "/auth/login", Way.NODE),
        ("POST", "/kv/set", Way.WRITE),
        ("DELETE", "/kv/del/a", Way.WRITE),
        ("PUT", "/raw/replication/promote", Way.WRITE),
        ("POST", "/kv/txn", Way.WRITE),
        ("POST", "/auth/users", Way.WRITE),
        ("POST", "/replication/promote", Way.ONE_NODE),
        ("POST", "/snapshot", Way.ONE_NODE),
    ],
)
def test_path_says_who_answers(method: str, path: str, wanted: Way) -> None:
    assert way(method, path) is wanted


def test_only_writes_of_keys_take_a_key() -> None:
    assert kind_of("POST", "/kv/incr", {}, b"").takes_key
    assert not kind_of("POST", "/auth/users", {}, b"").takes_key
    assert not kind_of("POST", "/auth/users", {}, b"").is_repeatable
    assert kind_of("GET", "/kv/get/a", {}, b"").is_repeatable


def test_read_of_what_replicas_hold_needs_the_master() -> None:
    assert kind_of("GET", "/kv/get/a", {"x-synap-min-replicas": "1"}, b"").needs_master
    assert not kind_of("GET", "/kv/get/a", {"x-synap-min-replicas": "0"}, b"").needs_master


def test_strong_read_needs_the_master_and_is_of_keys() -> None:
    strong = kind_of("GET", "/kv/get/a", {"x-synap-consistency": "strong"}, b"")
    assert (strong.needs_master, strong.is_read_of_data) == (True, True)
    assert not kind_of("GET", "/auth/me", {}, b"").is_read_of_data
    assert not kind_of("POST", "/kv/set", {}, b"").is_read_of_data


def test_watch_is_handed_on_as_it_comes_where_it_is_no_long_poll() -> None:
    assert kind_of("GET", "/watch", {"accept": "application/x-ndjson"}, b"").is_stream
    assert not kind_of("GET", "/watch", {"accept": "application/json"}, b"").is_stream


@pytest.mark.parametrize(
    ("asked", "wanted", "takes_key"),
    [
        (command("kv.get", key="a"), Way.READ, False),
        (command("info"), Way.NODE, False),
        (command("kv.set", key="a", value=1), Way.WRITE, True),
        (command("kv.incr", key="a", client_id=""), Way.WRITE, True),
        (command("kv.incr", key="a", client_id="t"), Way.WRITE, False),
        (command("kv.append", key="a", client_id="t"), Way.WRITE, True),
        (command("transaction.multi", client_id="t"), Way.WRITE, False),
        (command("transaction.exec", client_id="t"), Way.WRITE, True),
        (batch(command("kv.get"), command("kv.mget")), Way.READ, False),
        (batch(command("kv.get"), command("kv.incr")), Way.WRITE, True),
        (batch(command("kv.set"), command("kv.incr", client_id="t")), Way.WRITE, False),
        (batch(1, None, command("kv.get")), Way.READ, False),
        ({"type": "batch", "commands": "none"}, Way.NODE, False),
        ({"command": 7}, Way.NODE, False),
        (["no", "object"], Way.NODE, False),
    ],
)
def test_command_says_who_answers(asked: object, wanted: Way, takes_key: bool) -> None:
    kind = kind_of("POST", COMMAND_PATH, {}, json.dumps(asked).encode())
    assert (kind.way, kind.takes_key, kind.is_command) == (wanted, takes_key, True)


def test_command_that_does_not_parse_is_for_any_node_to_refuse() -> None:
    assert kind_of("POST", COMMAND_PATH, {}, b"{").way is Way.NODE
