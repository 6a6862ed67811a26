"""What the application says while its node is in a state that tests of whole nodes rarely meet."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from synap.config.keys import Config
from synap.shared.board import BoardView
from tests.integration.http_support import (
    error_of,
    make_config,
    make_generation,
    offset_of,
    open_board,
    replica_view,
    serving,
)
from tests.support import eventually

READS = ["/kv/get/a", "/kv/a/strlen", "/kv/a/ttl", "/kv/scan", "/kv/stats", "/key/randomkey"]
SECOND_NS = 1_000_000_000


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("SYNAP_RUN_DIR", str(tmp_path / "run"))
    return make_config(tmp_path, server__write_timeout_ms=200, replication__read_wait_ms=100)


@pytest.mark.parametrize("path", READS)
def test_read_before_the_owner_has_started_is_503_starting(config: Config, path: str) -> None:
    with open_board(config), serving(config) as client:
        assert error_of(client.get(path)) == (503, "starting", True)


@pytest.mark.parametrize("path", READS)
def test_read_before_the_first_sync_is_503_syncing_and_never_404(config: Config, path: str) -> None:
    make_generation(config, offset=0)
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(first_sync_done=False))
        assert error_of(client.get(path)) == (503, "syncing", True)
        board.publish(replica_view())
        assert client.get(path).status in (200, 404)


def test_write_at_a_replica_is_421_with_the_masters_address(config: Config) -> None:
    make_generation(config, offset=1, a="old")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view())
        for answer in (
            client.post("/kv/set", {"key": "a", "value": 1}),
            client.send("DELETE", "/kv/del/a"),
            client.post("/key/a/rename", {"destination": "b"}),
        ):
            assert error_of(answer) == (421, "read_only_replica", False)
            assert answer.json()["master"] == "http://master.example:15500"
            assert answer.headers["x-synap-master"] == "http://master.example:15500"
        assert client.read("a") == "old"


def test_write_at_a_replica_that_does_not_know_its_master_is_421_without_it(
    config: Config,
) -> None:
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(master_url=""))
        answer = client.post("/kv/incr", {"key": "a"})
        assert error_of(answer)[0] == 421
        assert answer.json()["master"] is None
        assert "x-synap-master" not in answer.headers


@pytest.mark.parametrize(
    "url",
    ["http://a:1\r\nX-Evil: 1", "http://a:1\nX-Evil: 1", "http://a:1\0", "http://\x1b[2J", "é"],
)
def test_masters_address_that_would_split_the_answer_is_in_its_body_alone(
    config: Config, url: str
) -> None:
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(master_url=url))
        for path in ("/kv/set", "/kv/set", "/kv/incr"):
            body = {"key": "a"} if path == "/kv/incr" else {"key": "a", "value": 1}
            answer = client.post(path, body)
            assert error_of(answer)[0] == 421
            assert answer.json()["master"] == url
            assert not {"x-synap-master", "x-evil"} & answer.headers.keys()


def test_read_at_a_replica_names_its_lag(config: Config) -> None:
    make_generation(config, offset=5, a="x")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view())
        answer = client.get("/kv/get/a")
        assert (answer.headers["x-synap-lag-ms"], offset_of(answer)) == ("0", 5)
        board.publish(replica_view(lag_since_ns=time.monotonic_ns() - 2 * SECOND_NS))
        assert 2000 <= int(client.get("/kv/get/none").headers["x-synap-lag-ms"]) < 20_000


def test_lag_grows_while_nothing_is_heard(config: Config) -> None:
    make_generation(config, offset=5, a="x")
    silent_since = time.monotonic_ns() - 10 * SECOND_NS
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(fresh_ns=silent_since, heartbeat_ns=SECOND_NS))
        assert int(client.get("/kv/get/a").headers["x-synap-lag-ms"]) >= 10_000


def test_min_offset_waits_until_it_is_applied(config: Config) -> None:
    make_generation(config, offset=5, a="old")
    patient = msgspec.structs.replace(config.replication, read_wait_ms=15_000)
    config = msgspec.structs.replace(config, replication=patient)
    with (
        open_board(config) as board,
        serving(config) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        board.publish(replica_view())
        # From here on the first generation is open, until the board names another one.
        assert client.get("/kv/get/a").json() == "old"
        asked = threads.submit(client.get, "/kv/get/a", {"X-Synap-Min-Offset": "6"})
        eventually(asked.running)
        generation = make_generation(config, offset=6, a="new")
        assert not asked.done()
        board.publish(replica_view(generation=generation))
        assert asked.result(15).json() == "new"


def test_new_generation_is_read_without_a_failed_request(config: Config) -> None:
    make_generation(config, offset=1, a="old")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view())
        assert client.read("a") == "old"
        generation = make_generation(config, offset=9, a="new")
        assert client.read("a") == "old"
        board.publish(replica_view(generation=generation))
        answer = client.get("/kv/get/a")
        assert (answer.json(), offset_of(answer)) == ("new", 9)
        assert client.get("/digest").json()["offset"] == 9


def test_generation_that_can_not_be_opened_leaves_the_old_one_readable(config: Config) -> None:
    make_generation(config, offset=1, a="old")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view())
        assert client.read("a") == "old"
        (Path(config.data_dir) / "store" / "CURRENT").write_text("00000007\n")
        board.publish(replica_view(generation=7))
        assert client.read("a") == "old"


def test_write_without_a_writer_is_503_within_the_timeout(config: Config) -> None:
    make_generation(config, offset=1, a="old")
    with open_board(config) as board, serving(config) as client:
        board.publish(BoardView(role="master", generation=1, tick_ns=time.monotonic_ns()))
        began = time.monotonic()
        answer = client.post("/kv/set", {"key": "a", "value": 1})
        assert error_of(answer) == (503, "writer_unavailable", True)
        assert time.monotonic() - began < 5
        assert client.read("a") == "old"
        command = {"command": "kv.set", "request_id": "r", "payload": {"key": "a", "value": 1}}
        answer = client.post("/api/v1/command", command)
        assert error_of(answer) == (503, "writer_unavailable", True)
        assert (
            answer.json().items() >= {"success": False, "request_id": "r", "payload": None}.items()
        )


def test_health_tells_why_the_node_can_not_serve(config: Config) -> None:
    make_generation(config, offset=1)
    with open_board(config) as board, serving(config) as client:
        answer = client.get("/health")
        assert (answer.status, answer.json()["reasons"]) == (503, ["starting"])
        board.publish(replica_view(first_sync_done=False))
        assert client.get("/health").json()["reasons"] == ["syncing"]
        board.publish(replica_view(tick_ns=time.monotonic_ns() - 60 * SECOND_NS))
        assert client.get("/health").json()["reasons"] == ["replica_silent"]
        board.publish(replica_view())
        assert client.get("/health").status == 200


def test_health_of_a_node_that_refuses_writes_says_why_and_stays_200(config: Config) -> None:
    make_generation(config, offset=1)
    view = BoardView(
        role="master", generation=1, tick_ns=time.monotonic_ns(), read_only="disk_full"
    )
    with open_board(config) as board, serving(config) as client:
        board.publish(view)
        answer = client.get("/health")
        assert (answer.status, answer.json()["read_only"]) == (200, "disk_full")


def test_replication_of_a_replica_tells_its_link(config: Config) -> None:
    make_generation(config, offset=5, a="x")
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view(epoch=2, history=b"h" * 16, master_offset=8))
        facts = client.get("/health/replication").json()
        assert facts["role"] == "replica"
        assert (facts["history"], facts["epoch"]) == ((b"h" * 16).hex(), 2)
        assert (facts["master_offset"], facts["local_offset"], facts["lag_entries"]) == (8, 5, 3)
        assert (facts["status"], facts["lag_ms"]) == ("in_sync", 0)


def test_application_without_a_store_opens_it_when_it_comes(config: Config) -> None:
    with open_board(config) as board, serving(config) as client:
        board.publish(replica_view())
        assert error_of(client.get("/kv/get/a"))[1] == "starting"
        make_generation(config, offset=1, a="x")
        eventually(lambda: client.get("/kv/get/a").status == 200)
