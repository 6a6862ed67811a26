"""The load balancers' endpoints, from the board alone: there is no store behind any of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from synap.shared.board import Board, BoardView
from tests.integration.http_support import Client, make_config, open_board, serving

SECOND_NS = 1_000_000_000
MASTER = BoardView(role="master", owner_pid=1, epoch=1, first_sync_done=True)
REPLICA = BoardView(
    role="replica", status="in_sync", owner_pid=1, epoch=1, heartbeat_ns=SECOND_NS,
    applied_offset=90, master_offset=100, first_sync_done=True,
)  # fmt: skip


class Desk:
    """A board to write on, and the application that reads it."""

    def __init__(self, board: Board, client: Client) -> None:
        self._board = board
        self._client = client

    def show(self, view: BoardView, **changes: Any) -> None:
        """Publish a view of an owner that is alive and hears its master."""
        now_ns = time.monotonic_ns()
        alive = {"tick_ns": now_ns, "last_contact_ns": now_ns, "fresh_ns": now_ns}
        self._board.publish(msgspec.structs.replace(view, **{**alive, **changes}))

    def ask(self, path: str) -> tuple[int, list[str]]:
        answer = self._client.get(path)
        body = answer.json()
        assert body["ok"] == (answer.status == 200)
        return answer.status, body["reasons"]

    def get(self, path: str) -> Any:
        return self._client.get(path).json()

    def statuses(self) -> dict[str, int]:
        """Return what each endpoint answers, to GET and HEAD alike."""
        found = {}
        for word in ("liveness", "readiness", "primary", "replica", "read-only"):
            status = self._client.get(f"/{word}").status
            assert self._client.send("HEAD", f"/{word}").status == status
            found[word] = status
        return found


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    config = make_config(
        tmp_path_factory.mktemp("balancing"),
        replication__role="replica",
        replication__master_address="127.0.0.1:1",
    )
    with open_board(config) as board, serving(config) as client:
        yield Desk(board, client)


def expected(**fit: bool) -> dict[str, int]:
    """Return the statuses; `live` and `ready` are true where they are not given."""
    words = {"live": "liveness", "ready": "readiness", "read_only": "read-only"}
    given = {"live": True, "ready": True, "primary": False, "replica": False, "read_only": False}
    return {words.get(name, name): 200 if is_fit else 503 for name, is_fit in (given | fit).items()}


@pytest.mark.parametrize("role", ["master", "standalone"])
def test_node_that_takes_writes_is_primary_and_serves_reads(hooks: Desk, role: str) -> None:
    hooks.show(MASTER, role=role)
    assert hooks.statuses() == expected(primary=True, read_only=True)


def test_replica_in_sync_is_replica_and_serves_reads(hooks: Desk) -> None:
    hooks.show(REPLICA)
    assert hooks.statuses() == expected(replica=True, read_only=True)


def test_node_before_its_owner_started_is_alive_and_nothing_else(hooks: Desk) -> None:
    hooks.show(BoardView())
    assert hooks.statuses() == expected(ready=False)


def test_replica_before_its_first_sync_serves_nothing(hooks: Desk) -> None:
    hooks.show(REPLICA, first_sync_done=False, status="syncing")
    assert hooks.statuses() == expected(ready=False)
    assert hooks.ask("/replica") == (503, ["syncing"])


@pytest.mark.parametrize("view", [MASTER, REPLICA])
def test_node_whose_owner_is_silent_is_not_alive(hooks: Desk, view: BoardView) -> None:
    hooks.show(view, tick_ns=time.monotonic_ns() - 6 * SECOND_NS)
    assert hooks.statuses() == expected(live=False, ready=False)


def test_diverged_replica_serves_no_balancer(hooks: Desk) -> None:
    hooks.show(REPLICA, status="diverged")
    assert hooks.statuses() == expected(ready=False)


def test_master_whose_reign_ended_is_not_primary(hooks: Desk) -> None:
    hooks.show(MASTER, read_only="stale_epoch")
    assert hooks.statuses() == expected(read_only=True)


def test_master_that_can_acknowledge_no_write_is_not_primary_and_says_so(hooks: Desk) -> None:
    hooks.show(MASTER, has_quorum=False)
    assert hooks.statuses() == expected(read_only=True)
    assert hooks.ask("/primary") == (503, ["no_quorum"])
    assert hooks.get("/health")["acknowledges_no_writes"] == "no_quorum"
    assert hooks.get("/health/replication")["acknowledges_no_writes"] == "no_quorum"
    assert hooks.get("/cluster")["members"][0]["state"] == "no_quorum"


@pytest.mark.parametrize("reason", ["disk_full", "memory_limit"])
def test_master_without_room_stays_primary(hooks: Desk, reason: str) -> None:
    hooks.show(MASTER, read_only=reason)
    assert hooks.statuses() == expected(primary=True, read_only=True)


@pytest.mark.parametrize("word", ["replica", "read-only"])
def test_replica_that_lags_over_the_limit_is_left_out(hooks: Desk, word: str) -> None:
    hooks.show(REPLICA, lag_since_ns=time.monotonic_ns() - 2 * SECOND_NS)
    assert hooks.ask(f"/{word}") == (200, [])
    assert hooks.ask(f"/{word}?max_lag_ms=1000") == (503, ["lag_ms"])
    assert hooks.ask(f"/{word}?max_lag_ms=60000&max_lag_entries=10") == (200, [])
    assert hooks.ask(f"/{word}?max_lag_ms=60000&max_lag_entries=9") == (503, ["lag_entries"])
    assert hooks.ask(f"/{word}?max_lag_ms=0&max_lag_entries=9") == (503, ["lag_ms", "lag_entries"])


def test_replica_that_hears_nothing_lags_after_the_configured_time(hooks: Desk) -> None:
    hooks.show(REPLICA, status="disconnected", fresh_ns=time.monotonic_ns() - 9 * SECOND_NS)
    assert hooks.ask("/replica")[0] == 200
    hooks.show(REPLICA, status="disconnected", fresh_ns=time.monotonic_ns() - 11 * SECOND_NS)
    assert hooks.ask("/replica") == (503, ["lag_ms"])


def test_replica_that_never_heard_its_master_is_fit_for_nothing(hooks: Desk) -> None:
    hooks.show(REPLICA, status="connecting", last_contact_ns=0, fresh_ns=0)
    assert hooks.ask("/replica?max_lag_ms=600000") == (503, ["lag_ms"])
    assert hooks.ask("/read-only") == (503, ["lag_ms"])


@pytest.mark.parametrize("value", ["-1", "x", ""])
def test_limit_that_is_no_number_is_400(hooks: Desk, value: str) -> None:
    hooks.show(REPLICA)
    answer = hooks._client.get(f"/replica?max_lag_ms={value}")
    assert (answer.status, answer.json()["reason"]) == (400, "invalid_request")


def test_verbose_readiness_names_each_check(hooks: Desk) -> None:
    hooks.show(REPLICA, first_sync_done=False)
    assert hooks._client.get("/readiness?verbose").json()["checks"] == {
        "accepting": "ok", "store": "syncing", "log_owner": "ok", "replication": "ok",
    }  # fmt: skip
