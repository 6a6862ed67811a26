"""Places in the log at a node whose owner, store and lineage are in a state that the test makes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from synap.auth.accounts import ApiKey, api_key_record, encode, id_of_record
from synap.auth.passwords import new_api_key
from synap.config.keys import Config
from synap.frame import ACCOUNTS, SET, Entry
from synap.node.paths import NodePaths
from synap.position import UNASKED, Position, Reign
from synap.store import Applied, Store
from tests.integration.http_support import (
    Client,
    error_of,
    make_config,
    make_generation,
    make_lineage,
    open_board,
    position_of,
    replica_view,
    serving,
)
from tests.support import Answer, eventually

A, B, C, D = (bytes([number] * 16) for number in (0xA, 0xB, 0xC, 0xD))
FIRST, SECOND, THIRD = Reign(1, A, 1), Reign(2, B, 6), Reign(3, C, 9)
TAGS = {A: "0a0a0a0a", B: "0b0b0b0b", C: "0c0c0c0c", D: "0d0d0d0d"}
LOST, BEHIND = (412, "position_lost", False), (503, "not_caught_up", True)
AHEAD_NS = 3_600_000_000_000


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    return make_config(tmp_path, replication__read_wait_ms=100)


def ask(client: Client, position: str) -> Answer:
    return client.get("/kv/get/a", {"X-Synap-Min-Position": position})


@pytest.mark.parametrize(
    ("position", "refused"),
    [
        ("0-00000000", None),
        ("5-0a0a0a0a", None),
        ("7-0b0b0b0b", None),
        ("8-0b0b0b0b", BEHIND),
        ("9-0c0c0c0c", BEHIND),
        ("6-0a0a0a0a", LOST),
        ("5-0b0b0b0b", LOST),
        ("7-0d0d0d0d", LOST),
    ],
)
@pytest.mark.parametrize("role", ["master", "replica"])
def test_position_is_reached_waited_for_or_lost(
    config: Config, role: str, position: str, refused: tuple[int, str, bool] | None
) -> None:
    make_lineage(config, FIRST, SECOND, THIRD)
    make_generation(config, 7, B, a="x")
    with open_board(config) as board, serving(config) as client:
        heard_ns = time.monotonic_ns() + AHEAD_NS
        board.publish(replica_view(role=role, history=C, last_contact_ns=heard_ns))
        answer = ask(client, position)
        if refused is None:
            assert (answer.json(), position_of(answer)) == ("x", "7-0b0b0b0b")
        else:
            assert error_of(answer) == refused
            assert position in answer.json()["error"]


@pytest.mark.parametrize(
    "facts",
    [
        {"status": "disconnected"},
        {"status": "catching_up"},
        {"status": "diverged"},
        {"last_contact_ns": 1},
        {"role": "master", "read_only": "stale_epoch"},
        {"role": "master", "read_only": "writes_paused"},
    ],
)
def test_reign_that_the_node_may_only_not_have_heard_of_is_not_lost(
    config: Config, facts: dict[str, object]
) -> None:
    make_lineage(config, FIRST)
    make_generation(config, 5, A, a="x")
    with open_board(config) as board, serving(config) as client:
        heard_ns = time.monotonic_ns() + AHEAD_NS
        board.publish(replica_view(**{"history": A, "last_contact_ns": heard_ns, **facts}))
        assert error_of(ask(client, "6-0b0b0b0b")) == BEHIND


def test_position_in_a_reign_that_the_node_hears_of_meanwhile_is_waited_for(config: Config) -> None:
    patient = msgspec.structs.replace(config.replication, read_wait_ms=15_000)
    config = msgspec.structs.replace(config, replication=patient)
    make_lineage(config, FIRST)
    make_generation(config, 5, A, a="old")
    with (
        open_board(config) as board,
        serving(config) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        board.publish(replica_view(history=A))
        assert client.read("a") == "old"
        asked = threads.submit(ask, client, "6-0b0b0b0b")
        eventually(asked.running)
        make_lineage(config, FIRST, SECOND)
        board.publish(replica_view(history=B))
        generation = make_generation(config, 6, B, a="new")
        assert not asked.done()
        board.publish(replica_view(history=B, generation=generation))
        answer = asked.result(15)
        assert (answer.json(), position_of(answer)) == ("new", "6-0b0b0b0b")


def test_store_that_a_resync_has_not_replaced_yet_names_its_own_reign(config: Config) -> None:
    make_lineage(config, FIRST)
    make_generation(config, 7, A, a="old")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(history=A))
        assert position_of(client.get("/kv/get/a")) == "7-0a0a0a0a"
        make_lineage(config, FIRST, SECOND)
        board.publish(replica_view(history=B))
        assert position_of(client.get("/kv/get/a")) == "7-0a0a0a0a"
        assert error_of(ask(client, "7-0b0b0b0b")) == BEHIND
        assert ask(client, "7-0a0a0a0a").json() == "old"
        generation = make_generation(config, 7, B, a="new")
        board.publish(replica_view(history=B, generation=generation))
        assert position_of(client.get("/kv/get/a")) == "7-0b0b0b0b"
        assert error_of(ask(client, "7-0a0a0a0a")) == LOST
        assert ask(client, "7-0b0b0b0b").json() == "new"


def test_entry_that_a_power_cut_took_is_none_of_the_reign_after_the_next_one(
    config: Config,
) -> None:
    """Two reigns that nobody asked for, one after the other, wrote entry 6."""
    first, second = (Reign(n, UNASKED + bytes([n] * 12), 6) for n in (2, 3))
    make_lineage(config, FIRST, second)
    make_generation(config, 6, second.history, a="x")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(role="master", history=second.history))
        assert position_of(client.get("/kv/get/a")) == "6-03030303"
        assert error_of(ask(client, "6-02020202")) == LOST
        assert first.history != second.history


def test_node_whose_lineage_is_unknown_names_no_reign_and_reaches_nothing(config: Config) -> None:
    make_generation(config, 7, A, a="x")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(history=A, status="disconnected"))
        answer = client.get("/kv/get/a")
        assert (answer.json(), position_of(answer)) == ("x", "7-00000000")
        assert client.get("/kv/get/a", {"If-None-Match": answer.headers["etag"]}).status == 200
        assert error_of(ask(client, "7-00000000")) == BEHIND
        make_lineage(config, FIRST)
        board.publish(replica_view(history=A))
        assert position_of(client.get("/kv/get/a")) == "7-0a0a0a0a"


@pytest.mark.parametrize("text", ["", "7", "7-", "7-0A0A0A0A", '"7-0a0a0a0a"', "-1-0a0a0a0a", "é"])
def test_min_position_that_is_none_is_400_that_shows_one(config: Config, text: str) -> None:
    make_generation(config, 7, a="x")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view())
        answer = ask(client, text)
        assert error_of(answer) == (400, "invalid_request", False)
        assert '"1042-9f2c11aa"' in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["/kv/scan", "/kv/stats", "/key/randomkey", "/digest", "/auth/users"]
)
def test_every_read_waits_for_a_position_and_names_its_own(config: Config, path: str) -> None:
    make_lineage(config, FIRST)
    make_generation(config, 5, A, a="x")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(role="master", history=A))
        assert position_of(client.get(path)) == "5-0a0a0a0a"
        refused = client.get(path, {"X-Synap-Min-Position": "6-0b0b0b0b"})
        assert error_of(refused) == LOST


def make_key_generation(config: Config, history: bytes, record: bytes, key: ApiKey) -> int:
    """Make a generation in which entry 7 is an API key; return its number."""
    store = Store.create(NodePaths.of(config).store_dir, 64 * 1024 * 1024)
    transaction = store.begin()
    transaction.apply([Entry(SET, record, encode(key), space=ACCOUNTS)], 7)
    transaction.set_applied(Applied(Position(1, 7, 0), 1, 0, 0, history))
    transaction.commit()
    generation = store.generation
    store.close(clean=True)
    return generation


def test_key_that_another_reign_wrote_at_the_same_offset_may_what_that_one_says(
    config: Config,
) -> None:
    auth = msgspec.structs.replace(config.auth, enabled=True)
    config = msgspec.structs.replace(config, auth=auth)
    make_lineage(config, FIRST)
    text = new_api_key()
    record = api_key_record(text)
    mighty = ApiKey(id=id_of_record(record), name="k", owner=auth.root.username, owner_id="")
    weak = msgspec.structs.replace(mighty, permissions=())
    make_key_generation(config, A, record, mighty)
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(history=A))
        assert client.get("/kv/scan", {"X-API-Key": text}).status == 200
        assert client.get("/digest", {"X-API-Key": text}).status == 200
        make_lineage(config, FIRST, SECOND)
        generation = make_key_generation(config, B, record, weak)
        board.publish(replica_view(history=B, generation=generation))
        assert client.get("/digest", {"X-API-Key": text}).status == 403
